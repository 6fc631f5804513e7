"""Sections that put metrics of the real SAEBench on trial (envs/saebench), each at SAEBench's own defaults."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from sae_assay.modes import LibraryMode
from sae_assay.study.base import PositiveInt, Strict, no_repeats

TEST_SHARE = 0.2
"""Of a class's rows, those that the library is given to test on."""
Environment = Annotated[str, Field(pattern=r"^envs/saebench(-[A-Za-z0-9][A-Za-z0-9._-]*)?$")]


def held_out(rows: int) -> int:
    """Rows to test on, of a class with so many."""
    return round(TEST_SHARE * rows)


class Library(Strict):
    """Every metric of SAEBench: how it is seeded, and which version's environment runs it.

    Attributes:
        modes: `library` is SAEBench as it is; `reseeded` also moves what its seed leaves alone (docs/saebench.md).
        environment: a folder with pyproject.toml, uv.lock and run.py.
        context: tokens of a prompt, from its beginning.
        llm_batch_size: prompts that the model reads at a time.
    """

    hyper_parameter: ClassVar[str | None] = None
    modes: Annotated[list[LibraryMode], Field(min_length=1)] = ["library"]
    environment: Environment = "envs/saebench"
    context: PositiveInt = 128
    llm_batch_size: PositiveInt = 32

    @model_validator(mode="after")
    def _check(self) -> Library:
        no_repeats(list(self.modes), "modes")
        return self


class LibraryProbing(Library):
    """Sparse probing; `train_rows` and `test_rows` of a task, half of them of each class; `datasets`: some of the substrates'
    lm.probe_datasets, where all would cost too much."""

    optional: ClassVar = ("datasets",)
    hyper_parameter: ClassVar[str | None] = "k_probe"
    k_probe: Annotated[list[PositiveInt], Field(min_length=1)]
    datasets: Annotated[list[str], Field(min_length=1)] | None = None
    train_rows: PositiveInt = 4000
    test_rows: PositiveInt = 1000


class LibraryAblations(Library):
    """TPP or SCR; `train_rows` and `test_rows` of a probe, half of them of each of its classes."""

    hyper_parameter: ClassVar[str | None] = "n"
    n: Annotated[list[PositiveInt], Field(min_length=1)]
    train_rows: PositiveInt = 4000
    test_rows: PositiveInt = 1000


class LibraryCore(Library):
    """Reconstruction, sparsity and loss recovered, on batches of the substrate's text."""

    prompts_per_batch: PositiveInt = 16
    reconstruction_batches: PositiveInt = 10
    sparsity_batches: PositiveInt = 1


class LibraryAbsorption(Library):
    """First-letter absorption; `words` of the vocabulary instead of all of it, for small machines."""

    words: PositiveInt | None = None
    min_letters: PositiveInt = 20
    min_probe_f1: Annotated[float, Field(ge=0, le=1)] = 0.6
    prompt_token_pos: Annotated[int, Field(lt=0)] = -6
    k_max: PositiveInt = 10
