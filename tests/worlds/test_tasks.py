from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sae_assay.study.worlds import Tasks
from sae_assay.worlds import tasks
from sae_assay.worlds.pool import Pool

D_SAE = 16
NUM_FEATURES = 48
ROWS = 4000


def nodes() -> list[dict[str, Any]]:
    """Two roots; each has 2 children; each child 4 exclusive leaves: features 0-1, 2-5, 6-21."""
    flat = [{"feature": r, "parent": None, "root": r, "depth": 0, "exclusive_children": True} for r in (0, 1)]
    flat += [
        {"feature": 2 + i, "parent": i // 2, "root": i // 2, "depth": 1, "exclusive_children": True} for i in range(4)
    ]
    return flat + [
        {"feature": 6 + i, "parent": 2 + i // 4, "root": i // 8, "depth": 2, "exclusive_children": False}
        for i in range(16)
    ]


@pytest.fixture(scope="module")
def pool() -> Pool:
    generator = np.random.default_rng(0)
    rates = np.linspace(0.15, 0.01, NUM_FEATURES)
    fires = generator.random((ROWS, NUM_FEATURES)) < rates
    return Pool.from_dense(np.zeros((ROWS, 2), np.float32), fires.astype(np.float32))


def wanted(**more: Any) -> Tasks:
    rates = {"single_in_rate": (0.1, 0.2), "single_out_rate": (0.0, 0.08), "boolean_out_rate": (0.01, 0.02)}
    sections = {
        "sparse_probing": {"single_in": 3, "single_out": 2, "per_boolean": 1, **rates},
        "tpp": {"in": 2, "out": 1, "min_rate": 0.001},
        "scr": {"per_combination": 1, "max_tasks": 6, "min_cell": 5, "min_cell_out_out": 2, "or_out_size": 2},
    }
    return Tasks.model_validate(sections | more)


def test_single_features_lie_on_their_side_and_fire_at_the_rates_asked_for(pool: Pool) -> None:
    chosen = tasks.choose(pool, nodes(), D_SAE, wanted(), "s", "w")["sparse_probing"]
    single = [t for t in chosen if t["op"] == "single"]
    assert [t["kind"] for t in single] == ["in"] * 3 + ["out"] * 2
    for task in single:
        (feature,) = task["features"]
        assert (feature < D_SAE) == (task["kind"] == "in")
        assert task["rate"] == pool.rates[feature]
        low, high = (0.1, 0.2) if task["kind"] == "in" else (0.0, 0.08)
        assert low <= task["rate"] <= high


def test_boolean_concepts_keep_their_bounds_and_ids_are_unique(pool: Pool) -> None:
    chosen = tasks.choose(pool, nodes(), D_SAE, wanted(), "s", "w")["sparse_probing"]
    assert len({t["id"] for t in chosen}) == len(chosen) == 3 + 2 + 13
    for task in chosen:
        if task["status"] != "ok" or task["op"] == "single":
            continue
        low, high = next(b for kind, op, b, _ in tasks.BOOLEANS if (kind, op) == (task["kind"], task["op"]))
        assert low <= pool.labels(task["op"], task["features"]).mean() <= high
        sides = {"in" if f < D_SAE else "out" for f in task["features"]}
        assert sides == ({"in", "out"} if task["kind"] == "mixed" else {task["kind"]})


def test_equal_names_choose_equal_tasks(pool: Pool) -> None:
    first = tasks.choose(pool, nodes(), D_SAE, wanted(), "s", "w")
    assert first == tasks.choose(pool, nodes(), D_SAE, wanted(), "s", "w")
    assert first != tasks.choose(pool, nodes(), D_SAE, wanted(), "s", "other")


def test_sibling_groups_are_all_in_or_all_out_and_a_missing_one_says_why(pool: Pool) -> None:
    chosen = tasks.choose(pool, nodes(), D_SAE, wanted(), "s", "w")["tpp"]
    built = {t["parent"]: t["classes"] for t in chosen if t["status"] == "ok"}
    # Features 14-17 straddle d_sae 16, so their group is neither in nor out.
    assert built == {2: [6, 7, 8, 9], 3: [10, 11, 12, 13], 5: [18, 19, 20, 21]}
    more = tasks.choose(pool, nodes(), D_SAE, wanted(tpp={"in": 2, "out": 2, "min_rate": 0.001}), "s", "w")["tpp"]
    (missing,) = [t for t in more if t["status"] != "ok"]
    assert (missing["kind"], missing["status"]) == ("out", "not_applicable")
    assert "of 1 out sibling groups 1 fire" in missing["reason"]


def test_groups_that_fire_too_rarely_are_not_used(pool: Pool) -> None:
    chosen = tasks.choose(pool, nodes(), D_SAE, wanted(tpp={"in": 1, "out": 1, "min_rate": 0.999}), "s", "w")["tpp"]
    assert [t["status"] for t in chosen] == ["too_few_rows"] * 2


def test_scr_sides_come_from_different_roots_and_fill_every_cell(pool: Pool) -> None:
    rates = {"in_label_rate": (0.03, 0.3), "out_rate": (0.0, 0.2), "in_rate": (0.0, 0.3)}
    section = {"per_combination": 2, "max_tasks": 8, "min_cell": 5, "min_cell_out_out": 2, "or_out_size": 2, **rates}
    chosen = tasks.choose(pool, nodes(), D_SAE, wanted(scr=section), "s", "w")["scr"]
    root = {n["feature"]: n["root"] for n in nodes()}
    built = [t for t in chosen if t["status"] == "ok"]
    assert 0 < len(built) <= 8
    assert any("in" in t["kind"] for t in built)
    for task in built:
        sides = [{root[f] for f in task[side]["features"]} for side in ("target", "spurious")]
        assert all(len(side) == 1 for side in sides)
        assert sides[0] != sides[1]
        t, s = (pool.labels(task[side]["op"], task[side]["features"]) for side in ("target", "spurious"))
        assert task["cells"]["11"] == (t & s).sum()
        assert sum(task["cells"].values()) == ROWS
        assert min(task["cells"].values()) >= (2 if task["kind"] == "out-out" else 5)


def test_an_scr_combination_that_cannot_be_built_is_a_row(pool: Pool) -> None:
    section = {"per_combination": 1, "max_tasks": 9, "min_cell": 10**6, "min_cell_out_out": 10**6}
    chosen = tasks.choose(pool, nodes(), D_SAE, wanted(scr=section), "s", "w")["scr"]
    assert len(chosen) == 9
    assert {t["status"] for t in chosen} == {"too_few_rows"}
    assert len({t["id"] for t in chosen}) == 9


def test_a_world_without_hierarchy_says_so(pool: Pool) -> None:
    chosen = tasks.choose(pool, None, D_SAE, wanted(), "s", "w")
    for family in ("tpp", "scr"):
        (row,) = chosen[family]
        assert row["status"] == "not_applicable"
        assert "hierarchy" in row["reason"]
