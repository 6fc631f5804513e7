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
from sae_assay.plan import Plan
from sae_assay.tables import collect, scores

NAME = "table"
RERUN = "run `dvc pull`, or `snakemake`, and compare again"
KEYS: dict[str, tuple[str, ...]] = {
    "scores": scores.KEY,
    "repeats": scores.KEY,
    "saes": ("substrate", "sae_id"),
    "tasks": collect.TASK_KEY,
    "coverage": collect.COVERAGE_KEY,
}
SERIES = ("substrate", "metric", "component", "hp_name", "hp_value", "mode", "direction")


def check(context: Context) -> list[Finding]:
    """Files and their jobs, the collected tables, repeated seeds, dropped tasks."""
    plan = context.plan
    if plan is None:
        context.skipped(NAME, "score table", "the study cannot be read")
        return []
    files, found = _score_files(context, plan)
    if not files:
        context.skipped(NAME, "score table", "no score file is here (`dvc pull`)")
        return found
    found += [finding for path, rows in files.items() for finding in _rows(context, path, rows)]
    found += _repeated_seeds(context, files)
    first = [rows for path, rows in files.items() if not PurePosixPath(path).name.startswith(collect.REPEAT_PREFIX)]
    found += _dropped_tasks(context, pl.concat(first)) if first else []
    return found + _tables(context, plan, files)


def _score_files(context: Context, plan: Plan) -> tuple[dict[str, pl.DataFrame], list[Finding]]:
    files, found = {}, []
    for path in plan.score_files():
        try:
            files[path] = scores.check(context.table(path), path)
        except reading.Unsafe as error:
            found.append(Finding("UNSAFE_INPUT", path, "a score file", error.problem, RERUN))
        except AssayError as error:
            missing = not (context.root / path).exists()
            code = "COVERAGE_GAP" if missing else "ROW_RUN_MISMATCH"
            found.append(Finding(code, path, "a score file", error.problem[:300], RERUN))
            context.judged(NAME, path, "DIFFERS")
    return files, found


# Rows and jobs -------------------------------------------------------------------------------------------------------------
def _rows(context: Context, path: str, rows: pl.DataFrame) -> list[Finding]:
    """A file's rows name the study, substrate, SAE and seed of its path, and what its job was told to score."""
    run = next(iter(context.evidence.producers.get(path, [])), None)
    _, _, study, substrate, sae, name = PurePosixPath(path).parts
    seed = int(PurePosixPath(name).stem.rpartition("_")[2])
    wanted: dict[str, list[Any]] = {"study": [study], "substrate": [substrate], "sae_id": [sae], "eval_seed": [seed]}
    wanted |= _of_run(run, sae)
    found = []
    for column, allowed in wanted.items():
        seen = rows[column].unique().sort().to_list()
        foreign = [value for value in seen if value not in allowed]
        if foreign or (column == "metric" and set(seen) != set(allowed)):
            expected = ", ".join(map(str, allowed))
            found.append(Finding("ROW_RUN_MISMATCH", f"{path}: {column}", expected, ", ".join(map(str, seen)), RERUN))
    if run is not None and seed not in _seeds_of(run, sae):
        expected = f"one of {_seeds_of(run, sae)} ({run.label})"
        found.append(Finding("ROW_RUN_MISMATCH", f"{path}: eval_seed", expected, str(seed), RERUN))
    context.fine(NAME, path, not found)
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
    return found


def _seeds_of(run: RunRecord, sae: str) -> list[Any]:
    """The evaluation seeds at which a job was told to score an SAE."""
    for item in run.params.get("saes") or []:
        if isinstance(item, dict) and item.get("id") == sae and isinstance(item.get("evaluation_seeds"), list):
            return item["evaluation_seeds"]
    seeds = run.params.get("evaluation_seeds")
    return seeds if isinstance(seeds, list) else []


# What a motivated author would do ------------------------------------------------------------------------------------------
def _repeated_seeds(context: Context, files: dict[str, pl.DataFrame]) -> list[Finding]:
    """Two seeds of one SAE with all the same scores: one file passed off as two."""
    seen: dict[tuple[str, int, Any], str] = {}
    found = []
    for path, rows in files.items():
        folder, _, name = path.rpartition("/")
        kind = name.rpartition("_")[0]
        if kind.startswith(collect.REPEAT_PREFIX.rstrip("_")) or rows["value"].n_unique() < 3:
            continue
        keys = [name for name in scores.KEY if name != "eval_seed"]
        plain = frames.bits(rows.sort(keys, nulls_last=False).select(*keys, "value", "status"))
        name_of = (f"{folder}/{kind}", plain.height, plain.hash_rows(seed=0).sum())
        other = seen.setdefault(name_of, path)
        if other != path:
            expected = f"scores of its own seed, other than {other}"
            found.append(Finding("ROW_RUN_MISMATCH", path, expected, "the same scores under another seed", RERUN))
            context.fine(NAME, path, False)
    return found


def _dropped_tasks(context: Context, rows: pl.DataFrame) -> list[Finding]:
    """Tasks that a series has for some SAEs of a seed and not for others, or at some seeds and not at others."""
    found = []
    by_sae = rows.group_by(*SERIES, "eval_seed", "sae_id").agg(tasks=pl.col("task").unique().sort())
    whole = rows.group_by(*SERIES, "eval_seed").agg(all_tasks=pl.col("task").unique().sort())
    joined = by_sae.join(whole, on=[*SERIES, "eval_seed"], nulls_equal=True)
    torn = joined.with_columns(gap=pl.col("all_tasks").list.set_difference("tasks")).filter(pl.col("gap").list.len() > 0)
    for row in torn.sort(*SERIES, "eval_seed", "sae_id", nulls_last=False).head(frames.MOST).iter_rows(named=True):
        item = frames.named(row, [*SERIES, "eval_seed", "sae_id"])
        expected = f"tasks {', '.join(sorted(row['gap'])[:3])}, which other SAEs have"
        found.append(Finding("COVERAGE_GAP", item, expected, "none of them", RERUN))
    context.fine(NAME, "tasks of every SAE", not found)
    return found


# The collected tables ------------------------------------------------------------------------------------------------------
def _tables(context: Context, plan: Plan, files: dict[str, pl.DataFrame]) -> list[Finding]:
    try:
        made = collected(files, plan)
    except AssayError as error:
        context.judged(NAME, "score table", "DIFFERS")
        return [Finding("ROW_RUN_MISMATCH", error.where, "files that can be collected", error.problem[:300], RERUN)]
    found = []
    for name, path in plan.tables().items():
        try:
            now = context.table(path)
        except AssayError as error:
            code = "UNSAFE_INPUT" if isinstance(error, reading.Unsafe) else "COVERAGE_GAP"
            found.append(Finding(code, path, "the collected table", error.problem, RERUN))
            context.judged(NAME, path, "DIFFERS")
            continue
        torn, count = frames.differences(made[name], now, KEYS[name])
        context.fine(NAME, path, not torn)
        more = f" ({count} values or rows differ)" if count > 1 else ""
        for one in torn[: frames.MOST]:
            code = "COVERAGE_GAP" if one.column == "rows" and int(one.expected) > int(one.found) else "ROW_RUN_MISMATCH"
            item = f"{path}: {one.key}: {one.column}"
            found.append(Finding(code, item, one.expected, one.found + more, RERUN))
    return found


def collected(files: dict[str, pl.DataFrame], plan: Plan) -> dict[str, pl.DataFrame]:
    """The study's tables, from score files already read; see `tables.collect.collect`."""
    named = {path: rows.with_columns(source=pl.lit(path)) for path, rows in sorted(files.items())}
    empty = pl.DataFrame(schema=scores.TABLE_SCHEMA)

    def of(repeats: bool) -> list[pl.DataFrame]:
        prefix = collect.REPEAT_PREFIX
        return [rows for path, rows in named.items() if PurePosixPath(path).name.startswith(prefix) == repeats]

    return collect.tables(pl.concat([empty, *of(False)]), pl.concat([empty, *of(True)]), plan.planned())
