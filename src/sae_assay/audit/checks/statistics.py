"""The statistics: every mart computed again from the recorded tables by the verifier's own SQL, compared bit for bit."""

from __future__ import annotations

import polars as pl

from sae_assay.audit import frames, reading
from sae_assay.audit.context import Context
from sae_assay.audit.expected import mart_files
from sae_assay.audit.findings import Finding
from sae_assay.audit.replay import Interrupted
from sae_assay.errors import AssayError

NAME = "statistics"
RERUN = "run `snakemake` on the recorded table, or `dvc pull --force`"


def check(context: Context) -> list[Finding]:
    """Each mart against its own recomputation."""
    found = []
    for name, path in mart_files(context.plan).items():
        try:
            made = context.replay.mart(name)
        except Interrupted:
            raise
        except AssayError as error:
            context.judged(NAME, "statistics", "DIFFERS")
            expected = "tables from which the statistics can be computed"
            return [Finding("OUTPUT_HASH_MISMATCH", error.where, expected, error.problem[:300], RERUN)]
        problems = _mart(context, name, path, made)
        context.fine(NAME, path, not problems)
        found += problems
    return found


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
