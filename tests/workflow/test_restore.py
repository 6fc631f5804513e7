"""Snakemake, DVC and the ledger as one: the properties A to G of the design, on the tiny study."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow
SCORE = "results/scores/tiny/toy/oracle/123.parquet"
DOWNSTREAM = {"table": 1, "statistics": 1, "charts": 1, "report": 1}
REMADE = {"samples": 1, "evaluation_sets": 1}  # not in the root remote; made again when a job reads them


def test_a_clone_that_pulled_has_nothing_to_do(pulled):
    assert pulled.planned() == {}
    assert "up to date" in pulled.dvc("status")
    assert not (pulled.path / "data/activations/tiny").exists()


EDITS = {
    "a module of the report": ("src/sae_assay/report/page.py", None, {"report": 1}),
    "a threshold": ("config.yaml", ("pure_noise: {component: score, truth: mcc}", "pure_noise: {component: score, truth: f1}"),
                    {"statistics": 1, "charts": 1, "report": 1}),
    "the snapshot seeds shrink": ("config.yaml", ("snapshot: [42, 123]", "snapshot: [42]"),
                                  {**REMADE, "score_trajectory_toy": 3, **DOWNSTREAM}),
    "the evaluation seeds grow": ("config.yaml", ("evaluation: [42, 123, 456]", "evaluation: [42, 123, 456, 789]"),
                                  {**REMADE, "train_toy_toy": 1, "controls_toy": 1, "tasks": 1, "score_sae": 7,
                                   "score_trajectory_toy": 3, "score_repeat": 1, **DOWNSTREAM}),
    "the panel grows": ("config.yaml", ("toy: {l0: [2, 3, 4]}", "toy: {l0: [2, 3, 4, 5]}"),
                        {**REMADE, "train_toy_toy": 1, "controls_toy": 1, "score_sae": 8, "score_trajectory_toy": 3,
                         "score_repeat": 1, **DOWNSTREAM}),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_b_an_edit_plans_its_dependents_and_undone_nothing(clone, name):
    file, change, expected = EDITS[name]
    if change:
        clone.edit(file, *change)
    else:
        with (clone.path / file).open("a", encoding="utf-8") as opened:
            opened.write("# an edit\n")
    assert clone.planned() == expected
    clone.git("checkout", "-q", ".")
    assert clone.planned() == {}


def test_b_an_edit_runs_only_what_it_changes_and_git_and_dvc_bring_the_old_state_back(clone):
    clone.edit("config.yaml", "toy: {l0: [2, 3, 4]}", "toy: {l0: [2, 3]}")
    assert clone.ran() == {**REMADE, "train_toy_toy": 1, **DOWNSTREAM}
    assert clone.planned() == {}
    assert "up to date" not in clone.dvc("status")
    refused = clone.assay("record", check=False)
    assert refused.returncode == 2
    assert "toy_l0_04_seed_0" in refused.stdout
    assert "--prune" in refused.stdout
    clone.assay("record", "--prune")
    assert "up to date" in clone.dvc("status")
    assert "didn't change" in clone.dvc("repro")
    assert clone.planned() == {}
    clone.git("checkout", "-q", ".")
    clone.dvc("checkout", "-q", "-f")
    assert clone.planned() == {}


def test_c_a_flipped_and_a_deleted_artifact_are_made_again_and_nothing_else(clone):
    clone.flip(SCORE)
    assert clone.planned() == {**REMADE, "score_sae": 1, **DOWNSTREAM}
    assert clone.ran() == {**REMADE, "score_sae": 1}
    (clone.path / "results/report/tiny/report.html").unlink()
    assert clone.ran() == {"report": 1}
    assert clone.planned() == {}
    assert "up to date" in clone.dvc("status")


def test_e_killed_at_any_moment_nothing_looks_finished_that_is_not(clone):
    clone.edit("config.yaml", "tau: 0.01", "tau: 0.02")
    clone.kill_during_run("results/scores/tiny/toy/*/.partial-*")
    clone.snakemake("--unlock")
    lines = [p.read_text().splitlines() for p in (clone.path / ".sae-assay/ledger/tiny").glob("*.jsonl")]
    records = [json.loads(line) for file in lines for line in file]
    finished = sum(record["type"] == "run" and record["rule"].startswith("score") for record in records)
    ran = clone.ran()
    # 7 SAEs, 3 trajectories and a repeat: each is scored once, before the kill or after it.
    assert sum(count for rule, count in ran.items() if rule.startswith("score")) + finished == 11
    assert not list(clone.path.rglob(".partial-*/*.parquet"))
    assert clone.planned() == {}


def test_g_why_names_the_setting_and_the_way(clone):
    report = "results/report/tiny/report.html"
    assert clone.assay("why", report).stdout.strip() == f"{report} is current"
    clone.edit("config.yaml", "tau: 0.01", "tau: 0.02")
    told = clone.assay("why", report, "--json", check=False)
    assert told.returncode == 1
    causes = json.loads(told.stdout)
    assert any("settings metrics.known_validity.tau was 0.01, is 0.02" in cause["reason"] for cause in causes)
    assert all(cause["way"][0] == report for cause in causes)


def test_a_damaged_input_and_a_missing_study_are_told_in_one_line(clone):
    told = clone.snakemake("-n", "--config", "study=tinny", check=False)
    assert "no such study" in told
    clone.edit("config.yaml", "snapshot: [42, 123]", "snapshots: [42, 123]")
    told = clone.snakemake("-n", check=False)
    assert "snapshot" in told
    assert "Traceback" not in told
