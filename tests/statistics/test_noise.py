"""Lens 1 against statsmodels, pingouin and scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pingouin
import polars as pl
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from tests.statistics import factory

from sae_assay.statistics import functions, runner

Marts = dict[str, pl.DataFrame]
PRIMARY = {"tpp": "score", "sparse_probing": "accuracy"}


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return factory.score_table(5, substrates=("mini",)).filter(
        pl.col("metric").is_in(["tpp", "sparse_probing", "ground_truth"])
    )


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame) -> Marts:
    tables = factory.write_tables(tmp_path_factory.mktemp("noise"), table)
    return runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)


def cell(frame: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The panel's rows of one cell, from the score table or (one row) from a mart."""
    hp, mode = (10, "saebench") if metric == "tpp" else (5, None)
    chosen = frame.filter(pl.col("metric") == metric, pl.col("hp_value") == hp, pl.col("task_kind") == "in")
    chosen = chosen.filter(pl.col("mode") == mode if mode else pl.col("mode").is_null())
    return chosen.filter(pl.col("panel") == "panel") if "panel" in chosen.columns else chosen


def task_means(table: pl.DataFrame, metric: str) -> pd.DataFrame:
    means = cell(table, metric).group_by("sae_id", "eval_seed").agg(pl.col("value").mean()).sort("sae_id", "eval_seed")
    return pd.DataFrame(means.to_dict(as_series=False))


@pytest.mark.parametrize("metric", ["tpp", "sparse_probing"])
def test_mean_squares_are_those_of_a_two_way_anova(table: pl.DataFrame, marts: Marts, metric: str) -> None:
    fit = anova_lm(ols("value ~ C(sae_id) + C(eval_seed)", task_means(table, metric)).fit())
    row = cell(marts["reseed_noise"], metric).row(0, named=True)
    squares = (fit["sum_sq"] / fit["df"]).to_list()
    assert [row["ms_sae"], row["ms_seed"], row["ms_interaction"]] == pytest.approx(squares, rel=1e-9)
    k, n = 29, 3
    assert (row["n_saes"], row["n_seeds"], row["n_tasks"], row["df_relative"]) == (k, n, 3, (k - 1) * (n - 1))
    var_seed = (squares[1] - squares[2]) / k
    assert row["var_seed_raw"] == pytest.approx(var_seed, rel=1e-8)
    assert row["sigma_absolute"] == pytest.approx(np.sqrt(max(var_seed, 0) + squares[2]), rel=1e-9)
    low, high = np.sqrt(56 * squares[2] / stats.chi2.ppf([0.975, 0.025], 56))
    assert (row["sigma_e_low"], row["sigma_e_high"]) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize("metric", ["tpp", "sparse_probing"])
def test_coefficients_are_pingouins_intraclass_correlations(table: pl.DataFrame, marts: Marts, metric: str) -> None:
    icc = pingouin.intraclass_corr(task_means(table, metric), targets="sae_id", raters="eval_seed", ratings="value")
    icc = icc.set_index(icc["Type"].str.replace(r"[^0-9A-Zk,()]", "", regex=True).str.upper())
    ci = next(c for c in icc.columns if c.startswith("CI95"))
    row = cell(marts["generalisability"], metric).row(0, named=True)

    def published(short: str, long: str) -> pd.Series:
        return icc.loc[short] if short in icc.index else icc.loc[long]

    consistency, mean = published("ICC3", "ICC(C,1)"), published("ICC3K", "ICC(C,K)")
    assert row["rho_1"] == pytest.approx(consistency["ICC"], abs=1e-9)
    assert (row["rho_1_low"], row["rho_1_high"]) == pytest.approx(tuple(consistency[ci]), abs=0.00501)
    assert row["rho_n"] == pytest.approx(mean["ICC"], abs=1e-9)
    assert (row["rho_n_low"], row["rho_n_high"]) == pytest.approx(tuple(mean[ci]), abs=0.00501)
    assert row["phi_1"] == pytest.approx(published("ICC2", "ICC(A,1)")["ICC"], abs=1e-9)
    assert row["phi_n"] == pytest.approx(published("ICC2K", "ICC(A,K)")["ICC"], abs=1e-9)


def test_saes_of_equal_means_have_no_coefficient_and_no_verdict(tmp_path: Path, table: pl.DataFrame) -> None:
    """Two SAEs whose scores change places between seeds: F is 0 but for float32's last bits, and its interval a point."""
    names = table.filter(panel="panel")["sae_id"].unique().sort()[:2].to_list()
    first, second = table["eval_seed"].unique().sort()[:2].to_list()
    offset = pl.when(pl.col("eval_seed") == first).then(0.1).otherwise(-0.1)
    value = 0.3 + pl.when(pl.col("sae_id") == names[0]).then(offset + 1e-9).otherwise(-offset)
    two = table.filter(
        pl.col("sae_id").is_in(names), pl.col("eval_seed").is_in([first, second]), pl.col("metric") == "tpp"
    )
    tables = factory.write_tables(tmp_path, two.with_columns(value=value))
    found = runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)
    row = cell(found["generalisability"], "tpp").row(0, named=True)
    assert row["f_ratio"] < 1e-10 and (row["rho_1"], row["rho_1_low"]) == (None, None)
    assert row["reason"] == "all SAEs score the same"
    verdicts = found["scorecard"].filter(metric="tpp", criterion="D1")["verdict"].to_list()
    assert verdicts and "FAIL" not in verdicts and "PASS" not in verdicts


@pytest.mark.parametrize(("saes", "seeds"), [(1, 3), (3, 1)])
def test_one_sae_or_one_seed_has_no_component_of_noise(
    tmp_path: Path, table: pl.DataFrame, saes: int, seeds: int
) -> None:
    kept = [table.filter(panel="panel")["sae_id"], table["eval_seed"]]
    names, numbers = (column.unique().sort()[:n].to_list() for column, n in zip(kept, (saes, seeds), strict=True))
    few = table.filter(pl.col("sae_id").is_in(names), pl.col("eval_seed").is_in(numbers), pl.col("metric") == "tpp")
    tables = factory.write_tables(tmp_path, few)
    found = runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)
    row = cell(found["reseed_noise"], "tpp").row(0, named=True)
    assert (row["n_saes"], row["n_seeds"]) == (saes, seeds)
    assert [row[name] for name in ("sigma_e", "sigma_g", "sigma_absolute", "var_seed_raw")] == [None] * 4
    assert row["reason"]


def test_three_way_components_are_those_of_an_anova(table: pl.DataFrame, marts: Marts) -> None:
    rows = pd.DataFrame(cell(table, "tpp").select("sae_id", "task", "eval_seed", "value").to_dict(as_series=False))
    y = rows.pivot_table(index="sae_id", columns=["task", "eval_seed"], values="value").to_numpy().reshape(29, 3, 3)
    p, t, s = y.shape
    pt, ps, ts = y.mean(2), y.mean(1), y.mean(0)
    m_p, m_t, m_s, m = y.mean((1, 2)), y.mean((0, 2)), y.mean((0, 1)), y.mean()
    ms_p = t * s * ((m_p - m) ** 2).sum() / (p - 1)
    ms_pt = s * ((pt - m_p[:, None] - m_t + m) ** 2).sum() / ((p - 1) * (t - 1))
    ms_ps = t * ((ps - m_p[:, None] - m_s + m) ** 2).sum() / ((p - 1) * (s - 1))
    left = y - pt[:, :, None] - ps[:, None, :] - ts + m_p[:, None, None] + m_t[:, None] + m_s - m
    ms_pts = (left**2).sum() / ((p - 1) * (t - 1) * (s - 1))
    var_p = (ms_p - ms_pt - ms_ps + ms_pts) / (t * s)
    row = cell(marts["generalisability"], "tpp").row(0, named=True)
    assert row["var_sae"] == pytest.approx(var_p, rel=1e-8)
    assert row["var_residual"] == pytest.approx(ms_pts, rel=1e-8)
    noise = (ms_pt - ms_pts) / s / t + (ms_ps - ms_pts) / t + ms_pts / t
    assert row["rho_random_tasks_1"] == pytest.approx(var_p / (var_p + noise), rel=1e-8)


def test_differences_that_count_follow_their_definitions(marts: Marts) -> None:
    row = cell(marts["reseed_noise"], "tpp").row(0, named=True)
    n, absolute, relative = row["n_seeds"], row["sigma_absolute"], row["sigma_e"]
    assert row["mrd_fixed_sae"] / absolute == pytest.approx(stats.t.ppf(0.975, n - 1) * np.sqrt(2))
    assert row["mrd_mean"] / absolute == pytest.approx(2.267, abs=1e-3)  # statistics.md: 2.27 s at n = 3
    assert row["mrd_relative"] / relative == pytest.approx(stats.t.ppf(0.975, 56) * np.sqrt(2))
    for name, df, noise in (("mdd_unpaired", 2 * (n - 1), absolute), ("mdd_paired", 56, relative)):
        nc = row[name] / (noise * np.sqrt(2 / n))
        assert stats.nct.sf(stats.t.ppf(0.975, df), df, nc) == pytest.approx(0.8, abs=1e-6)


def test_a_cv_needs_a_mean_away_from_zero(tmp_path: Path, table: pl.DataFrame) -> None:
    tpp = cell(table, "tpp")
    centred = tpp.with_columns(value=pl.col("value") - pl.col("value").mean())
    tables = factory.write_tables(tmp_path, centred)
    noise = runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)["reseed_noise"]
    assert noise["cv_absolute"].null_count() == noise.height
    assert set(noise["cv_reason"]) == {"the mean is within 3 standard errors of 0"}
    assert noise["sigma_e"].null_count() == 0


def test_the_binomial_floor(table: pl.DataFrame, marts: Marts) -> None:
    accuracy = cell(table, "sparse_probing").group_by("task").agg(pl.col("value").mean())["value"].to_numpy()
    floor = np.sqrt((accuracy * (1 - accuracy) / 400).sum()) / len(accuracy)
    row = cell(marts["noise_floor"], "sparse_probing").row(0, named=True)
    assert (row["basis"], row["n_test_min"]) == ("binomial", 400)
    assert row["mean_floor"] == pytest.approx(floor, rel=1e-9)
    assert cell(marts["noise_floor"], "tpp")["task_floor"][0] == pytest.approx(0.5 / np.sqrt(26))


def test_quantiles_are_scipys() -> None:
    p, df1, df2 = np.array([0.025, 0.5, 0.975]), np.array([1.0, 4.0, 28.5]), np.array([3.0, 56.0, 7.25])
    assert functions.t_quantile(p, df1) == pytest.approx(stats.t.ppf(p, df1))
    assert functions.f_quantile(p, df1, df2) == pytest.approx(stats.f.ppf(p, df1, df2))
    assert functions.chi2_quantile(p, df1) == pytest.approx(stats.chi2.ppf(p, df1))
    assert functions.normal_quantile(p) == pytest.approx(stats.norm.ppf(p))
    assert functions.t_two_sided_p(np.array([-2.0, 0.0, 5.0]), df1) == pytest.approx(
        2 * stats.t.sf([2.0, 0.0, 5.0], df1)
    )
    assert np.isnan(functions.t_quantile(p, np.zeros(3))).all()
    assert stats.t.ppf(0.975, 4) * np.sqrt(2) == pytest.approx(3.93, abs=0.01)
