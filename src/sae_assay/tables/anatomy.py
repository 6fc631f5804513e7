"""From a noise anatomy's score files to its tables: `anatomy`, the scores, and `points`, what was reseeded where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sae_assay import anatomy
from sae_assay.errors import AssayError
from sae_assay.tables import scores

_COLUMNS: dict[str, pl.DataType] = {
    "substrate": pl.String(),
    "eval_seed": pl.Int64(),
    "block": pl.Int64(),
    "step": pl.Int64(),
    "moved": pl.String(),
    "resample": pl.Int64(),
}
POINTS = pl.Schema(_COLUMNS | {source: pl.Int64() for source in anatomy.SOURCES})
"""A row a point; `moved` is what differs from the point before, sources hold their level (null: never reseeded)."""


def collect(paths: Iterable[str | Path], designs: Sequence[dict[str, Any]]) -> dict[str, pl.DataFrame]:
    """Read the score files of a noise anatomy; see `tables`.

    Raises:
        AssayError: a file is missing, damaged or breaks the schema.
    """
    rows = [scores.read(path).with_columns(source=pl.lit(path)) for path in sorted(map(str, paths))]
    return tables(pl.concat(rows), designs)


def tables(rows: pl.DataFrame, designs: Sequence[dict[str, Any]]) -> dict[str, pl.DataFrame]:
    """The tables `anatomy` and `points`, each sorted by its key.

    Args:
        rows: scores, with `source`; `eval_seed` is a point's number.
        designs: per substrate `substrate`, `sources`, `blocks`, `resamples`.

    Raises:
        AssayError: a row breaks the schema, or an SAE was not scored at every point, or at others.
    """
    table = scores.check(rows, "anatomy").sort(scores.KEY)
    wanted = points(designs)
    found = table.select("substrate", "sae_id", "eval_seed").unique()
    each = table.select("substrate", "sae_id").unique().join(wanted.select("substrate", "eval_seed"), on="substrate")
    for torn, problem in (
        (each.join(found, on=each.columns, how="anti"), "lacks the score of"),
        (found.join(each, on=found.columns, how="anti"), "has a score at no point of the design, of"),
    ):
        if torn.height:
            substrate, sae, point = torn.select("substrate", "sae_id", "eval_seed").sort(pl.all()).row(0)
            raise AssayError("anatomy", f"{problem} {sae} on {substrate} at point {point}", "run the workflow again")
    return {"anatomy": table, "points": wanted}


def points(designs: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The table of points, sorted by substrate and number."""
    rows = [
        (
            *(design["substrate"], point.number, point.block, point.step, point.moved, point.resample),
            *(point.levels.get(source) for source in anatomy.SOURCES),
        )
        for design in designs
        for number in range(design["blocks"])
        for point in anatomy.block(number, design["sources"], design["resamples"])
    ]
    return pl.DataFrame(rows, schema=POINTS, orient="row").sort("substrate", "eval_seed")


def nothing() -> dict[str, pl.DataFrame]:
    """The tables of a study without a noise anatomy."""
    return {"anatomy": pl.DataFrame(schema=scores.TABLE_SCHEMA), "points": pl.DataFrame(schema=POINTS)}
