"""Published numbers find the rows of this study that they may be set beside."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from sae_assay.report import paper

CELL = {"metric": "sparse_probing", "component": "accuracy", "mode": None, "truth": "mcc"}


def row(**changes: Any) -> dict[str, Any]:
    return {"substrate": "w", **CELL, "hp_value": 5, "task_kind": "in", "spearman": 0.5, **changes}


def published(statistic: str) -> dict[str, Any]:
    found: dict[str, Any] = paper.published().filter(statistic=statistic).row(0, named=True)
    return found


def test_every_published_number_has_a_place() -> None:
    assert set(paper.published()["statistic"]) <= set(paper.MATCHES)


def test_a_correlation_is_found_on_in_tasks_at_its_own_setting() -> None:
    table = pl.DataFrame([row(), row(task_kind="all"), row(hp_value=1), row(truth="f1"), row(metric="tpp")])
    wanted = {"metric": "sparse_probing", "hp_value": 5}
    assert paper.matching(wanted, paper.MATCHES["spearman_mcc"], table) == [row()]


def test_the_extremes_are_those_over_all_settings() -> None:
    table = pl.DataFrame([row(hp_value=k, spearman=v) for k, v in ((1, 0.3), (5, 0.8), (16, 0.6))])
    for statistic, expected in (("spearman_mcc_min", 0.3), ("spearman_mcc_max", 0.8)):
        rows = paper.matching(published(statistic), paper.MATCHES[statistic], table)
        assert rows[-1]["spearman"] == expected  # the page takes a substrate's last


def test_an_architectures_truth_is_found_at_its_l0() -> None:
    keys = [("f1", "batchtopk", 25.0), ("f1", "batchtopk", 20.0), ("mcc", "batchtopk", 25.0), ("f1", "standard", 25.0)]
    table = pl.DataFrame([{"substrate": "w", "component": c, "arch": a, "target_l0": l0} for c, a, l0 in keys])
    rows = paper.matching(published("f1_batchtopk"), paper.MATCHES["f1_batchtopk"], table)
    assert [(r["component"], r["arch"], r["target_l0"]) for r in rows] == [keys[0]]


@pytest.mark.parametrize(("changed", "same"), [({}, True), ({"num_features": 512}, False), ({"d_sae": 128}, False)])
def test_only_the_published_world_and_width_are_comparable(changed: dict[str, int], same: bool) -> None:
    sizes = {**paper.SYNTH_SAE_BENCH, **changed}
    assert paper.same_world({"d_sae": sizes.pop("d_sae"), "world": sizes}) is same


def test_a_language_model_is_no_such_world() -> None:
    assert not paper.same_world({"d_sae": 4096, "world": None})
