"""The section `anatomy`: what it asks for, what it refuses, and a study that knows nothing of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from sae_assay.audit import expected
from sae_assay.errors import AssayError
from sae_assay.plan import Plan
from sae_assay.study import Study

ROOT = Path(__file__).parents[2]
RAW: dict[str, Any] = yaml.safe_load((ROOT / "studies/anatomy.yaml").read_text())


def test_a_study_without_an_anatomy_asks_for_the_same_jobs_as_ever() -> None:
    plan = Plan(Study.load(ROOT / "studies/smoke.yaml"))
    assert not [key for key in expected.jobs(plan) if "anatomy" in key]
    assert set(plan.tables()) == {"scores", "repeats", "saes", "tasks", "coverage"}
    assert "anatomy" not in plan.design() and "text_share" not in plan.choices()
    assert plan.family("scores") == plan.score_files() and not plan.anatomy_files()


def test_jobs_cover_every_block_once_and_feed_the_tables() -> None:
    plan = Plan(Study.load(ROOT / "studies/anatomy.yaml"))
    jobs = expected.jobs(plan)
    scoring = [job for job in jobs.values() if job.rule.startswith("anatomy_") and job.rule != "anatomy_table"]
    for name, section in RAW["anatomy"]["substrates"].items():
        mine = [job for job in scoring if job.settings["substrate"] == name]
        assert sorted(b for job in mine for b in job.settings["blocks"]) == list(range(section["levels"]))
        assert all(len(job.outputs) == len(section["saes"]) for job in mine)
    (table,) = (job for job in jobs.values() if job.rule == "anatomy_table")
    assert set(table.inputs) == {path for job in scoring for path in job.outputs}
    assert set(table.outputs) < set(next(job for job in jobs.values() if job.rule == "statistics").inputs)


def test_metrics_are_scored_at_the_hyper_parameter_of_their_verdict() -> None:
    jobs = expected.jobs(Plan(Study.load(ROOT / "config.yaml")))
    both_modes = {"n": [10], "modes": ["saebench", "strict"]}
    scoring = [job for job in jobs.values() if job.rule.startswith("anatomy_smollm_two")]
    assert len(scoring) == 4
    for job in scoring:
        assert job.settings["metrics"] == {"sparse_probing": {"k_probe": [5]}, "tpp": both_modes, "scr": both_modes}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"saes": ["batchtopk_l0_08_seed_0", "batchtopk_l0_09_seed_0"]}, ["no SAE of the panel", "did you mean"]),
        ({"saes": ["batchtopk_l0_08_seed_0"]}, ["anatomy.substrates.mini.saes", "at least 2"]),
        ({"sources": ["data", "data"]}, ["sources", "twice"]),
        ({"sources": ["data", "seeds"]}, ["sources", "negatives"]),
        ({"text_share": 0.5}, ["text_share", "language model"]),
        ({"levels": 1}, ["levels", "3"]),
        ({"level": 20}, ["anatomy.substrates.mini.level", "did you mean levels"]),
    ],
)
def test_an_impossible_anatomy_is_refused(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    raw = copy.deepcopy(RAW)
    raw["anatomy"]["substrates"]["mini"].update(change)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(AssayError) as error:
        Study.load(path)
    for word in words:
        assert word in str(error.value)


def test_a_language_model_has_no_tasks_to_redraw_and_needs_a_share_of_text(tmp_path: Path) -> None:
    for change, word in (({"sources": ["tasks", "split"]}, "a lm has data"), ({"text_share": None}, "text_share")):
        raw = copy.deepcopy(RAW)
        raw["anatomy"]["substrates"]["smollm2"].update(change)
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(raw))
        with pytest.raises(AssayError, match=word):
            Study.load(path)
