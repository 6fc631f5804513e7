"""The score table: collected again from the score files by the verifier's own code; each row agrees with the job that made it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import polars as pl

from sae_assay.audit import frames, reading
from sae_assay.audit.context import Context
from sae_assay.audit.evidence import RunRecord
from sae_assay.audit.findings import Finding
from sae_assay.errors import AssayError
from sae_assay.tables import anatomy, collect, scores

NAME = "table"
RERUN = "run `dvc pull --force`, or `snakemake`, and compare again"
KEYS: dict[str, tuple[str, ...]] = {
    "scores": scores.KEY,
    "repeats": scores.KEY,
    "saes": ("substrate", "sae_id"),
    "tasks": collect.TASK_KEY,
    "coverage": collect.COVERAGE_KEY,
    "anatomy": scores.KEY,
    "points": ("substrate", "eval_seed"),
}
SERIES = ("substrate", "metric", "component", "hp_name", "hp_value", "mode", "direction")


def check(context: Context) -> list[Finding]:
    """Files and their jobs, the collected tables, repeated seeds, dropped tasks."""
    rows, found = _score_rows(context)
    if rows is None:
        context.skipped(NAME, "score table", "no score file could be read")
        return found
    taken = [context.plan.import_outputs(name)[0] for name in context.plan.imported()]
    computed = rows.filter(~pl.col("source").is_in(taken))
    found += _rows(context, computed) + _imported(context, rows.filter(pl.col("source").is_in(taken)))
    found += _repeated_seeds(context, computed)
    first = rows.filter(~pl.col("source").is_in(_repeats(context)))
    own = first.filter(~pl.col("source").is_in(taken))
    found += _dropped_tasks(context, own) + _dropped_series(context, own)
    return found + _tables(context, first, rows.filter(pl.col("source").is_in(_repeats(context))))


def _repeats(context: Context) -> list[str]:
    """Files that hold second scorings."""
    return [p for p in context.plan.score_files() if PurePosixPath(p).name.startswith(collect.REPEAT_PREFIX)]


def _score_rows(context: Context) -> tuple[pl.DataFrame | None, list[Finding]]:
    """Rows of every score file that keeps the columns, with their `source`."""
    parts, found = [], []
    for path in sorted(context.plan.score_files()):
        try:
            rows = reading.read_scores(context.root, path)
            parts.append(rows.with_columns(source=pl.lit(path)))
        except AssayError as error:
            code = "UNSAFE_INPUT" if isinstance(error, reading.Unsafe) else "ROW_RUN_MISMATCH"
            code = code if (context.root / path).exists() else "COVERAGE_GAP"
            found.append(Finding(code, path, "a score file", error.problem[:300], RERUN))
            context.judged(NAME, path, "DIFFERS")
    return (pl.concat(parts) if parts else None), found


# Rows and jobs -------------------------------------------------------------------------------------------------------------
NAMED = ("study", "substrate", "sae_id", "eval_seed", "metric", "panel")


def _rows(context: Context, rows: pl.DataFrame) -> list[Finding]:
    """A file's rows name the study, substrate, SAE and seed of its path, and what its job was told to score."""
    found = []
    seen = rows.group_by("source").agg(pl.col(name).unique().sort() for name in NAMED).sort("source")
    for file in seen.iter_rows(named=True):
        problems = _file(context, file)
        context.fine(NAME, file["source"], not problems)
        found += problems
    return found


def _imported(context: Context, rows: pl.DataFrame) -> list[Finding]:
    """Rows that others computed name the study and substrate of their file; what they left out is in the account beside it."""
    found = []
    for path, study, substrate in rows.select("source", "study", "substrate").unique().sort(pl.all()).iter_rows():
        expected = " ".join(PurePosixPath(path).parts[2:4])
        if f"{study} {substrate}" != expected:
            found.append(Finding("ROW_RUN_MISMATCH", f"{path}: substrate", expected, f"{study} {substrate}", RERUN))
        context.fine(NAME, path, not found)
    return found


def _file(context: Context, file: dict[str, Any]) -> list[Finding]:
    path = file["source"]
    run = next(iter(context.evidence.producers.get(path, [])), None)
    _, _, study, substrate, sae, name = PurePosixPath(path).parts
    seed = int(PurePosixPath(name).stem.rpartition("_")[2])
    wanted: dict[str, list[Any]] = {"study": [study], "substrate": [substrate], "sae_id": [sae], "eval_seed": [seed]}
    wanted |= _of_run(run, sae)
    found = []
    for column, allowed in wanted.items():
        if sorted(map(str, file[column])) != sorted(map(str, allowed)):
            expected, seen = (", ".join(map(str, values))[:200] for values in (allowed, file[column]))
            found.append(Finding("ROW_RUN_MISMATCH", f"{path}: {column}", expected, seen, RERUN))
    if run is not None and seed not in _seeds_of(run, sae):
        expected = f"one of {_seeds_of(run, sae)} ({run.label})"
        found.append(Finding("ROW_RUN_MISMATCH", f"{path}: eval_seed", expected, str(seed), RERUN))
    return found


def _of_run(run: RunRecord | None, sae: str) -> dict[str, list[Any]]:
    if run is None:
        return {}
    found: dict[str, list[Any]] = {}
    metrics, saes = run.params.get("metrics"), run.params.get("saes")
    if isinstance(metrics, dict):
        found["metric"] = sorted(metrics)
    if isinstance(saes, list):
        found["panel"] = [item.get("panel") for item in saes if isinstance(item, dict) and item.get("id") == sae]
    if "metric" in run.params:  # a job of the real SAEBench: one SAE, one metric, one seed
        found |= {name: [run.params.get(name)] for name in ("metric", "panel")}
    return found


def _seeds_of(run: RunRecord, sae: str) -> list[Any]:
    """The evaluation seeds at which a job was told to score an SAE."""
    for item in run.params.get("saes") or []:
        if isinstance(item, dict) and item.get("id") == sae and isinstance(item.get("evaluation_seeds"), list):
            return item["evaluation_seeds"]
    seeds = run.params.get("evaluation_seeds", [run.params.get("evaluation_seed")])
    return seeds if isinstance(seeds, list) else []


# What a motivated author would do ------------------------------------------------------------------------------------------
def _repeated_seeds(context: Context, rows: pl.DataFrame) -> list[Finding]:
    """Two seeds of one SAE with all the same scores: one file passed off as two."""
    keys = [name for name in scores.KEY if name not in ("eval_seed", "study", "substrate", "sae_id")]
    plain = frames.bits(rows.select("source", *keys, "value", "status"))
    hashed = plain.select("source", "value", row=pl.struct(*keys, "value", "status").hash(seed=0))
    files = hashed.group_by("source").agg(pl.col("row").sum(), pl.len(), values=pl.col("value").n_unique())
    seen: dict[tuple[str, int, int], str] = {}
    found = []
    for path, row, count, values in files.sort("source").iter_rows():
        folder, _, name = path.rpartition("/")
        kind = name.rpartition("_")[0]
        if values < 3 or kind.startswith(collect.REPEAT_PREFIX.rstrip("_")):
            continue
        other = seen.setdefault((f"{folder}/{kind}", row, count), path)
        if other != path:
            expected = f"scores of its own seed, other than those of {other}"
            found.append(Finding("ROW_RUN_MISMATCH", path, expected, "the same scores under another seed", RERUN))
            context.fine(NAME, path, False)
    return found


def _dropped_tasks(context: Context, rows: pl.DataFrame) -> list[Finding]:
    """Tasks that a series has for some SAEs of a seed and not for others, or at some seeds and not at others."""
    found = []
    by_sae = rows.group_by(*SERIES, "eval_seed", "sae_id").agg(tasks=pl.col("task").unique().sort())
    whole = rows.group_by(*SERIES, "eval_seed").agg(all_tasks=pl.col("task").unique().sort())
    joined = by_sae.join(whole, on=[*SERIES, "eval_seed"], nulls_equal=True)
    torn = joined.with_columns(gap=pl.col("all_tasks").list.set_difference("tasks")).filter(
        pl.col("gap").list.len() > 0
    )
    for row in torn.sort(*SERIES, "eval_seed", "sae_id", nulls_last=False).head(frames.MOST).iter_rows(named=True):
        item = frames.named(row, [*SERIES, "eval_seed", "sae_id"])
        expected = f"tasks {', '.join(sorted(row['gap'])[:3])}, which other SAEs have"
        found.append(Finding("COVERAGE_GAP", item, expected, "none of them", RERUN))
    context.fine(NAME, "tasks of every SAE", not found)
    return found


def _dropped_series(context: Context, rows: pl.DataFrame) -> list[Finding]:
    """Components or settings of a metric that some SAEs of a panel have at a seed, and others have not."""
    panel = ["substrate", "panel", "eval_seed"]
    series = [*panel, *(name for name in SERIES if name not in panel)]
    having = rows.group_by(series).agg(having=pl.col("sae_id").unique())
    every = rows.group_by(panel).agg(every=pl.col("sae_id").unique().sort())
    gaps = having.join(every, on=panel, nulls_equal=True).select(
        *series, gap=pl.col("every").list.set_difference("having")
    )
    torn = gaps.filter(pl.col("gap").list.len() > 0).sort(series)
    found = []
    for row in torn.head(frames.MOST).iter_rows(named=True):
        seen = f"none for {', '.join(sorted(row['gap'])[:3])}"
        found.append(
            Finding("COVERAGE_GAP", frames.named(row, series), "scores of every SAE of the panel", seen, RERUN)
        )
    context.fine(NAME, "metrics of every SAE", not found)
    return found


# The collected tables ------------------------------------------------------------------------------------------------------
def _tables(context: Context, first: pl.DataFrame, repeats: pl.DataFrame) -> list[Finding]:
    try:
        made = collect.tables(first, repeats, context.plan.planned()) | _anatomy(context)
    except AssayError as error:
        context.judged(NAME, "score table", "DIFFERS")
        return [Finding("ROW_RUN_MISMATCH", error.where, "files that can be collected", error.problem[:300], RERUN)]
    found = []
    for name, path in context.plan.tables().items():
        problems = _table(context, path, made[name], KEYS[name])
        context.fine(NAME, path, not problems)
        found += problems
    return found


def _anatomy(context: Context) -> dict[str, pl.DataFrame]:
    """The tables of a noise anatomy, collected again; AssayError where a file cannot be read."""
    files = sorted(context.plan.anatomy_files())
    if not files:
        return {}
    rows = [reading.read_scores(context.root, path).with_columns(source=pl.lit(path)) for path in files]
    return anatomy.tables(pl.concat(rows), context.plan.anatomy_points())


def _table(context: Context, path: str, made: pl.DataFrame, key: tuple[str, ...]) -> list[Finding]:
    try:
        now = context.table(path)
    except AssayError as error:
        code = "UNSAFE_INPUT" if isinstance(error, reading.Unsafe) else "COVERAGE_GAP"
        return [Finding(code, path, "the collected table", error.problem, RERUN)]
    torn, count = frames.differences(made, now, key)
    more = f" ({count} values or rows differ)" if count > 1 else ""
    found = []
    for one in torn:
        gap = one.column == "rows" and int(one.expected) > int(one.found)
        code = "COVERAGE_GAP" if gap else "ROW_RUN_MISMATCH"
        found.append(Finding(code, f"{path}: {one.key}: {one.column}", one.expected, one.found + more, RERUN))
    return found
