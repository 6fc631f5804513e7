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
    imported.git("add", "-A")
    imported.git("commit", "-qm", "their scores")
    imported.assay("record", "--study", "theirs")
    imported.git("add", "-A")
    imported.git("commit", "-qm", "recorded")
    done = imported.assay("verify", "--study", "theirs", "--depth", "2", "--json", check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report["findings"]
