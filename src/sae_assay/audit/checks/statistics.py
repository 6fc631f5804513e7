"""The statistics: every mart computed again from the recorded tables by the verifier's own SQL, compared bit for bit."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sae_assay.audit import frames, reading
from sae_assay.audit.context import Context
from sae_assay.audit.expected import mart_files
from sae_assay.audit.findings import Finding
from sae_assay.errors import AssayError
from sae_assay.plan import Plan

NAME = "statistics"
RERUN = "run `snakemake` on the recorded table, or `dvc pull`"


def check(context: Context) -> list[Finding]:
    """Each mart against its own recomputation."""
    if context.plan is None:
        context.skipped(NAME, "statistics", "the study cannot be read")
        return []
    try:
        made = recomputed(context)
    except AssayError as error:
        code = "UNSAFE_INPUT" if isinstance(error, reading.Unsafe) else "OUTPUT_HASH_MISMATCH"
        context.judged(NAME, "statistics", "DIFFERS")
        expected = "tables from which the statistics can be computed"
        return [Finding(code, error.where, expected, error.problem[:300], RERUN)]
    found = []
    for name, path in mart_files(context.plan).items():
        problems = _mart(context, name, path, made[name])
        context.fine(NAME, path, not problems)
        found += problems
    return found


def recomputed(context: Context) -> dict[str, pl.DataFrame]:
    """Every mart, computed once for all checks.

    Raises:
        AssayError: a table is missing or breaks its schema.
    """
    assert context.plan is not None
    return context.once("marts", lambda: _compute(context, context.plan))


def _compute(context: Context, plan: Plan | None) -> dict[str, pl.DataFrame]:
    from sae_assay.statistics import runner

    assert plan is not None
    tables: dict[str, Path] = {}
    for name, path in plan.tables().items():
        reading.check_table(context.root, path)
        tables[name] = reading.inside(context.root, path)
    context.progress("statistics: every query again")
    return runner.compute(tables, plan.choices())


def _mart(context: Context, name: str, path: str, made: pl.DataFrame) -> list[Finding]:
    from sae_assay.statistics.contracts import contract

    try:
        now = context.table(path)
    except AssayError as error:
        code = "UNSAFE_INPUT" if isinstance(error, reading.Unsafe) else "COVERAGE_GAP"
        return [Finding(code, path, f"the mart {name}", error.problem, RERUN)]
    torn, count = frames.differences(made, now, contract(name)["grain"])
    more = f" ({count} values or rows differ)" if count > 1 else ""
    return [
        Finding("OUTPUT_HASH_MISMATCH", f"{path}: {one.key}: {one.column}", one.expected, one.found + more, RERUN)
        for one in torn
    ]
