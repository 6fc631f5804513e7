"""One set of marts and pictures for all tests of the report, from the statistics' own synthetic score table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]


def _factory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("statistics_factory", ROOT / "tests" / "statistics" / "factory.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def statistics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder `.../statistics` of marts of a synthetic world and a synthetic language model."""
    return Path(_factory().marts(tmp_path_factory.mktemp("results")))


@pytest.fixture(scope="session")
def marts(statistics: Path) -> dict[str, pl.DataFrame]:
    return {path.stem: pl.read_parquet(path) for path in sorted(statistics.glob("*.parquet"))}


@pytest.fixture(scope="session")
def charts(statistics: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of every chart's files, drawn by the step."""
    from sae_assay.report.names import chart_files
    from sae_assay.steps import charts as step

    folder = tmp_path_factory.mktemp("charts")
    outputs = [str(folder / Path(path).name) for path in chart_files("test")]
    step.run([str(p) for p in sorted(statistics.glob("*.parquet"))], outputs, {})
    return folder


@pytest.fixture(scope="session")
def design() -> dict[str, Any]:
    """The default study, which the page of the synthetic marts is given."""
    from sae_assay.study import Study

    return Study.load(ROOT / "config.yaml").model_dump(mode="json", by_alias=True)


@pytest.fixture(scope="session")
def site(statistics: Path, charts: Path, design: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with report.html and cells.json, written by the step."""
    from sae_assay.steps import report as step

    folder = tmp_path_factory.mktemp("report")
    inputs = [str(p) for p in [*sorted(statistics.glob("*.parquet")), *sorted(charts.iterdir())]]
    step.run(inputs, [str(folder / "report.html"), str(folder / "cells.json")], {"study": "test", "design": design})
    return folder
