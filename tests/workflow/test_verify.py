"""A study that Snakemake ran and `record` recorded verifies in a clone, at every depth; the verifier knows the rules' jobs."""

from __future__ import annotations

import json
import sys

import pytest
from tests.project import Project

pytestmark = pytest.mark.slow


def test_a_pulled_clone_is_clean_and_an_edited_score_file_is_not(clone: Project) -> None:
    verify = [sys.executable, "-m", "sae_assay.cli", "verify", "--json"]
    done = clone.run(*verify, "--depth", "2", "--remote", check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    report = json.loads(done.stdout)
    assert report["verdict"] == "BITWISE"
    assert [finding for finding in report["findings"] if not finding["note"]] == []
    file = next(clone.path.glob("results/scores/*/*/*/42.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    done = clone.run(*verify, check=False)
    assert done.returncode == 1
    found = {(finding["code"], finding["item"]) for finding in json.loads(done.stdout)["findings"]}
    assert ("ARTIFACT_HASH_MISMATCH", file.relative_to(clone.path).as_posix()) in found


def test_a_sample_of_the_jobs_is_run_again(clone: Project) -> None:
    verify = [sys.executable, "-m", "sae_assay.cli", "verify", "--json", "--depth", "3", "--sample", "0.05"]
    done = clone.run(*verify, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    report = json.loads(done.stdout)
    assert report["checked"]["recompute"] == 2  # of the tiny study's jobs, one in twenty, rounded up
    assert any("20 forged: 64.2 %" in note for note in report["notes"])
