"""The fault ablation against statsmodels, an inverted test, a numeric delta method and simulation."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import optimize, stats
from statsmodels.formula.api import ols
from tests.statistics import factory

from sae_assay.statistics import functions, runner


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return factory.score_table(3, substrates=("mini",)).filter(pl.col("metric").is_in(["ground_truth", "tpp", "scr"]))


def compute(folder: Any, table: pl.DataFrame) -> pl.DataFrame:
    tables = factory.write_tables(folder, table)
    return runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)[
        "fault_ablation"
    ]


@pytest.fixture(scope="module")
def mart(tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame) -> pl.DataFrame:
    return compute(tmp_path_factory.mktemp("faults"), table)


def scores(table: pl.DataFrame, mode: str, tasks: list[str], **cell: Any) -> pl.DataFrame:
    """The panel's means over tasks, SAE x seed, wide."""
    rows = table.filter(pl.col("panel") == "panel", pl.col("task").is_in(tasks), mode=mode, hp_value=10, **cell)
    means = rows.group_by("sae_id", "arch", "target_l0", "eval_seed").agg(pl.col("value").mean())
    return means.pivot(on="eval_seed", values="value").sort("sae_id")


def interaction(wide: pl.DataFrame) -> np.ndarray:
    x = wide.select(map(str, factory.SEEDS)).to_numpy()
    return x - x.mean(0) - x.mean(1, keepdims=True) + x.mean()


def morgan_t(ratio: float, a: np.ndarray, b: np.ndarray, df: int) -> float:
    """Morgan's t for var(b) = ratio var(a): the correlation of sum and difference; `a`, `b` residuals of mean 0."""
    plus, minus = b + np.sqrt(ratio) * a, b - np.sqrt(ratio) * a
    r = (plus * minus).sum() / np.sqrt((plus**2).sum() * (minus**2).sum())
    return float(r * np.sqrt((df - 1) / (1 - r**2)))


@pytest.mark.parametrize(
    ("metric", "mode", "kind", "tasks"),
    [("tpp", "fix_ties", "out", ["out_0", "out_1", "out_2"]), ("scr", "fix_cells", "in-in", ["in_0", "in_1"])],
)
def test_noise_is_the_interaction_and_its_ratio_inverts_morgans_test(
    table: pl.DataFrame, mart: pl.DataFrame, metric: str, mode: str, kind: str, tasks: list[str]
) -> None:
    """SCR's third task is undefined at one seed in mode saebench, so both modes are compared without it."""
    row = mart.filter(metric=metric, mode=mode, task_kind=kind.split("-")[0]).row(0, named=True)
    a, b = (interaction(scores(table, m, tasks, metric=metric, task_kind=kind)) for m in ("saebench", mode))
    df = 28 * 2
    assert (row["n_saes"], row["n_seeds"], row["n_tasks"]) == (29, 3, len(tasks))
    assert row["sigma_e_saebench"] == pytest.approx(np.sqrt((a**2).sum() / df))
    assert row["sigma_e_repaired"] == pytest.approx(np.sqrt((b**2).sum() / df))
    critical, estimate = stats.t.ppf(0.975, df - 1), (b**2).sum() / (a**2).sum()

    def edge(sign: float, low: float, high: float) -> float:
        return optimize.brentq(lambda ratio: morgan_t(ratio, a, b, df) + sign * critical, low, high)

    found = edge(-1, 1e-3 * estimate, estimate), edge(1, estimate, 1e3 * estimate)
    assert row["noise_ratio"] == pytest.approx(np.sqrt(estimate))
    assert (row["noise_ratio_low"], row["noise_ratio_high"]) == pytest.approx(tuple(np.sqrt(found)), rel=1e-6)


def test_validity_is_a_partial_correlation_and_its_change_has_a_t_interval(
    table: pl.DataFrame, mart: pl.DataFrame
) -> None:
    row = mart.filter(metric="tpp", mode="fix_ties", task_kind="in").row(0, named=True)
    truth = table.filter(pl.col("panel") == "panel", metric="ground_truth", component="mcc")
    mcc = truth.group_by("sae_id").agg(pl.col("value").mean().alias("mcc"))
    left = {}
    for mode in ("saebench", "fix_ties"):
        wide = scores(table, mode, ["in_0", "in_1", "in_2"], metric="tpp").join(mcc, on="sae_id")
        points = pd.DataFrame(wide.to_dict(as_series=False))
        points["x"] = wide.select(pl.mean_horizontal(map(str, factory.SEEDS)).alias("x"))["x"].to_list()
        cells = points.groupby(["arch", "target_l0"], as_index=False)[["x", "mcc"]].mean()
        left[mode] = ols("x ~ C(arch) + C(target_l0)", cells).fit().resid
        left["mcc"] = ols("mcc ~ C(arch) + C(target_l0)", cells).fit().resid
    kept, repaired = (float(np.corrcoef(left[m], left["mcc"])[0, 1]) for m in ("saebench", "fix_ties"))
    between = float(np.corrcoef(left["saebench"], left["fix_ties"])[0, 1])
    assert (row["n_cells"], row["residual_df"], row["truth"]) == (25, 15, "mcc")
    assert (row["residual_saebench"], row["residual_repaired"]) == pytest.approx((kept, repaired))
    change, half = repaired - kept, stats.t.ppf(0.975, 14) * delta_se(kept, repaired, between, 14)
    assert (row["residual_change"], row["residual_change_low"], row["residual_change_high"]) == pytest.approx(
        (change, change - half, change + half), rel=1e-5
    )


def delta_se(r_1: float, r_2: float, r_12: float, n: float) -> float:
    """SE of r_1 - r_2, both with a third variable, by a numeric gradient over the six covariances of normal data."""
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    sigma = np.array([[1, r_1, r_2], [r_1, 1, r_12], [r_2, r_12, 1]])

    def change(c: np.ndarray) -> float:
        return float(c[3] / np.sqrt(c[0] * c[1]) - c[4] / np.sqrt(c[0] * c[2]))

    c = np.array([sigma[pair] for pair in pairs])
    step = 1e-6 * np.eye(6)
    gradient = np.array([(change(c + s) - change(c - s)) / 2e-6 for s in step])
    covariance = [
        [sigma[i, k] * sigma[j, m] + sigma[i, m] * sigma[j, k] for k, m in pairs] for i, j in pairs
    ]  # of the sample covariances, times n
    return float(np.sqrt(gradient @ np.array(covariance) @ gradient / n))


def macros() -> duckdb.DuckDBPyConnection:
    db = duckdb.connect()
    functions.register(db)
    return db


@pytest.mark.parametrize(("r_1", "r_2", "r_12"), [(0.396, 0.179, 0.088), (-0.8, -0.7, 0.9), (0.0, 0.6, -0.3)])
def test_the_standard_error_is_that_of_the_delta_method(r_1: float, r_2: float, r_12: float) -> None:
    with macros() as db:
        ((found,),) = db.sql(f"SELECT change_se({r_1}, {r_2}, {r_12}, 63)").fetchall()
    assert found == pytest.approx(delta_se(r_1, r_2, r_12, 63), rel=1e-6)


def test_equal_scores_change_nothing() -> None:
    with macros() as db:
        assert db.sql("SELECT change_se(-0.84, -0.84, 1, 14), morgan_width(1, 56, 2.0)").fetchall() == [(0, 1)]


@pytest.mark.parametrize(
    ("kept", "repaired", "between"), [(0.2, 0.6, 0.5), (0.3, 0.35, 0.99), (-0.8, -0.75, 0.98), (0.0, 0.6, 0.3)]
)
def test_intervals_hold_the_true_change_about_as_often_as_they_say(
    kept: float, repaired: float, between: float
) -> None:
    """16 free residuals, as 5 architectures x 5 L0 leave; 20,000 draws of three correlated normal variables."""
    free, draws = 16, 20_000
    factor = np.linalg.cholesky([[1, kept, repaired], [kept, 1, between], [repaired, between, 1]])
    x = np.random.default_rng(5).standard_normal((draws, free, 3)) @ factor.T
    products = np.einsum("nij,nik->njk", x, x)
    size = np.sqrt(np.einsum("njj->nj", products))
    r = products / size[:, :, None] / size[:, None, :]
    drawn = pl.DataFrame({"kept": r[:, 0, 1], "repaired": r[:, 0, 2], "r_12": r[:, 1, 2]})
    with macros() as db:
        db.register("drawn", drawn.to_arrow())
        half = f"t_quantile(0.975, {free - 2.0}) * change_se(kept, repaired, r_12, {free - 2})"
        query = f"SELECT avg(CAST(abs(repaired - kept - {repaired - kept}) <= {half} AS INT)) FROM drawn"
        ((coverage,),) = db.sql(query).fetchall()
    assert 0.93 <= coverage <= 0.985


@pytest.mark.parametrize("case", ["truth", "seeds", "saes", "tasks", "still", "steady"])
def test_what_cannot_be_said_is_null_with_a_reason(tmp_path: Any, table: pl.DataFrame, case: str) -> None:
    fixed = pl.col("mode").cast(pl.String) == "fix_ties"
    small = {
        "truth": table.filter(pl.col("metric") != "ground_truth"),
        "seeds": table.filter(pl.col("eval_seed") == 42),
        "saes": table.filter(pl.col("sae_id") == "batchtopk_l0_04_seed_0"),
        "tasks": table.filter(fixed.fill_null(False) == (pl.col("task") == "in_0")),
        "still": table.with_columns(
            value=pl.when(pl.col("metric") == "tpp", pl.col("status") == "ok").then(pl.lit(0.25)).otherwise("value")
        ),
        "steady": table.with_columns(value=pl.when(fixed.fill_null(False)).then(pl.lit(0.25)).otherwise("value")),
    }[case]
    row = compute(tmp_path, small).filter(metric="tpp", mode="fix_ties", task_kind="in").row(0, named=True)
    wanted = {
        "truth": (None, "no SAE has an architecture, a target L0 and a truth"),
        "seeds": ("one evaluation seed", None),
        "saes": ("one SAE", "no degrees of freedom are left"),
        "tasks": ("no task is ok in both modes", "no task is ok in both modes"),
        "steady": (None, "nothing is left to correlate"),
        "still": ("no noise between seeds in mode saebench", "nothing is left to correlate"),
    }[case]
    for reason, (value, said) in zip(
        wanted, [("noise_ratio", "reason"), ("residual_change", "residual_reason")], strict=True
    ):
        assert (row[said] or "").startswith(reason or "") and (row[said] is None) == (reason is None)
        assert (row[value] is None) == (reason is not None)
    if case == "steady":
        assert row["noise_ratio"] == 0 and row["noise_ratio_high"] is None


def test_single_repairs_are_no_matter_of_training(tmp_path: Any, table: pl.DataFrame) -> None:
    """Snapshots are not scored in these modes, and the finished SAEs alone are no trajectory."""
    tables = factory.write_tables(tmp_path, table)
    marts = runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)
    for name in ("decision_accuracy", "trajectory_contrast", "separated_pairs"):
        assert set(marts[name]["mode"].drop_nulls()) == {"saebench", "strict"}
