"""What is recorded in this repository: small enough for git, and restorable with the origin out of reach."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.project import Project

ROOT = Path(__file__).parents[2]
LARGEST_BUNDLE = 15 * 2**20


def test_the_bundled_remote_is_small() -> None:
    sizes = [path.stat().st_size for path in (ROOT / "data/remote").rglob("*") if path.is_file()]
    assert sizes, "data/remote is empty: record the default study, or restore the folder from git"
    assert sum(sizes) <= LARGEST_BUNDLE


@pytest.mark.slow
def test_a_fresh_clone_restores_and_has_nothing_to_do(tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone.path)], check=True)
    clone.git("remote", "remove", "origin")
    clone.dvc("pull", "-q")
    assert clone.planned() == {}
    assert clone.dvc("status").strip() == "Data and pipelines are up to date."
    assert (clone.path / "results/report/default/report.html").stat().st_size > 10**5
    scores = sorted((clone.path / "results/scores/default").rglob("*.parquet"))
    clone.flip(scores[2].relative_to(clone.path).as_posix())
    planned = clone.planned()
    assert sum(count for rule, count in planned.items() if rule.startswith(("score", "lm_"))) == 1


@pytest.mark.slow
def test_snakemakes_own_report_works(clone: Project) -> None:
    clone.run(sys.executable, "-m", "snakemake", "--report", "snakemake-report.html")
    assert (clone.path / "snakemake-report.html").stat().st_size > 10**5
