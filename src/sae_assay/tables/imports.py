"""Scores that others computed, as rows of the score table: whole files or none, each accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from sae_assay.errors import AssayError
from sae_assay.tables import saebench, scores

_MERGED = ("arch", "target_l0", "training_seed", "step", "tokens")


@dataclass
class Source:
    """One file: its rows, or why it has none.

    Attributes:
        rows: all its scores, with the SAE's columns as this file gives them; None where it is skipped.
    """

    path: str
    sha256: str
    about: dict[str, Any]
    rows: pl.DataFrame | None = None
    problem: str | None = None

    def skip(self, problem: str) -> None:
        self.rows, self.problem = None, problem

    def entry(self) -> dict[str, Any]:
        """For the import's account."""
        status = "skipped" if self.rows is None else "imported"
        count = 0 if self.rows is None else self.rows.height
        return {
            "file": self.path,
            "sha256": self.sha256,
            "status": status,
            "rows": count,
            "problem": self.problem,
            **self.about,
        }


def read(
    paths: Iterable[str | Path],
    names: tuple[str, str],
    options: saebench.Options,
    watched: Callable[[list[Any]], Iterable[Any]] = iter,
) -> list[Source]:
    """Read result files and settle what several of them hold.

    Args:
        paths: JSON files and folders; of two files with equal scores the first by name is kept.
        names: study and substrate.
        watched: wraps the list of files, as progress bars do.
    """
    pairs = list(saebench.files_in(paths).items())
    found = [_read_one(path, root, names, options) for path, root in watched(pairs)]
    _agree_on_saes(found)
    _settle_repeats(found)
    return found


def table(found: Sequence[Source]) -> pl.DataFrame:
    """All rows of the files that are not skipped, checked and sorted.

    Raises:
        AssayError: there is none, with the first file's problem.
    """
    parts = [source.rows for source in found if source.rows is not None]
    if not parts:
        first = f"{found[0].path}: {found[0].problem}" if found else "there is no JSON file"
        raise AssayError(
            "import", f"none of {len(found)} files can be imported; {first}", "name SAEBench's result files"
        )
    return scores.check(pl.concat(parts), "imported scores").sort(scores.KEY, nulls_last=False)


def _read_one(path: Path, root: Path, names: tuple[str, str], options: saebench.Options) -> Source:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AssayError(str(path), f"cannot be read ({error})", "correct the path") from None
    source = Source(path.as_posix(), hashlib.sha256(content).hexdigest(), {})
    try:
        below = PurePosixPath(root.resolve().name, path.relative_to(root).as_posix())
        result = saebench.read(content, below, options)
        source.about = {
            "evaluation": result.evaluation,
            "sae_id": result.sae["sae_id"],
            "eval_seed": result.seed,
            "why_no_seed": result.why_no_seed,
            **result.about,
        }
        source.rows = scores.check(_frame(result, names), "its scores")
    except saebench.Unusable as error:
        source.problem = str(error)
    except AssayError as error:
        source.problem = error.problem
    return source


def _frame(result: saebench.Result, names: tuple[str, str]) -> pl.DataFrame:
    """Rows with the file's own float64 values."""
    shared: dict[str, Any] = {
        "study": names[0],
        "substrate": names[1],
        "variant": None,
        "control": None,
        "base_sae_id": None,
    }
    shared |= {"eval_seed": result.seed, **result.sae}
    rows = [{**shared, **one, "reason": one["reason"] or result.why_no_seed} for one in result.records]
    return pl.DataFrame(rows, schema=scores.SCHEMA)


def _agree_on_saes(found: list[Source]) -> None:
    """One description an SAE: what one file leaves out another may say; one that contradicts those before it is skipped."""
    known: dict[str, dict[str, Any]] = {}
    for source in found:
        if source.rows is None:
            continue
        own = source.rows.select("sae_id", *_MERGED).row(0, named=True)
        merged = known.get(own["sae_id"], own)
        torn = [c for c in _MERGED if None not in (own[c], merged[c]) and own[c] != merged[c]]
        if torn:
            source.skip(f"gives {own['sae_id']} the {torn[0]} {own[torn[0]]}, other files {merged[torn[0]]}")
        else:
            known[own["sae_id"]] = {c: own[c] if merged[c] is None else merged[c] for c in own}
    for source in found:
        if source.rows is not None:
            described = known[source.rows["sae_id"][0]]
            source.rows = source.rows.with_columns(**{c: pl.lit(described[c], dtype=scores.SCHEMA[c]) for c in _MERGED})


def _settle_repeats(found: list[Source]) -> None:
    """Of files with equal scores the first is kept; where they differ nothing says which is right, and none is."""
    parts = [s.rows.with_columns(file=pl.lit(i)) for i, s in enumerate(found) if s.rows is not None]
    if not parts:
        return
    same = pl.struct(scores.KEY)
    shared = pl.concat(parts).filter(same.is_duplicated())
    for _, rows in sorted(shared.group_by("sae_id", "metric", "eval_seed"), key=lambda one: str(one[0])):
        _settle(found, rows)


def _settle(found: list[Source], rows: pl.DataFrame) -> None:
    cells = rows.group_by(scores.KEY).agg(
        pl.col("file").sort(), differs=(pl.col("value").n_unique() > 1) | (pl.col("status").n_unique() > 1)
    )
    torn = sorted({file for files in cells.filter("differs")["file"] for file in files})
    for file in torn:
        other = next(found[i].path for i in torn if i != file)
        found[file].skip(f"holds other scores than {other} for the same SAE, metric and seed")
    for files in sorted(cells.filter(~pl.col("differs"))["file"].to_list()):
        kept = [file for file in files if found[file].rows is not None]
        for file in kept[1:]:
            found[file].skip(f"repeats scores of {found[kept[0]].path}")
