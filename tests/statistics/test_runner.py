"""The marts as a whole: contracts, repeatability, degenerate tables, and the audit put on trial."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.statistics import factory

from sae_assay.errors import AssayError
from sae_assay.statistics import contracts, runner

Marts = dict[str, pl.DataFrame]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return factory.score_table()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame) -> Path:
    return factory.marts(tmp_path_factory.mktemp("marts"), table)


def compute(tmp_path: Path, table: pl.DataFrame, repeats: pl.DataFrame | None = None) -> Marts:
    tables = factory.write_tables(tmp_path, table, repeats)
    return runner.compute({name: tables / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.parquet"))}


def test_every_mart_is_written_and_keeps_its_contract(folder: Path) -> None:
    assert {path.stem for path in folder.glob("*.parquet")} == set(runner.MARTS)
    for name in runner.MARTS:
        mart = pl.read_parquet(folder / f"{name}.parquet")
        assert mart.schema == contracts.schema(name)
        assert mart.height > 0


def test_the_same_table_in_another_order_gives_the_same_bytes(
    tmp_path: Path, folder: Path, table: pl.DataFrame
) -> None:
    again = factory.marts(tmp_path, table.sample(fraction=1, shuffle=True, seed=3))
    assert digests(again) == digests(folder)


def test_a_missing_number_always_has_a_reason(folder: Path) -> None:
    whole = {"reseed_noise": "sigma_e", "generalisability": "rho_1", "validity": "spearman", "oracle_rank": "percentile",
             "panel_points": "value", "trajectory_points": "value", "decision_accuracy": "accuracy",
             "separated_pairs": "share", "control_margins": "low", "noise_floor": "mean_floor",
             "fault_ablation": "noise_ratio"}  # fmt: skip
    for name, column in whole.items():
        mart = pl.read_parquet(folder / f"{name}.parquet")
        assert mart.filter(pl.col(column).is_null() & pl.col("reason").is_null()).height == 0, name


def test_a_task_that_fails_once_is_left_out_everywhere(folder: Path) -> None:
    noise = pl.read_parquet(folder / "reseed_noise.parquet").filter(metric="scr", task_kind="in", hp_value=10)
    assert dict(noise.select("mode", "n_tasks").iter_rows()) == {"saebench": 2, "strict": 2, "fix_cells": 3}


@pytest.mark.parametrize("drop", ["controls", "seeds", "saes", "trajectories", "truth", "values"])
def test_degenerate_tables_give_reasons_and_no_crash(tmp_path: Path, table: pl.DataFrame, drop: str) -> None:
    mini = table.filter(pl.col("substrate") == "mini")
    small = {
        "controls": mini.filter(pl.col("panel") != "control"),
        "seeds": mini.filter(pl.col("eval_seed") == 42),
        "saes": mini.filter(pl.col("sae_id") == "batchtopk_l0_04_seed_0"),
        "trajectories": mini.filter(pl.col("panel") != "trajectory"),
        "truth": mini.filter(pl.col("metric") != "ground_truth"),
        "values": mini.with_columns(pl.lit(0.5).alias("value")).with_columns(
            value=pl.when(pl.col("status") == "ok").then("value")
        ),
    }[drop]
    marts = compute(tmp_path, small)
    card = marts["scorecard"].filter(pl.col("metric") == "sparse_probing", pl.col("headline"))
    verdicts = dict(zip(card["criterion"], card["verdict"], strict=True))
    unmeasured = {"controls": ["D5"], "seeds": ["D1"], "saes": ["D1", "D2", "D3", "D4", "D5"], "trajectories": ["D2", "D3"],
                  "truth": ["D2", "D4"], "values": ["D1", "D4"]}[drop]  # fmt: skip
    assert {c: verdicts[c] for c in unmeasured} == dict.fromkeys(unmeasured, "NOT MEASURED")
    assert card.filter(pl.col("verdict") == "NOT MEASURED", pl.col("reason").is_null()).height == 0
    if drop == "seeds":
        assert set(marts["reseed_noise"]["reason"]) == {"one evaluation seed"}


def test_inert_and_uncontrolled_seeds_are_told_apart(tmp_path: Path, table: pl.DataFrame) -> None:
    def behaviour(marts: Marts, component: str) -> str:
        found = marts["seed_behaviour"].filter(pl.col("substrate") == "mini", pl.col("component") == component)
        return str(found["behaviour"][0])

    mini = table.filter(pl.col("substrate") == "mini", pl.col("metric") == "ground_truth")
    once = compute(tmp_path / "once", mini)
    assert behaviour(once, "mcc") == "seed_inert"
    assert behaviour(once, "f1") == "not_measured"
    repeats = mini.filter(pl.col("eval_seed") == 42, pl.col("sae_id") == "batchtopk_l0_08_seed_0")
    assert behaviour(compute(tmp_path / "same", mini, repeats), "f1") == "ok"
    moved = repeats.with_columns(value=pl.when(component="f1").then(pl.col("value") + 1e-6).otherwise("value"))
    again = compute(tmp_path / "moved", mini, moved)
    assert behaviour(again, "f1") == "seed_uncontrolled"
    assert behaviour(again, "mcc") == "seed_inert"


@pytest.mark.parametrize("seed", [1, 2])
def test_the_audit_on_trial(tmp_path: Path, seed: int) -> None:
    """A metric of known validity must not fail, and pure noise must not pass, whatever the draw."""
    table = factory.score_table(seed, substrates=("mini",)).filter(
        pl.col("metric").is_in(["ground_truth", "known_validity", "pure_noise"])
    )
    card = compute(tmp_path, table)["scorecard"].filter("headline", substrate="mini")
    verdicts = {
        metric: dict(card.filter(metric=metric).select("criterion", "verdict").iter_rows())
        for metric in ("known_validity", "pure_noise")
    }
    assert [verdicts["known_validity"][c] for c in ("D1", "D3", "D4", "D5")] == ["PASS"] * 4
    assert verdicts["known_validity"]["D2"] != "FAIL"
    assert [verdicts["pure_noise"][c] for c in ("D1", "D2")] == ["FAIL", "FAIL"]
    assert "PASS" not in verdicts["pure_noise"].values()


def test_a_broken_query_is_named(folder: Path) -> None:
    mart = pl.read_parquet(folder / "oracle_rank.parquet")
    with pytest.raises(AssayError, match=r"oracle_rank.sql: column percentile is 120"):
        contracts.check(mart.with_columns(percentile=pl.lit(120.0)), "oracle_rank")
    with pytest.raises(AssayError, match="share their grain"):
        contracts.check(pl.concat([mart, mart]), "oracle_rank")
    with pytest.raises(AssayError, match="unknown column extra"):
        contracts.check(mart.with_columns(extra=1), "oracle_rank")


def test_every_contract_declares_its_grain_from_its_columns() -> None:
    for name in runner.MARTS:
        assert set(contracts.contract(name)["grain"]) <= set(contracts.schema(name).names()), name
        assert runner.sql(name).startswith("-- ")


def test_coverage_counts_what_is_missing(tmp_path: Path) -> None:
    from sae_assay.tables import collect, scores

    table = factory.score_table(substrates=("smollm2",))
    planned = [
        {"substrate": "smollm2", "saes": [*sorted(set(table["sae_id"])), "batchtopk_l0_16_seed_9"],
         "metrics": ["tpp", "sparse_probing", "sae_probes"], "seeds": list(factory.SEEDS)}
    ]  # fmt: skip
    for name, frame in collect.tables(table, table.clear(), planned).items():
        scores.write_pinned(frame, tmp_path / f"{name}.parquet")
    marts = runner.compute({name: tmp_path / f"{name}.parquet" for name in runner.TABLES}, factory.CONFIG)
    rows = marts["coverage"].filter(metric="tpp", panel="panel").sort("status")
    assert rows["status"].to_list() == ["missing", "ok"]
    assert rows["n_rows"][0] == 3
    assert rows["n_planned"].to_list() == [9, 9]
    assert rows["n_scored"].to_list() == [6, 6]
    assert np.isclose(rows["share"].sum(), 1)
