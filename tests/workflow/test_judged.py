"""RAVEL and AutoInterp through the whole workflow: a stand-in language model, a stand-in judge, no result."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import yaml
from tests.lms.stand_in import register_stand_in
from tests.project import ROOT, project_of
from tests.saebench.environment import INSTALLED
from tests.saebench.stub_judge import says, serving
from tests.workflow.test_saebench import STUDY

from sae_assay.audit.expected import jobs
from sae_assay.plan import Plan
from sae_assay.study import Study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.saebench,
    INSTALLED,
]
KEY = "sk-stand-in-0b8d3f61c5"
LATENTS = 2


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The project after its run, and what its judge was asked."""
    folder = tmp_path_factory.mktemp("judged")
    study = copy.deepcopy(STUDY) | {"study": "judged", "seeds": {"evaluation": [42], "snapshot": [42], "repeat": 42}}
    with serving(says("None")) as judge:
        prices = {"endpoint": judge.url, "cap_usd": 0.01, "usd_per_million": {"input": 0.15, "output": 0.6}}
        small = {"latents": LATENTS, "tokens": 1500, "context": 32, "pause_s": 0}
        study["metrics"] = {"reconstruction": {}, "ravel": {}, "autointerp": prices | small}
        study["scorecard"] = {
            "primary": {"autointerp": {"component": "autointerp_score", "mode": "library", "truth": "f1"}}
        }
        project = project_of(folder / "project", yaml.safe_dump(study))
        environment = project.path / "envs/saebench"
        shutil.copytree(ROOT / "envs/saebench", environment, ignore=shutil.ignore_patterns(".venv", "__pycache__"))
        (environment / ".venv").symlink_to(ROOT / "envs/saebench/.venv")
        register_stand_in(project, folder / "wheels")
        project.variables |= {"OPENAI_API_KEY": KEY, "NO_PROXY": "*"}
        project.snakemake("--cores", "1")
        found = SimpleNamespace(project=project, judge=judge, asked=len(judge.requests))
        project.snakemake("--cores", "1", "--forcerun", "saebench_score")
    return found


def rows_of(scored: SimpleNamespace, metric: str) -> pl.DataFrame:
    table = pl.read_parquet(scored.project.path / "results/table/judged/scores.parquet")
    return table.filter(metric=metric).sort("component", "task")


def test_every_latent_and_their_mean_are_rows_of_the_score_table(scored: SimpleNamespace) -> None:
    found = rows_of(scored, "autointerp")
    assert set(found["status"]) == {"ok"} and set(found["mode"]) == {"library"}
    score = found.filter(component="autointerp_score")
    assert len(score) == 1 + LATENTS and score["value"].to_list() == pytest.approx([10 / 14] * (1 + LATENTS))


def test_the_repeat_is_judged_anew_and_a_rerun_is_not(scored: SimpleNamespace) -> None:
    assert scored.asked == 2 * LATENTS * 2  # the first scoring and the repeated one
    assert len(scored.judge.requests) == scored.asked
    lines = (scored.project.path / ".sae-assay/judge/judged/spent.jsonl").read_text().splitlines()
    one_reply = (700 * 0.15 + 10 * 0.6) / 1e6  # as the stand-in counts
    assert sum(json.loads(line)["usd"] for line in lines) == pytest.approx(scored.asked * one_reply)


def test_ravel_says_what_this_model_lacks(scored: SimpleNamespace) -> None:
    found = rows_of(scored, "ravel")
    assert set(found["component"]) == {"disentanglement_score", "cause_score", "isolation_score"}
    assert set(found["status"]) == {"not_applicable"} and "BOS" in found["reason"][0]


def test_the_verifier_knows_the_jobs_and_the_key_is_nowhere(
    scored: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = scored.project
    monkeypatch.chdir(project.path)
    wanted = [job for job in jobs(Plan(Study.load("config.yaml"))).values() if job.rule.startswith("saebench_")]
    assert len(wanted) == 2 + 2 + 2 and project.planned() == {}
    files = [path for path in Path().rglob("*") if path.is_file() and ".venv" not in path.parts]
    assert len(files) > 100 and not [path for path in files if KEY.encode() in path.read_bytes()]
    project.record_and_verify()
