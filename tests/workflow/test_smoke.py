"""The real path once, end to end: the smoke study with a local SAE as a panel entry, recorded, cloned, and killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.project import ROOT, Project, project_of, pull_away_from

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # sae_lens imports deprecated names
]
LOCAL = "local/mine"
SCORE = "results/scores/smoke/mini/mine/42.parquet"


def save_local_sae(folder: Path) -> None:
    """A JumpReLU SAE as SAELens itself saves one, with weights drawn at random."""
    import torch
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig

    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=48, d_sae=64, device="cpu"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 7)
        sae.threshold.copy_(torch.full((64,), 0.2))
    sae.save_model(str(folder))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone of the recorded smoke study, after `dvc pull`."""
    text = (ROOT / "studies/smoke.yaml").read_text(encoding="utf-8")
    entry = f"    d_sae: 64\n    local: [{{id: mine, path: {LOCAL}}}]\n"
    project = project_of(tmp_path_factory.mktemp("smoke") / "project", text.replace("    d_sae: 64\n", entry))
    save_local_sae(project.path / LOCAL)
    project.git("add", "-A")
    project.git("commit", "-qm", "a local SAE")
    project.snakemake()
    project.assay("record", "--push")
    project.git("add", "-A")
    project.git("commit", "-qm", "results")
    return pull_away_from(project, tmp_path_factory.mktemp("clone") / "clone")


def test_a_clone_that_pulled_has_nothing_to_do_and_the_local_sae_was_scored(smoke: Project) -> None:
    assert smoke.planned() == {}
    assert "up to date" in smoke.dvc("status")
    import polars as pl

    table = pl.read_parquet(smoke.path / "results/table/smoke/scores.parquet").filter(sae_id="mine")
    assert set(table["metric"]) >= {"ground_truth", "sparse_probing", "sae_probes", "tpp", "scr"}
    assert set(table["eval_seed"]) == {42, 123}
    assert table.filter(status="ok", metric="ground_truth", component="mcc")["value"].is_between(0, 1).all()


def test_it_is_recorded_and_verifies(smoke: Project) -> None:
    smoke.record_and_verify()


def test_b_another_local_sae_is_scored_again(smoke: Project) -> None:
    weights = f"{LOCAL}/sae_weights.safetensors"
    smoke.flip(weights)
    planned = smoke.planned()
    assert planned["score_sae"] == 1
    smoke.flip(weights)
    assert smoke.planned() == {}


def test_e_killed_while_scoring_nothing_is_lost(smoke: Project) -> None:
    smoke.edit("config.yaml", "known_validity: {tau: 0.01}", "known_validity: {tau: 0.02}")
    smoke.kill_during_run("results/scores/smoke/mini/*/.partial-*")
    smoke.snakemake("--unlock")
    files = (smoke.path / ".sae-assay/ledger/smoke").glob("*.jsonl")
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    finished = sum(record["type"] == "run" and record["rule"].startswith("score") for record in records)
    ran = smoke.ran()
    # 5 trained SAEs, 5 controls and the local one, 2 trajectories and a repeat: each scored once, before the kill or after.
    assert sum(count for rule, count in ran.items() if rule.startswith("score")) + finished == 14
    assert not list(smoke.path.rglob(".partial-*/*.parquet"))
    assert smoke.planned() == {}
