"""A study's file of measured seconds: refused before any work where it does not fit, and no choice of the study."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sae_assay.errors import AssayError
from sae_assay.plan import Plan
from sae_assay.study import Study

ROOT = Path(__file__).parents[2]
ONE = {"library": 3.0, "ours": 0.2, "scores": 10, "unequal": 0, "largest_difference": 0.0}
MEASURED: dict[str, Any] = {
    "study": "s",
    "substrate": "lm",
    "sae": "a_seed_0",
    "seed": "42",
    "command": "uv run python benchmarks/saebench.py s lm a_seed_0 42",
    "date": "2026-11-26",
    "machine": "two cores of a machine",
    "sae_bench": "0.6.0",
    "metrics": {"saebench_tpp": ONE},
}


def plan(folder: Path, name: str = "studies/saebench.yaml", seconds: str | None = None) -> Plan:
    raw = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    raw.pop("report", None)
    raw |= {"report": {"seconds": seconds}} if seconds else {}
    (folder / "study.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return Plan(Study.load(folder / "study.yaml"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"machine": None}, "machine: "),
        ({"date": "yesterday"}, "date: "),
        ({"hostname": "me"}, "hostname: "),
        ({"metrics": {}}, "metrics: "),
        ({"metrics": {"core": ONE}}, "metrics.core"),
        ({"metrics": {"saebench_tpp": {**ONE, "ours": 0}}}, "metrics.saebench_tpp.ours: "),
        ({"metrics": {"saebench_tpp": {**ONE, "library": float("nan")}}}, "metrics.saebench_tpp.library: "),
    ],
)
def test_a_malformed_file_is_named_with_key_and_remedy(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    file = tmp_path / "seconds.json"
    file.write_text(json.dumps(MEASURED | change), encoding="utf-8")
    with pytest.raises(AssayError, match=re.escape(said)) as caught:
        plan(tmp_path, seconds=str(file)).page_design()
    assert str(file) in str(caught.value) and "report.seconds" in str(caught.value)
    assert "benchmarks/saebench.py ... --write FILE" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"{", b"\xff", b"[]"])
def test_a_file_that_is_missing_or_no_json_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "seconds.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(AssayError, match=r"report\.seconds names") as caught:
        plan(tmp_path, seconds=str(file)).page_design()
    assert caught.value.where == str(file)


@pytest.mark.slow
def test_the_workflow_stops_before_any_job(tmp_path: Path) -> None:
    plan(tmp_path, seconds="nowhere.json")
    command = [sys.executable, "-m", "snakemake", "-n", "--nolock", "--config", f"study={tmp_path / 'study.yaml'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "nowhere.json: cannot be read; report.seconds names it" in said
    assert "Building DAG" not in said


def test_a_study_without_the_real_saebench_has_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="declare a metric of it, or take the key out"):
        plan(tmp_path, "config.yaml", seconds="seconds.json")


def test_seconds_are_no_choice_of_the_study(tmp_path: Path) -> None:
    """What was declared before the run, and every job but the page, are the same with and without the key."""
    file = tmp_path / "seconds.json"
    file.write_text(json.dumps(MEASURED), encoding="utf-8")
    with_key, without = plan(tmp_path, seconds=str(file)), plan(tmp_path)
    assert with_key.design() == without.design() == without.page_design()
    assert with_key.choices() == without.choices()
    found = with_key.page_design()
    assert found["report"] == {"seconds": str(file)} and found["measured"]["machine"] == "two cores of a machine"
