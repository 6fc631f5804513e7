"""Collects score files into the study's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_assay.tables import collect, scores


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write scores, repeats, saes, tasks and coverage.

    Args:
        inputs: score files (parquet); those named `repeat_*` hold second scorings at one evaluation seed.
        outputs: scores, repeats, saes, tasks, coverage (parquet).
        params: `planned`, the groups {substrate, saes, metrics, seeds} that the study asks for.
    """
    paths = [str(path) for path in inputs if Path(path).suffix == ".parquet"]
    for name, table in collect.collect(paths, params["planned"]).items():
        scores.write_pinned(table, getattr(outputs, name))
