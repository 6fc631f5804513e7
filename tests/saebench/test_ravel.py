"""RAVEL through the real sae_bench (envs/saebench), on a stand-in model that was taught stand-in data: no result.

One process does all jobs, because its imports cost more than they do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.saebench import stand_ins
from tests.saebench.environment import INSTALLED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.saebench,
    INSTALLED,
]
PARTS = ["disentanglement_score", "cause_score", "isolation_score"]
TASKS = ["__all__", "city", "city_Country", "city_Continent"]


def job(folder: Path, model: str, layer: int, cache: str, **config: Any) -> dict[str, Any]:
    """48 pairs of either kind and attribute, from the 24 cities in two templates."""
    own = {"num_pairs_per_attribute": 48, "top_n_entities": 24, "llm_batch_size": 8}
    own |= {"entity_attribute_selection": {"city": ["Country", "Continent"]}, "learning_rate": 0.05, "num_epochs": 10}
    return {
        "metric": "ravel",
        "model": {"kind": "hf", "path": str(folder / model), "name": f"stand-in/{model}"},
        "hook": f"blocks.{layer}.hook_resid_post",
        "layer": layer,
        "d_model": stand_ins.D,
        "sae": str(folder / "sae"),
        "seed": 0,
        "mode": "library",
        "cache": str(folder / "caches" / cache),
        "config": own | config,
        "data": {"ravel": str(folder / "ravel")},
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ravel")
    stand_ins.write_llama(folder / "llama")
    stand_ins.write_llama(folder / "untaught", steps=0)
    stand_ins.write_llama(folder / "no_bos", steps=0, begins=False)
    stand_ins.write_random(folder / "neox", "GPTNeoX")
    stand_ins.write_random(folder / "gemma", "Gemma2", num_key_value_heads=2, head_dim=8)
    stand_ins.write_sae(folder / "sae")
    stand_ins.write_ravel(folder / "ravel")
    stand_ins.write_ravel(folder / "torn")
    (folder / "torn" / "ravel_city_entity_attributes.json").write_text("{")
    fast = {"num_epochs": 1, "full_dataset_downsample": 80}
    jobs = {
        "fill": job(folder, "llama", 0, "a") | {"sae": None},
        "first_block": job(folder, "llama", 0, "a"),
        "last_block": job(folder, "llama", 1, "a"),
        "other_seed": job(folder, "llama", 0, "b") | {"seed": 1},
        "cold": job(folder, "llama", 0, "c", **fast),
        "warm": job(folder, "llama", 0, "c", **fast),
        "large_batch": job(folder, "llama", 0, "a", llm_batch_size=64),
        "untaught": job(folder, "untaught", 0, "d"),
        "gemma": job(folder, "gemma", 0, "k"),
        "no_bos": job(folder, "no_bos", 0, "e"),
        "neox": job(folder, "neox", 0, "f"),
        "no_data": job(folder, "llama", 0, "g") | {"data": {"ravel": None}},
        "no_files": job(folder, "llama", 0, "h") | {"data": {"ravel": str(folder)}},
        "torn": job(folder, "llama", 0, "i") | {"data": {"ravel": str(folder / "torn")}},
        "no_attribute": job(folder, "llama", 0, "j", entity_attribute_selection={"city": ["Country", "Mayor"]}),
    }
    return dict(stand_ins.run_all(jobs, folder))


def values(answers: dict[str, dict[str, Any]], name: str) -> dict[tuple[str, str], float]:
    return {(row["task"], row["component"]): row["value"] for row in answers[name]["rows"]}


def test_the_last_block_changes_nothing_that_comes_after(answers: dict[str, dict[str, Any]]) -> None:
    """No attention follows it, so what stands at the entity's token is never read: all is isolated, nothing caused."""
    found = values(answers, "last_block")
    assert found == {(task, part): v for task in TASKS for part, v in zip(PARTS, (0.5, 0.0, 1.0), strict=True)}


def test_a_trained_mask_moves_the_attribute_where_the_model_reads_it(answers: dict[str, dict[str, Any]]) -> None:
    found = values(answers, "first_block")
    assert set(found) == {(task, part) for task in TASKS for part in PARTS}
    for task in TASKS:
        score, cause, isolation = (found[task, part] for part in PARTS)
        assert score == pytest.approx((cause + isolation) / 2)
        assert cause > 1 / 3 and 0.2 < isolation < 1  # untouched: 0 and 1; a city drawn at random: 1/6 at most
    for part in PARTS:
        assert found["__all__", part] == found["city", part]
        assert found["city", part] == pytest.approx((found["city_Country", part] + found["city_Continent", part]) / 2)


def test_the_seed_draws_pairs(answers: dict[str, dict[str, Any]]) -> None:
    assert values(answers, "other_seed") != values(answers, "first_block")


def test_the_first_sae_of_a_seed_is_scored_as_the_next(answers: dict[str, dict[str, Any]]) -> None:
    """SAEBench alone draws other pairs for it: it thins the prompts out with the same generator, right before."""
    assert answers["fill"]["rows"] == []
    assert values(answers, "cold") == values(answers, "warm") and None not in values(answers, "cold").values()


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("large_batch", "too_few_rows", "96 pairs of prompts fill no batch of 64"),
        ("untaught", "too_few_rows", "the model rightly completes city's "),
        ("gemma", "too_few_rows", "the model rightly completes city's "),
        ("no_bos", "not_applicable", "begins every text with a BOS token"),
        ("neox", "not_applicable", "families Gemma or Llama; this one is a GPTNeoXForCausalLM"),
        ("no_data", "not_applicable", "needs the RAVEL data"),
    ],
)
def test_where_it_cannot_judge_it_says_why(
    answers: dict[str, dict[str, Any]], name: str, status: str, said: str
) -> None:
    rows = answers[name]["rows"]
    assert [row["component"] for row in rows] == PARTS
    assert all(row["value"] is None and row["status"] == status and said in row["reason"] for row in rows), rows


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_files", "ravel_city_attribute_to_prompts.json"),
        ("torn", "ravel_city_entity_attributes.json"),
        ("no_attribute", "has no prompts for Mayor"),
    ],
)
def test_damaged_data_are_refused(answers: dict[str, dict[str, Any]], name: str, said: str) -> None:
    assert said in json.dumps(answers[name]["error"])
