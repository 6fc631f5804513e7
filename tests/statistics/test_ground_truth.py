"""Lens 2 against scipy and statsmodels, with ties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from tests.statistics import factory

from sae_assay.statistics import functions, runner

Marts = dict[str, pl.DataFrame]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """A world's table whose probing scores are rounded until SAEs tie."""
    rows = factory.score_table(7, substrates=("mini",)).filter(
        pl.col("metric").is_in(["sparse_probing", "ground_truth", "tpp"])
    )
    rounded = pl.when(metric="sparse_probing").then(pl.col("value").round(1)).otherwise("value")
    return rows.with_columns(value=rounded)


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame) -> Marts:
    tables = factory.write_tables(tmp_path_factory.mktemp("truth"), table)
    return runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)


def means(table: pl.DataFrame, **cell: object) -> pd.DataFrame:
    """Means of the panel's SAEs on one cell, with MCC and F1."""
    panel = table.filter(pl.col("panel") == "panel")
    seedwise = panel.filter(**cell).group_by("sae_id", "arch", "target_l0", "eval_seed").agg(pl.col("value").mean())
    x = seedwise.group_by("sae_id", "arch", "target_l0").agg(x=pl.col("value").mean())
    truth = panel.filter(metric="ground_truth").group_by("sae_id", "component").agg(pl.col("value").mean())
    wide = x.join(truth.pivot(on="component", index="sae_id", values="value"), on="sae_id").sort("sae_id")
    return pd.DataFrame(wide.to_dict(as_series=False))


CELL = {"metric": "sparse_probing", "hp_value": 5, "task_kind": "in"}


@pytest.mark.parametrize("truth", ["mcc", "f1"])
def test_plain_correlations_are_scipys(table: pl.DataFrame, marts: Marts, truth: str) -> None:
    points = means(table, **CELL)
    points["x"] = points["x"].round(12)  # means of equal scores tie whatever the summation order
    row = marts["validity"].filter(truth=truth, **CELL).row(0, named=True)
    rho = stats.spearmanr(points["x"], points[truth]).statistic
    assert points["x"].nunique() < len(points)
    assert row["n_saes"] == 29
    assert row["spearman"] == pytest.approx(rho, abs=1e-12)
    assert row["kendall"] == pytest.approx(stats.kendalltau(points["x"], points[truth]).statistic, abs=1e-12)
    half = 1.959963984540054 * np.sqrt((1 + rho**2 / 2) / 26)
    assert (row["spearman_low"], row["spearman_high"]) == pytest.approx(
        tuple(np.tanh([np.arctanh(rho) - half, np.arctanh(rho) + half]))
    )


@pytest.mark.parametrize("truth", ["mcc", "f1"])
def test_residual_validity_is_a_partial_correlation(table: pl.DataFrame, marts: Marts, truth: str) -> None:
    cells = means(table, **CELL).groupby(["arch", "target_l0"], as_index=False)[["x", truth]].mean()
    left = {column: ols(f"{column} ~ C(arch) + C(target_l0)", cells).fit() for column in ("x", truth)}
    r = np.corrcoef(left["x"].resid, left[truth].resid)[0, 1]
    row = marts["validity"].filter(truth=truth, **CELL).row(0, named=True)
    assert (row["n_cells"], row["residual_df"]) == (25, left["x"].df_resid - 1) == (25, 15)
    assert row["residual"] == pytest.approx(r, abs=1e-9)
    half = 1.959963984540054 / np.sqrt(14)
    assert (row["residual_low"], row["residual_high"]) == pytest.approx(
        tuple(np.tanh([np.arctanh(r) - half, np.arctanh(r) + half]))
    )


def test_degrees_of_freedom_of_the_named_panels() -> None:
    """statistics.md: 23 at 5 architectures x 7 L0, 7 at 5 x 3."""
    for n_l0, df in ((7, 23), (3, 7)):
        archs = [a for a in "abcde" for _ in range(n_l0)]
        assert functions.residual_rank(archs, [float(k) for k in range(n_l0)] * 5) - 1 == df


def test_a_metric_that_is_architecture_plus_l0_has_no_residual() -> None:
    archs, l0s = [a for a in "abc" for _ in range(4)], [4.0, 6.0, 8.0, 10.0] * 3
    exact = [ord(a) + k / 3 for a, k in zip(archs, l0s, strict=True)]
    assert functions.residuals(archs, l0s, exact) == [0.0] * 12
    assert functions.cosine([0.0] * 12, [1.0] * 12) is None


def test_the_oracles_percentile_by_hand(table: pl.DataFrame, marts: Marts) -> None:
    points = (
        table.filter(pl.col("panel").is_in(["panel", "control"]), **CELL)
        .group_by("sae_id")
        .agg(pl.col("value").mean().round(12))
    )
    values = dict(points.iter_rows())
    oracle = values["oracle"]
    trained = [v for name, v in values.items() if "of" not in name.split(".") and name != "oracle"]
    row = marts["oracle_rank"].filter(**CELL).row(0, named=True)
    assert row["n_saes"] == len(trained) == 29
    assert row["n_above"] == sum(v > oracle for v in trained)
    assert row["percentile"] == pytest.approx(stats.percentileofscore(trained, oracle, kind="mean"))


def test_margins_are_paired_t_intervals(table: pl.DataFrame, marts: Marts) -> None:
    cell = {"metric": "tpp", "hp_value": 10, "mode": "saebench", "task_kind": "in"}
    rows = marts["control_margins"].filter(**cell)
    judged = rows.filter("applicable")
    assert set(rows["margin"]) == {"base_minus_control", "oracle_minus_trained"}
    assert set(judged["n_margins"]) == {judged.height} == {29 + 8 - 2}  # `best` keeps more latents than 10
    exploratory = marts["control_margins"].filter(metric="tpp", hp_value=50)
    assert set(exploratory["margin"]) == {"base_minus_control"}
    for row in rows.filter(pl.col("control").is_in(["random_init", "oracle"])).head(12).iter_rows(named=True):
        pair = table.filter(**cell).group_by("sae_id", "eval_seed").agg(pl.col("value").mean()).sort("eval_seed")
        a, b = (pair.filter(sae_id=row[name])["value"].to_numpy() for name in ("sae_id", "other_sae_id"))
        test = stats.ttest_rel(a, b)
        plain = test.confidence_interval(0.95)
        joint = test.confidence_interval(1 - 0.05 / row["n_margins"])
        assert row["difference"] == pytest.approx((a - b).mean(), abs=1e-12)
        assert (row["low"], row["high"]) == pytest.approx((plain.low, plain.high))
        assert (row["simultaneous_low"], row["simultaneous_high"]) == pytest.approx((joint.low, joint.high))


def test_margins_that_prove_nothing_are_not_judged(marts: Marts) -> None:
    margins = marts["control_margins"]
    probing = margins.filter(control="permuted_decoder", **CELL)
    assert probing["applicable"].any() is False
    assert probing["expected_equal"].all()
    assert margins.filter(control="permuted_decoder", metric="tpp")["applicable"].all()
    best = margins.filter(control="best", metric="tpp")  # it keeps 16 latents
    assert set(best.filter(hp_value=10)["applicable"]) == {False}
    assert set(best.filter(hp_value=50)["applicable"]) == {True}
    oracle = margins.filter(control="oracle", metric="tpp")
    assert set(oracle.filter(task_kind="out")["applicable"]) == {False}
    assert set(oracle.filter(task_kind="in")["applicable"]) == {True}
