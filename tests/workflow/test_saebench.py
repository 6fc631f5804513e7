"""The real SAEBench through the whole workflow, on a stand-in language model of a few thousand random weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from tests.lms.stand_in import MODEL, register_stand_in
from tests.project import ROOT, Project, project_of
from tests.saebench.environment import INSTALLED

from sae_assay.audit.expected import jobs
from sae_assay.plan import Plan
from sae_assay.study import Study, seconds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.saebench,
    INSTALLED,
]
SAE = "batchtopk_l0_04_seed_0"
LIBRARY = ("saebench_sparse_probing", "saebench_tpp", "core")
STUDY: dict[str, Any] = {
    "study": "library",
    "seeds": {"evaluation": [42, 123], "snapshot": [42], "repeat": 42},
    "substrates": {
        "lm": {
            "kind": "lm",
            "lm": {
                "input": MODEL,
                "layer": 1,
                "hook": "blocks.1.hook_resid_post",
                "text_input": "sae-probes-data",
                "context": 16,
                "training_tokens": 8000,
                "probe_datasets": ["96_spam_is"],
                "scr_crossings": [["5_hist_fig_ismale", "7_hist_fig_ispolitician"]],
                "class_dataset": "97_news_class",
                "rows_per_dataset": 200,
                "reconstruction_rows": 8,
            },
            "d_sae": 16,
            "training": {"samples": 16_000, "batch_size": 512, "lr": 3.0e-3, "dead_feature_window": 50},
            "panel": {"batchtopk": {"l0": [4]}},
        }
    },
    "metrics": {
        "reconstruction": {},
        "saebench_sparse_probing": {"k_probe": [1, 5], "context": 16, "train_rows": 100, "test_rows": 30},
        "saebench_tpp": {
            "n": [2, 10],
            "modes": ["library", "reseeded"],
            "context": 16,
            "train_rows": 100,
            "test_rows": 30,
        },
        "saebench_scr": {"n": [2, 10], "context": 16, "train_rows": 80, "test_rows": 24},
        "core": {
            "modes": ["library", "reseeded"],
            "context": 16,
            "prompts_per_batch": 4,
            "reconstruction_batches": 2,
            "sparsity_batches": 2,
        },
    },
    "scorecard": {"primary": {"saebench_tpp": {"component": "score", "hp": 2, "mode": "library", "truth": "mcc"}}},
}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("library")
    project = project_of(folder / "project", yaml.safe_dump(STUDY))
    shutil.copytree(
        ROOT / "envs/saebench", project.path / "envs/saebench", ignore=shutil.ignore_patterns(".venv", "__pycache__")
    )
    (project.path / "envs/saebench/.venv").symlink_to(ROOT / "envs/saebench/.venv")
    register_stand_in(project, folder / "wheels")
    project.snakemake("--cores", "1")
    return project


def rows_of(project: Project, metric: str) -> pl.DataFrame:
    table = pl.read_parquet(project.path / "results/table/library/scores.parquet")
    return table.filter(metric=metric).sort("component", "hp_value", "mode", "eval_seed")


def test_every_metric_scores_at_every_seed(scored: Project) -> None:
    for metric in LIBRARY:
        found = rows_of(scored, metric)
        assert set(found["status"]) == {"ok"} and set(found["eval_seed"]) == {42, 123}
        assert set(found["sae_id"]) == {SAE}


def test_library_numbers_are_what_their_rows_allow(scored: Project) -> None:
    tpp = rows_of(scored, "saebench_tpp")
    wide = tpp.pivot("component", index=["mode", "hp_value", "eval_seed"], values="value")
    assert (wide["score"] - wide["intended"] + wide["unintended"]).abs().max() < 1e-6
    assert set(tpp["task"]) == {"97_news_class"}
    probing = rows_of(scored, "saebench_sparse_probing").filter(component="accuracy")
    counted = probing["value"] * 2 * 30  # both classes of the set are tested on 15 + 15 rows each
    assert (counted - counted.round()).abs().max() < 1e-4 and probing["value"].mean() > 0.5
    core = rows_of(scored, "core").filter(component="cossim")
    assert core["value"].is_between(0.3, 1).all()


def test_what_a_seed_moves_is_told_from_what_it_does_not(scored: Project) -> None:
    behaviour = pl.read_parquet(scored.path / "results/statistics/library/seed_behaviour.parquet")
    said = {(r["metric"], r["mode"]): set() for r in behaviour.iter_rows(named=True)}
    for row in behaviour.filter(pl.col("component").is_in(["score", "accuracy", "cossim"])).iter_rows(named=True):
        said[row["metric"], row["mode"]].add(row["behaviour"])
    assert said["core", "library"] == {"seed_inert"}
    assert said["core", "reseeded"] == {"ok"}
    assert "seed_uncontrolled" not in said["saebench_tpp", "library"] | said["saebench_tpp", "reseeded"]
    assert "ok" in said["saebench_tpp", "library"] and "ok" in said["saebench_sparse_probing", "library"]


def test_the_ledger_ties_rows_to_the_audited_version_and_the_verifier_knows_the_jobs(
    scored: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scored.path)
    wanted = {
        job.key: job for job in jobs(Plan(Study.load("config.yaml"))).values() if job.rule.startswith("saebench_")
    }
    records = [
        json.loads(line)
        for file in Path(".sae-assay/ledger/library").glob("*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    ran = [r for r in records if r["type"] == "run" and r["rule"].startswith("saebench_")]
    assert len(ran) == len(wanted) == 2 * 4 + 2 * 4 + 4  # caches, scores, repeats
    assert {Path(path).name for job in wanted.values() for path in job.inputs} >= {
        "uv.lock",
        "run.py",
        "metrics_core.py",
    }
    assert scored.planned() == {}


def test_another_version_of_the_environment_is_another_input(scored: Project) -> None:
    scored.edit("envs/saebench/metrics_core.py", "LIBRARY_SEED = 42", "LIBRARY_SEED = 43")
    planned = scored.planned()
    assert planned["saebench_cache"] == 2 and "saebench_repeat" in planned
    scored.edit("envs/saebench/metrics_core.py", "LIBRARY_SEED = 43", "LIBRARY_SEED = 42")
    assert scored.planned() == {}


def test_the_benchmark_times_both_sides_and_finds_equal_scores(scored: Project, tmp_path: Path) -> None:
    """On what the run left: token activations of the language model, pads and special tokens as SAEBench counts them."""
    command = [sys.executable, str(ROOT / "benchmarks/saebench.py"), "config.yaml", "lm", SAE, "42"]
    options = ["--json", "--machine", "a machine of the test", "--write", str(tmp_path / "seconds.json")]
    found = json.loads(scored.run(*command, *options).stdout)
    kept = seconds.load(str(tmp_path / "seconds.json"))
    assert found == {name: value for name, value in kept.items() if name != "sha256"}
    assert (found["sae_bench"], found["machine"]) == ("0.6.0", "a machine of the test")
    assert {m: one["scores"] for m, one in found["metrics"].items()} == {
        "saebench_tpp": 2,
        "saebench_scr": 2,
        "saebench_sparse_probing": 2 * 2,  # classes and k_probe
    }
    for metric in ("saebench_tpp", "saebench_scr"):
        assert (found["metrics"][metric]["unequal"], found["metrics"][metric]["largest_difference"]) == (0, 0)
    assert found["metrics"]["saebench_sparse_probing"]["largest_difference"] <= 1 / 30  # a test row
    assert all(one["library"] > one["ours"] > 0 for one in found["metrics"].values())


def test_it_is_recorded_and_verifies_also_from_elsewhere(scored: Project, tmp_path: Path) -> None:
    scored.record_and_verify()
    verify = [sys.executable, "-m", "sae_assay.cli", "verify", "--root", str(scored.path), "--json"]
    done = subprocess.run(verify, cwd=tmp_path, env=scored.variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, json.loads(done.stdout)["findings"]
    scored.edit("envs/saebench/metrics_core.py", "LIBRARY_SEED = 42", "LIBRARY_SEED = 43")
    found = json.loads(scored.assay("verify", "--json", check=False).stdout)["findings"]
    assert {(one["code"], one["item"]) for one in found if not one["note"]} == {
        ("CODE_CLOSURE_MISMATCH", "envs/saebench/metrics_core.py")
    }
    scored.edit("envs/saebench/metrics_core.py", "LIBRARY_SEED = 43", "LIBRARY_SEED = 42")
