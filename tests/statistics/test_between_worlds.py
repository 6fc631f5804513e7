"""Verdicts over several worlds against scipy, from the worlds' own scorecard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from tests.statistics import factory

from sae_assay.statistics import runner

WORLDS = ("mini", "mini_b", "mini_c")


def other_world(table: pl.DataFrame, name: str, seed: int) -> pl.DataFrame:
    """The same design in another world: scores moved by noise, then kept in their range."""
    noise = np.random.default_rng(seed).normal(0, 0.02, table.height)
    moved = (pl.col("value") + pl.Series(noise)).clip(0, 1)
    return table.with_columns(pl.lit(name).alias("substrate"), value=moved)


def compute(folder: Path, worlds: tuple[str, ...], training_seeds: int = 3) -> dict[str, pl.DataFrame]:
    table = factory.score_table().filter(substrate="mini").filter(pl.col("metric") != "scr")
    table = table.filter(pl.col("training_seed").fill_null(0) < training_seeds)
    tables = [table if name == "mini" else other_world(table, name, i) for i, name in enumerate(worlds)]
    written = factory.write_tables(folder, pl.concat(tables).sort("substrate", maintain_order=True))
    config = {**factory.CONFIG, "families": dict.fromkeys(worlds, "mini")}
    return runner.compute({name: written / f"{name}.parquet" for name in runner.TABLES}, config)


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    return compute(tmp_path_factory.mktemp("worlds"), WORLDS)


def test_mean_interval_and_sd_are_scipys(marts: dict[str, pl.DataFrame]) -> None:
    card = marts["scorecard"].filter(pl.col("verdict") != "NOT MEASURED")
    checked = 0
    for row in marts["between_worlds"].filter(pl.col("n_measured") == 3).to_dicts():
        same = card.filter(metric=row["metric"], criterion=row["criterion"], task_kind=row["task_kind"])
        values = same["estimate"].to_numpy()
        low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values)) if np.ptp(values) else (values[0],) * 2
        found = [row[name] for name in ("mean", "sd_between", "low", "high", "lowest", "highest")]
        expected = [values.mean(), values.std(ddof=1), low, high, values.min(), values.max()]
        assert found == pytest.approx(expected, abs=1e-12)
        assert (row["n_pass"], row["n_fail"]) == tuple((same["verdict"] == v).sum() for v in ("PASS", "FAIL"))
        checked += 1
    assert checked > 10


def test_the_verdict_is_that_of_the_interval_over_worlds(marts: dict[str, pl.DataFrame]) -> None:
    for row in marts["between_worlds"].filter(pl.col("n_measured") == 3).to_dicts():
        side = (row["low"] > row["threshold"]) - (row["high"] < row["threshold"])
        assert row["verdict"] == {1: "PASS", 0: "INCONCLUSIVE", -1: "FAIL"}[side]


@pytest.mark.parametrize(
    ("worlds", "training_seeds", "reason"),
    [(WORLDS[:2], 3, "fewer than 3 world seeds"), (WORLDS, 2, "fewer than 3 training seeds")],
)
def test_fewer_than_three_worlds_or_training_seeds_settle_nothing(
    tmp_path: Path, worlds: tuple[str, ...], training_seeds: int, reason: str
) -> None:
    found = compute(tmp_path, worlds, training_seeds)["between_worlds"].filter(pl.col("n_measured") > 0)
    assert set(found["verdict"]) == {"INCONCLUSIVE"}
    assert set(found["reason"]) == {reason}


def test_a_study_of_single_worlds_has_no_rows(tmp_path: Path) -> None:
    written = factory.write_tables(tmp_path)
    tables = {name: written / f"{name}.parquet" for name in runner.TABLES}
    assert runner.compute(tables, {**factory.CONFIG, "families": {}})["between_worlds"].is_empty()
