"""From score files to the study's tables: scores, repeats, saes, tasks, coverage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sae_assay.errors import AssayError
from sae_assay.tables import scores

REPEAT_PREFIX = "repeat_"
COVERAGE_KEY = ("substrate", "panel", "sae_id", "metric", "eval_seed")
TASK_KEY = ("substrate", "metric", "task")


def collect(paths: Iterable[str | Path], planned: Sequence[dict[str, Any]] | None = None) -> dict[str, pl.DataFrame]:
    """Read score files into the study's tables.

    Args:
        paths: score files. Those whose name begins with `repeat_` hold a second scoring at one evaluation seed.
        planned: see `tables`.

    Raises:
        AssayError: a file is missing, damaged or breaks the schema, or two files hold the same score.
    """
    first: list[pl.DataFrame] = []
    second: list[pl.DataFrame] = []
    for path in sorted({str(p) for p in paths}):
        rows = scores.read(path).with_columns(source=pl.lit(path))
        (second if Path(path).name.startswith(REPEAT_PREFIX) else first).append(rows)
    if not first:
        raise AssayError("score table", "there is no score file to collect", "run the scoring jobs first")
    empty = pl.DataFrame(schema=scores.TABLE_SCHEMA)
    return tables(pl.concat(first), pl.concat([empty, *second]), planned)


def tables(
    rows: pl.DataFrame, repeats: pl.DataFrame, planned: Sequence[dict[str, Any]] | None
) -> dict[str, pl.DataFrame]:
    """The tables of a study, each sorted by its key.

    Args:
        rows: scores, with `source`.
        repeats: second scorings at one evaluation seed, with the same columns.
        planned: what the study asked for, as groups {substrate, saes, metrics, seeds}: every SAE of the group is to be
            scored by every metric at every seed. None: what was scored is what was planned, as in a group {substrate,
            imported} of scores that others computed.
    """
    table = scores.check(rows, "score table").sort(scores.KEY)
    again = scores.check(repeats, "repeated scores").sort(scores.KEY)
    saes = _saes(table)
    return {
        "scores": table,
        "repeats": again,
        "saes": saes,
        "tasks": _tasks(table),
        "coverage": _coverage(table, planned),
    }


def _saes(table: pl.DataFrame) -> pl.DataFrame:
    """One row an SAE; AssayError where two score files describe it differently."""
    saes = table.select(scores.SAE_COLUMNS).unique().sort("substrate", "sae_id")
    _one_description(saes, ("substrate", "sae_id"), "saes")
    return saes


def _tasks(table: pl.DataFrame) -> pl.DataFrame:
    """One row a task of a metric; AssayError where its kind differs between score files."""
    tasks = table.select(*TASK_KEY, "task_kind").unique().sort(*TASK_KEY)
    _one_description(tasks, TASK_KEY, "tasks")
    return tasks


def _one_description(table: pl.DataFrame, key: Sequence[str], where: str) -> None:
    torn = table.filter(pl.struct(key).is_duplicated())
    if torn.height:
        what = ", ".join(f"{name} {torn[name][0]}" for name in key)
        both = torn.join(torn.head(1).select(key), on=key, how="semi")
        differs = [column for column in both.columns if both[column].n_unique() > 1]
        raise AssayError(where, f"{what} is described in two ways (column {', '.join(differs)})", "score it again")


def _coverage(table: pl.DataFrame, planned: Sequence[dict[str, Any]] | None) -> pl.DataFrame:
    """One row a planned cell (SAE, metric, evaluation seed): its score rows, and how many of them have a number."""
    scored = table.group_by(COVERAGE_KEY).agg(
        n_rows=pl.len().cast(pl.Int64), n_ok=(pl.col("status") == "ok").sum().cast(pl.Int64)
    )
    if planned is None:
        cells = scored.select(COVERAGE_KEY)
    else:
        cells = _planned_cells(planned, table)
        foreign = scored.join(cells, on=COVERAGE_KEY, how="anti", nulls_equal=True).sort(COVERAGE_KEY)
        if foreign.height:
            cell = ", ".join(f"{name} {foreign[name][0]}" for name in COVERAGE_KEY)
            problem = f"{foreign.height} scored cell(s) were never planned, first {cell}"
            raise AssayError("score table", problem, "remove score files that the study does not name")
    filled = cells.join(scored, on=COVERAGE_KEY, how="left", nulls_equal=True, maintain_order="left")
    return filled.with_columns(pl.col("n_rows", "n_ok").fill_null(0)).sort(COVERAGE_KEY)


def _planned_cells(planned: Sequence[dict[str, Any]], table: pl.DataFrame) -> pl.DataFrame:
    schema = pl.Schema({name: scores.SCHEMA[name] for name in COVERAGE_KEY if name != "panel"})
    cells = [
        (group["substrate"], sae, metric, seed)
        for group in planned
        if not group.get("imported")
        for sae in group["saes"]
        for metric in group["metrics"]
        for seed in group["seeds"]
    ]
    frame = pl.DataFrame(cells, schema=schema, orient="row").unique()
    panels = table.select("substrate", "sae_id", "panel").unique()
    named = frame.join(panels, on=["substrate", "sae_id"], how="left")
    snapshot = pl.col("sae_id").str.contains(".step_", literal=True)
    control = pl.col("sae_id").str.contains(".of.", literal=True) | (pl.col("sae_id") == "oracle")
    guess = (
        pl.when(snapshot).then(pl.lit("trajectory")).when(control).then(pl.lit("control")).otherwise(pl.lit("panel"))
    )
    imported = [group["substrate"] for group in planned if group.get("imported")]
    taken = table.filter(pl.col("substrate").is_in(imported)).select(COVERAGE_KEY).unique()
    return pl.concat([named.with_columns(panel=pl.coalesce("panel", guess)).select(COVERAGE_KEY), taken])
