"""Runs every statistic over the study's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_assay.statistics import runner


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write one parquet a mart.

    Args:
        inputs: the study's tables (scores, repeats, saes, tasks, coverage; anatomy and points where it has them), by name.
        outputs: one parquet a mart, by the mart's name.
        params: see `runner.run_all`.
    """
    there = [*runner.TABLES, *(name for name in runner.ANATOMY_TABLES if hasattr(inputs, name))]
    tables = {name: Path(getattr(inputs, name)) for name in there}
    marts = runner.compute(tables, params)
    for name in runner.MARTS:
        runner.write_mart(name, marts[name], Path(getattr(outputs, name)))
