"""Sections that declare scores which others computed."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field, field_validator

from sae_assay.study.base import PositiveInt, Strict, no_repeats


class ImportedScores(Strict):
    """SAEBench's result files (JSON), audited as they are; the section's name is their substrate's.

    `paths` are folders or files of the project; below a folder, paths name SAEs that files do not name. Snapshots that have
    seen `training_tokens` are finished SAEs (None: none is). A file without a seed takes it from a folder `seed_42` above it
    where `seeds_from_folders`, else its seed is unknown.
    """

    paths: Annotated[list[str], Field(min_length=1)]
    training_tokens: PositiveInt | None = None
    seeds_from_folders: bool = False

    @field_validator("paths")
    @classmethod
    def _inside(cls, paths: list[str]) -> list[str]:
        for path in paths:
            if path.startswith("/") or ".." in PurePosixPath(path).parts or path in ("", "."):
                raise ValueError(
                    f"{path} is no folder or file of the project: copy it there, to data/imported/NAME say"
                )
        no_repeats(paths, "paths")
        return [path.rstrip("/") for path in paths]
