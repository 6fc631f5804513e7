"""Time per score on the page: every number a cell of the measurement, and nothing where a study names no file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sae_assay.audit.words import describe
from sae_assay.report import page, seconds, sources
from sae_assay.report.names import CHART_NAMES
from sae_assay.report.untraced import untraced_numbers

ROOT = Path(__file__).resolve().parents[2]
MEASURED: dict[str, Any] = {
    "substrate": "lm",
    "sae": "batchtopk_l0_12_seed_0",
    "seed": "42",
    "command": "uv run python benchmarks/saebench.py s lm batchtopk_l0_12_seed_0 42",
    "date": "2026-11-26",
    "machine": "2 cores of a machine",
    "sae_bench": "0.6.0",
    "sha256": "ab" * 32,
    "metrics": {
        "saebench_tpp": {"library": 3.0, "ours": 0.25, "scores": 5, "unequal": 0, "largest_difference": 0.0},
        "saebench_scr": {"library": 4.5, "ours": 0.5, "scores": 10, "unequal": 1, "largest_difference": None},
    },
}


@pytest.fixture(scope="module")
def timed(design: dict[str, Any]) -> dict[str, Any]:
    return {**design, "report": {"seconds": "docs/seconds.json"}, "measured": MEASURED}


@pytest.fixture(scope="module")
def pages(
    marts: dict[str, pl.DataFrame], charts: Path, design: dict[str, Any], timed: dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Without measured seconds, and with them."""
    drawn = {
        name: page.Chart(*((charts / f"{name}.{suffix}").read_text(encoding="utf-8") for suffix in ("json", "svg")))
        for name in CHART_NAMES
    }
    return [page.render("test", marts, drawn, one) for one in (design, timed)]


def shown(listed: dict[str, Any], metric: str, column: str) -> str:
    (cell,) = [c for c in listed["cells"] if c["id"] == f"seconds:{metric}:{column}"]
    return cell["shown"]


def test_seconds_a_score_and_their_ratio_are_cells(pages: list[tuple[str, dict[str, Any]]]) -> None:
    html, listed = pages[1]
    assert "<h3>Time per score</h3>" in html
    columns = ("library_per_score", "ours_per_score", "ratio", "scores", "unequal", "largest_difference")
    assert [shown(listed, "saebench_tpp", name) for name in columns] == ["0.60", "0.050", "12", "5", "0", "0"]
    assert [shown(listed, "saebench_scr", name) for name in columns] == ["0.45", "0.050", "9.0", "10", "1", "–"]
    assert shown(listed, "saebench_tpp", "machine") == "2 cores of a machine"
    assert 'title="one side gave a score and the other none"' in html


def test_no_number_of_it_is_untraced(pages: list[tuple[str, dict[str, Any]]], design: dict[str, Any]) -> None:
    for html, _ in pages:
        assert untraced_numbers(html, ["synthetic", "mini2", "lm", *design["substrates"]]) == []


def test_its_source_is_the_file_and_says_that_no_job_made_it(
    pages: list[tuple[str, dict[str, Any]]], timed: dict[str, Any]
) -> None:
    source = {"kind": "measured", "path": "a measurement kept in docs/seconds.json", "sha256": "ab" * 32}
    assert pages[1][1]["sources"]["seconds"] == source
    assert sources.of_tables("test", ["seconds"], timed, {}) == {"seconds": source}
    cell = next(c for c in pages[1][1]["cells"] if c["id"] == "seconds:saebench_tpp:ratio")
    told = describe({"cell": cell, "places": [], "source": source, "recompute": []})
    assert "kept in docs/seconds.json" in told and "no job made it" in told


def test_a_study_without_the_key_shows_nothing(pages: list[tuple[str, dict[str, Any]]], design: dict[str, Any]) -> None:
    html, listed = pages[0]
    assert seconds.measured(design) is None
    assert "Time per score" not in html and "seconds" not in listed["sources"]
    cut = pages[1][0]
    start, end = cut.index("<h3>Time per score"), cut.index("<h3>Not covered here")
    assert len(cut[start:end]) > 1000
    listed_with = json.loads(json.dumps(pages[1][1]))
    assert [c for c in listed_with["cells"] if c["mart"] != "seconds"] == listed["cells"]
