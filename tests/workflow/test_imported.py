"""Scores that others computed go through the whole workflow: import, table, statistics, report, record, verify, trace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.project import ROOT, Project, project_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that imported the stand-in files of the real output classes, and one that is cut off."""
    project = project_of(tmp_path_factory.mktemp("imported") / "project", (ROOT / "studies/tiny.yaml").read_text())
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(ROOT / "tests/tables/saebench", project.path / "data/imported/theirs", ignore=ignored)
    (project.path / "data/imported/theirs/cut.json").write_text('{"eval_type_id": "tpp"')
    command = ["import-saebench", "data/imported/theirs", "--study", "theirs", "--substrate", "gemma-2-2b"]
    done = project.assay(*command, check=False)
    assert done.returncode == 1 and "skipped data/imported/theirs/cut.json: is not whole JSON" in done.stdout
    project.snakemake("--config", "study=theirs")
    return project


def test_rows_are_tied_to_the_bytes_of_the_files(imported: Project) -> None:
    account = json.loads((imported.path / "results/scores/theirs/gemma-2-2b/imported.json").read_text())
    assert [one["status"] for one in account].count("imported") == 8 and len(account) == 9
    page = (imported.path / "results/report/theirs/report.html").read_text()
    assert "scores that others computed" in page
    assert "Nothing to be done" in imported.snakemake("-n", "--config", "study=theirs")
    target = Path("data/imported/theirs/tpp")
    file = next((imported.path / target).glob("*.json"))
    whole = file.read_text()
    file.write_text(whole.replace('"stand-in"', '"another"'))
    stale = imported.assay("why", "results/scores/theirs/gemma-2-2b/imported.parquet", "--study", "theirs", check=False)
    assert stale.returncode == 1 and file.name in stale.stdout
    file.write_text(whole)


def test_the_import_is_recorded_and_verifies(imported: Project) -> None:
    imported.record_and_verify("theirs")


def test_measured_seconds_change_the_page_alone_and_verify(imported: Project) -> None:
    """After `record`: the key is no choice of the study, and its numbers are cells that the verifier knows."""
    one = {"library": 3.0, "ours": 0.25, "scores": 5, "unequal": 0, "largest_difference": 0.0}
    about = {"study": "theirs", "substrate": "lm", "sae": "a_seed_0", "seed": "42", "command": "uv run it 42"}
    about |= {"date": "2026-11-26", "machine": "2 cores of a machine", "sae_bench": "0.6.0"}
    file, study = imported.path / "seconds.json", imported.path / "studies/theirs.yaml"
    file.write_text(json.dumps({**about, "metrics": {"saebench_tpp": one}}), encoding="utf-8")
    study.write_text(study.read_text(encoding="utf-8") + "report: {seconds: seconds.json}\n", encoding="utf-8")
    planned = imported.snakemake("-n", "--config", "study=theirs")
    assert "report" in planned and not any(
        rule in planned for rule in ("rule statistics:", "rule charts:", "rule table:")
    )
    imported.snakemake("--config", "study=theirs")
    assert "<h3>Time per score</h3>" in (imported.path / "results/report/theirs/report.html").read_text()
    told = imported.assay("trace", "seconds:saebench_tpp:ratio", "--study", "theirs").stdout
    assert "a measurement kept in seconds.json" in told and "no job made it" in told
    imported.record_and_verify("theirs")
    file.write_text("{}", encoding="utf-8")
    said = imported.snakemake("-n", "--config", "study=theirs", check=False)
    assert "seconds.json: " in said and "report.seconds names this file" in said and "Building DAG" not in said
