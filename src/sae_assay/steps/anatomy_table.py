"""Collects a noise anatomy's score files into its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_assay.tables import anatomy, scores


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write anatomy and points.

    Args:
        inputs: score files (parquet).
        outputs: anatomy, points (parquet).
        params: `points`, per substrate `substrate`, `sources`, `blocks`, `resamples`.
    """
    paths = [str(path) for path in inputs if Path(path).suffix == ".parquet"]
    for name, table in anatomy.collect(paths, params["points"]).items():
        scores.write_pinned(table, getattr(outputs, name))
