"""Shipped studies that no test can run: Snakemake plans every job of them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.project import ROOT, project_of

from sae_assay.audit.expected import jobs
from sae_assay.plan import Plan
from sae_assay.study import Study

STUDIES = [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))]
REFERENCE = ROOT / "studies/synth16k.yaml"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_loads_and_names_its_jobs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plan = Plan(Study.load(path))
    found = jobs(plan)
    made = [output for job in found.values() for output in job.outputs]
    assert len(set(made)) == len(made) and set(plan.targets()) <= set(made)


@pytest.mark.slow
def test_the_papers_study_is_planned_as_the_verifier_expects(tmp_path: Path) -> None:
    text = (ROOT / "studies/paper.yaml").read_text(encoding="utf-8")
    expected = Counter(job.rule for job in jobs(Plan(Study.load(ROOT / "studies/paper.yaml"))).values())
    project = project_of(tmp_path / "project", text)
    shutil.copytree(ROOT / "envs", project.path / "envs", ignore=shutil.ignore_patterns(".venv"))
    assert project.planned() == dict(expected)


@pytest.mark.slow
def test_the_reference_study_is_planned_whole(tmp_path: Path) -> None:
    planned = project_of(tmp_path / "project", REFERENCE.read_text(encoding="utf-8")).planned()
    assert {planned[rule] for rule in ("world", "samples", "tasks", "evaluation_sets")} == {1}
    assert sum(count for rule, count in planned.items() if rule.startswith("train_")) == 5
    assert planned["score_sae"] == 5 * 7 * 5 + 1 + 2 * 4 and planned["score_repeat"] == 2
    assert sum(count for rule, count in planned.items() if rule.startswith("score_trajectory_")) == 5


@pytest.mark.slow
def test_published_worlds_and_saes_are_planned_instead_of_building_and_training(tmp_path: Path) -> None:
    raw: dict[str, Any] = yaml.safe_load(REFERENCE.read_text(encoding="utf-8"))
    section = raw["substrates"]["synth16k"]
    for key in ("world", "replicates", "trajectories"):
        del section[key]
    saes = {"input": "synth-sae-bench-16k-saes", "arch": "batchtopk", "folder": "btk/l0-{l0}/seed-{seed}"}
    section |= {"published_world": {"input": "synth-sae-bench-16k"}, "panel": {}}
    section["published"] = [saes | {"l0": [15, 25], "training_seeds": [0, 1]}]
    section["controls"]["bases"] = ["published_batchtopk_l0_25_seed_0"]
    project = project_of(tmp_path / "project", yaml.safe_dump(raw))
    planned = project.planned()
    assert planned["score_sae"] == 4 + 1 + 4 and planned["world"] == 1
    assert sum(count for rule, count in planned.items() if rule.startswith("published_saes_")) == 1
    assert not [rule for rule in planned if rule.startswith("train_")]
    project.variables |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    said = project.snakemake("data/worlds/synth16k/synth16k/world.json", check=False)
    assert "decoderesearch/synth-sae-bench-16k-v1/synthetic_model_config.json: could not be fetched" in said
    assert "What to do: connect to the hub" in said and "Traceback" not in said
