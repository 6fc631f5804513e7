"""Lens 3 against scipy, statsmodels and counting by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tests.statistics import factory

from sae_assay.statistics import bootstrap, runner

Marts = dict[str, pl.DataFrame]
CELL = {"metric": "tpp", "hp_value": 10, "mode": "saebench", "task_kind": "in"}
RUNS = [f"{arch}_l0_08_seed_{seed}" for arch in ("batchtopk", "matryoshka") for seed in (0, 1, 2)]
LATER = factory.STEPS[1:]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return factory.score_table(9, substrates=("mini",)).filter(pl.col("metric").is_in(["tpp", "ground_truth"]))


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame) -> Marts:
    tables = factory.write_tables(tmp_path_factory.mktemp("trajectories"), table)
    return runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)


def scores_of(table: pl.DataFrame, **cell: object) -> dict[tuple[str, int], np.ndarray]:
    """(run, step) -> task means [seeds]."""
    snapshots = table.filter(pl.col("step").is_not_null(), **cell)
    means = snapshots.group_by("sae_id", "step", "eval_seed").agg(pl.col("value").mean()).sort("eval_seed")
    return {
        (sae.split(".step_")[0], step): group["value"].to_numpy()
        for (sae, step), group in means.group_by("sae_id", "step", maintain_order=True)
    }


def test_trends_are_scipys(table: pl.DataFrame, marts: Marts) -> None:
    scores, truth = scores_of(table, **CELL), scores_of(table, metric="ground_truth", component="mcc")
    log_tokens = np.log10(np.array(factory.STEPS) * 1024)
    for run in RUNS:
        y = np.array([scores[run, step].mean() for step in factory.STEPS])
        mcc = np.array([truth[run, step].mean() for step in factory.STEPS])
        row = marts["trajectory_trend"].filter(run_id=run, **CELL).row(0, named=True)
        assert row["n_snapshots"] == 7
        assert row["spearman"] == pytest.approx(stats.spearmanr(log_tokens, y).statistic)
        assert row["kendall"] == pytest.approx(stats.kendalltau(log_tokens, y).statistic)
        assert row["theil_sen"] == pytest.approx(stats.theilslopes(y, log_tokens).slope)
        assert row["late_minus_early"] == pytest.approx(y[5:].mean() - y[1:3].mean())
        assert row["change_mcc"] == pytest.approx(stats.pearsonr(np.diff(y), np.diff(mcc)).statistic)
        assert row["late_in_decay"] == 0.5


def test_the_contrast_is_a_t_interval_over_runs(marts: Marts) -> None:
    contrasts = marts["trajectory_trend"].filter(**CELL)["late_minus_early"].to_numpy()
    interval = stats.ttest_1samp(contrasts, 0).confidence_interval(0.95)
    row = marts["trajectory_contrast"].filter(**CELL).row(0, named=True)
    assert (row["n_runs"], row["difference"]) == (6, pytest.approx(contrasts.mean()))
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame) -> tuple[pl.DataFrame, Marts]:
    again = factory.recalibrated(table)
    tables = factory.write_tables(tmp_path_factory.mktemp("recalibrated"), pl.concat([table, again]))
    return again, runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)


def test_recalibrated_forms_are_no_runs_of_their_own(marts: Marts, both: tuple[pl.DataFrame, Marts]) -> None:
    again, found = both
    assert again.height and again["sae_id"].str.contains("recalibrated").all()
    for mart in ("trajectory_trend", "trajectory_contrast", "separated_pairs", "decision_accuracy"):
        assert found[mart].equals(marts[mart]), mart


def test_recalibration_is_a_paired_t_interval_over_runs(
    table: pl.DataFrame, marts: Marts, both: tuple[pl.DataFrame, Marts]
) -> None:
    assert marts["recalibration"].is_empty()
    again, found = both
    before, after = scores_of(table, **CELL), scores_of(again.drop("sae_id").rename({"base_sae_id": "sae_id"}), **CELL)
    step = factory.STEPS[2]
    change = np.array([(after[run, step] - before[run, step]).mean() for run in RUNS])
    interval = stats.ttest_1samp(change, 0).confidence_interval(0.95)
    row = found["recalibration"].filter(step=step, **CELL).row(0, named=True)
    assert (row["n_runs"], row["difference"]) == (6, pytest.approx(change.mean()))
    assert row["recalibrated"] - row["trained"] == pytest.approx(row["difference"])
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_pairs_are_tested_with_the_noise_of_their_step(table: pl.DataFrame, marts: Marts) -> None:
    scores = scores_of(table, **CELL)
    expected = {}
    for step in LATER:
        y = np.array([scores[run, step] for run in RUNS])
        left = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
        sigma = np.sqrt((left**2).sum() / 10)
        for a, b in combinations(range(6), 2):
            t = (y[a].mean() - y[b].mean()) / (sigma * np.sqrt(2 / 3))
            expected[step, RUNS[a], RUNS[b]] = 2 * stats.t.sf(abs(t), 10)
    rows = marts["pair_differences"].filter(**CELL)
    found = {(r["step"], r["run_a"], r["run_b"]): r["p"] for r in rows.iter_rows(named=True)}
    assert found == pytest.approx(expected)
    assert rows["p_bh"].to_numpy() == pytest.approx(multipletests(rows["p"].to_numpy(), method="fdr_bh")[1])
    total = marts["separated_pairs"].filter(pl.col("step").is_null(), **CELL).row(0, named=True)
    assert total["n_pairs"] == 90
    assert total["share"] == pytest.approx(np.mean(np.array(list(expected.values())) < 0.05))
    assert total["share_low"] <= total["share"] <= total["share_high"]


def test_decision_accuracy_by_counting(table: pl.DataFrame, marts: Marts) -> None:
    scores, truth = scores_of(table, **CELL), scores_of(table, metric="ground_truth", component="f1")
    right, used = [], 0
    for step in LATER:
        f1 = np.array([truth[run, step] for run in RUNS])
        left = f1 - f1.mean(1, keepdims=True) - f1.mean(0) + f1.mean()
        se = np.sqrt((left**2).sum() / 10) * np.sqrt(2 / 3)
        for a, b in combinations(range(6), 2):
            gap = f1[a].mean() - f1[b].mean()
            if abs(gap) > 2 * se:
                used += 1
                signs = np.sign(scores[RUNS[a], step] - scores[RUNS[b], step]) * np.sign(gap)
                right += list((1 + signs) / 2)
    row = marts["decision_accuracy"].filter(truth="f1", **CELL).row(0, named=True)
    assert (row["n_pairs"], row["n_decisions"]) == (used, 3 * used)
    assert row["accuracy"] == pytest.approx(np.mean(right))
    assert row["low"] <= row["accuracy"] <= row["high"]


def test_the_truth_orders_itself_without_fault(marts: Marts) -> None:
    """MCC against F1's noise is another matter: here F1 by MCC, which the factory ties together loosely."""
    itself = marts["decision_accuracy"].filter(metric="ground_truth", component="mcc")
    assert set(itself["truth"]) == {"f1", "self"}
    assert itself.filter(truth="self")["accuracy"].to_list() == [1.0]


def decisions(scores: list[float]) -> pl.DataFrame:
    pairs = list(combinations(["a", "b", "c", "d"], 2))
    rows = [("mcc", 1, a, b, score, 10) for (a, b), score in zip(pairs, scores, strict=True)]
    names = {
        "question": pl.String,
        "cell_id": pl.Int64,
        "run_a": pl.String,
        "run_b": pl.String,
        "score": pl.Float64,
        "n": pl.Int64,
    }
    return pl.DataFrame(rows, schema=names, orient="row")


def test_the_bootstrap_resamples_runs() -> None:
    sure = bootstrap.run_intervals(decisions([10.0] * 6))
    assert sure.select("low", "high").row(0) == (1.0, 1.0)
    torn = bootstrap.run_intervals(decisions([10.0, 10.0, 10.0, 0.0, 0.0, 0.0])).row(0, named=True)
    assert torn["low"] == 0.0  # draws without run a hold wrong pairs alone
    assert torn["low"] < 0.5 < torn["high"]
    again = bootstrap.run_intervals(decisions([10.0, 10.0, 10.0, 0.0, 0.0, 0.0])).row(0, named=True)
    assert torn == again
    assert bootstrap.run_intervals(decisions([10.0] * 6).filter(run_b="b")).height == 0


def test_bands_and_truth_stand_beside_every_snapshot(table: pl.DataFrame, marts: Marts) -> None:
    scores = scores_of(table, **CELL)
    points = marts["trajectory_points"].filter(**CELL)
    assert points.height == 6 * 7
    assert points["mcc"].null_count() == points["f1"].null_count() == 0
    for row in points.iter_rows(named=True):
        assert row["value"] == pytest.approx(scores[row["run_id"], row["step"]].mean())
        half = stats.t.ppf(0.975, 10) * row["sigma_e"]
        assert (row["band_low"], row["band_high"]) == pytest.approx((row["value"] - half, row["value"] + half))
