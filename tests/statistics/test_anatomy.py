"""A noise anatomy from simulated score tables whose variance components are known, and from degenerate ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from tests.statistics import factory

from sae_assay import anatomy
from sae_assay.report.queries import needs
from sae_assay.statistics import anatomy as intervals
from sae_assay.statistics import contracts, runner
from sae_assay.tables import scores

Marts = Callable[..., dict[str, pl.DataFrame]]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The other tables of a study; statistics of an anatomy read none of them."""
    table = factory.score_table(substrates=("smollm2",)).filter(pl.col("sae_id").str.ends_with("seed_0"))
    written = factory.write_tables(tmp_path_factory.mktemp("tables"), table)
    return {name: written / f"{name}.parquet" for name in runner.TABLES}


@pytest.fixture
def marts(tmp_path: Path, others: dict[str, Path]) -> Callable[..., dict[str, pl.DataFrame]]:
    return lambda found, **config: computed(tmp_path, others, found, **config)


def computed(
    folder: Path, others: dict[str, Path], found: dict[str, pl.DataFrame], **config: Any
) -> dict[str, pl.DataFrame]:
    """noise_anatomy and text_bootstrap."""
    paths = others | {name: folder / f"{name}.parquet" for name in found}
    for name, table in found.items():
        scores.write_pinned(table, paths[name])
    names = ("noise_anatomy", "text_bootstrap")
    with runner.database(paths, {**factory.CONFIG, **config}) as db:
        for step in (step for step in runner.PLAN if any(step in needs(name) for name in names)):
            runner.run(db, step)
        return {name: contracts.conform(runner.result(db, name), name) for name in names}


def test_components_are_recovered_within_their_error(marts: Marts) -> None:
    mart = marts(factory.anatomy(150, tasks=1))["noise_anatomy"].filter(task_kind="in")
    for part, sds in (("common", factory.ANATOMY_COMMON), ("relative", factory.ANATOMY_RELATIVE)):
        total = sum(sd**2 for sd in sds.values())
        for row in mart.filter(pl.col("part") == part, pl.col("source") != "all").to_dicts():
            expected = sds[row["source"]] ** 2
            error = 4 * np.sqrt(2 / 150) * (expected + factory.ANATOMY_RELATIVE[row["source"]] ** 2 / 3) + 1e-15
            assert abs(row["raw_variance"] - expected) < error, row
            assert abs(row["share"] - expected / total) < 0.12
        (whole,) = mart.filter(part=part, source="all").to_dicts()
        assert whole["variance"] == pytest.approx(total, rel=0.4)
        assert whole["additivity"] == pytest.approx(1, abs=0.35)
        assert whole["share"] is None


def test_mean_squares_are_those_of_numpy(marts: Marts) -> None:
    """The same estimates, from the definition, on a small table with three tasks."""
    found = factory.anatomy(5, tasks=3)
    mart = marts(found)["noise_anatomy"].filter(task_kind="all")
    means = found["anatomy"].group_by("sae_id", "eval_seed").agg(pl.col("value").mean())
    wide = means.pivot(on="sae_id", index="eval_seed", values="value").sort("eval_seed")
    value = dict(zip(wide["eval_seed"], wide.drop("eval_seed").to_numpy(), strict=True))
    points = {(p["block"], p["step"]): p for p in found["points"].to_dicts()}
    for source in [*factory.ANATOMY_SOURCES, "all"]:
        moves = [(p, points[p["block"], p["step"] - 1]) for p in points.values() if p["moved"] == source]
        if source == "all":
            moves = [(points[b, len(factory.ANATOMY_SOURCES)], points[b, 0]) for b in range(5)]
        d = np.array([value[after["eval_seed"]] - value[before["eval_seed"]] for after, before in moves])
        relative = d.var(axis=1, ddof=1).mean() / 2
        common = (d.mean(1) ** 2).mean() / 2 - relative / 3
        rows = {row["part"]: row for row in mart.filter(source=source).to_dicts()}
        assert [rows[p]["raw_variance"] for p in ("common", "relative")] == pytest.approx([common, relative], abs=1e-15)
        exact = 5 * relative / stats.chi2.ppf([0.975, 0.025], 5)
        limits = [rows["relative"][f"sd_{side}"] ** 2 for side in ("low", "high")]
        assert limits == pytest.approx(exact, rel=0.1, abs=1e-15)
        assert rows["relative"]["n_blocks"] == 5 and rows["relative"]["n_tasks"] == 3


def test_an_inert_source_has_share_0_and_says_why(marts: Marts) -> None:
    mart = marts(factory.anatomy(20, inert=("probe",)))["noise_anatomy"].filter(task_kind="in")
    for row in mart.filter(source="probe").to_dicts():
        assert (row["share"], row["share_low"], row["share_high"], row["variance"]) == (0, 0, 0, 0)
        assert row["reason"].startswith("inert")
    assert mart.filter(pl.col("source") != "all").group_by("part").agg(pl.col("share").sum())["share"].to_list() == (
        pytest.approx([1, 1])
    )


def test_the_bootstrap_stands_beside_the_reseed(marts: Marts) -> None:
    found = marts(factory.anatomy(150, tasks=1), text_share={"mini": 0.5})["text_bootstrap"].filter(task_kind="in")
    fixed = ("split", "probe", "negatives")
    for i, (part, sds) in enumerate((("common", factory.ANATOMY_COMMON), ("relative", factory.ANATOMY_RELATIVE))):
        (row,) = found.filter(part=part).to_dicts()
        assert row["resampled"] == pytest.approx(factory.ANATOMY_RESAMPLED[i], rel=0.12)
        assert row["reseeded"] == pytest.approx(np.sqrt(sum(sds[s] ** 2 for s in fixed)), rel=0.2)
        assert row["new_rows"] == pytest.approx(sds["data"] * np.sqrt(2), rel=0.25)
        assert (row["n_blocks"], row["n_resamples"], row["bank_share"]) == (150, 600, 0.5)
        assert abs(row["bias"]) < 5 * row["bias_se"]
        assert row["resampled_to_reseeded"] == pytest.approx(row["resampled"] / row["reseeded"])


def test_blocks_without_a_score_are_left_out_and_no_block_is_null(marts: Marts) -> None:
    found = factory.anatomy(4)
    nothing = {"value": None, "status": "undefined_denominator", "reason": "none"}

    def without(table: pl.DataFrame, lost: pl.Expr) -> pl.DataFrame:
        change = {
            k: pl.when(lost).then(pl.lit(v)).otherwise(pl.col(k)).cast(table.schema[k]).alias(k)
            for k, v in nothing.items()
        }
        return table.with_columns(**change)

    one = pl.col("eval_seed").is_in(found["points"].filter(block=0)["eval_seed"].implode())
    mart = marts({**found, "anatomy": without(found["anatomy"], one)})["noise_anatomy"]
    assert set(mart["n_blocks"]) == {3}
    every = marts({**found, "anatomy": without(found["anatomy"], pl.lit(True))})
    assert set(every["noise_anatomy"]["reason"]) == {"no block in which every SAE has a score at both points"}
    assert every["noise_anatomy"]["variance"].null_count() == every["noise_anatomy"].height
    assert every["text_bootstrap"]["resampled"].null_count() == every["text_bootstrap"].height


def test_a_study_without_an_anatomy_has_empty_marts(marts: Marts) -> None:
    assert [mart.height for mart in marts({}).values()] == [0, 0]


def test_intervals_cover_what_they_should() -> None:
    """Over 200 simulated anatomies of 20 blocks and 3 SAEs, independent SAEs: at least 95 % less four errors, and no vacuous
    interval: the relative parts' degrees of freedom are N, not N (K - 1), so that coverage may exceed 95 %."""
    rng, n, k, runs = np.random.default_rng(3), 20, 3, 200
    hits: dict[tuple[str, str], int] = {}
    totals = {
        "common": sum(v**2 for v in factory.ANATOMY_COMMON.values()),
        "relative": sum(v**2 for v in factory.ANATOMY_RELATIVE.values()),
    }
    rows = []
    for run in range(runs):
        for source in factory.ANATOMY_SOURCES:
            relative = factory.ANATOMY_RELATIVE[source] ** 2 * rng.chisquare(n * (k - 1)) / (n * (k - 1))
            common = (
                (factory.ANATOMY_COMMON[source] ** 2 + factory.ANATOMY_RELATIVE[source] ** 2 / k) * rng.chisquare(n) / n
            )
            rows.append((run, source, k, n, n, common, relative))
    names = ["cell_id", "source", "n_saes", "n_blocks", "df", "common", "relative"]
    for row in intervals.intervals(pl.DataFrame(rows, schema=names, orient="row")).to_dicts():
        source, part = row["source"], row["part"]
        if source == intervals.FIXED:
            continue
        truth = {"common": factory.ANATOMY_COMMON, "relative": factory.ANATOMY_RELATIVE}[part][source] ** 2
        pairs = {"variance": (truth, row["low"], row["high"])}
        pairs["share"] = (truth / totals[part], row["share_low"], row["share_high"])
        for what, (value, low, high) in pairs.items():
            key = (f"{part} {what}", source)
            hits[key] = hits.get(key, 0) + (low - 1e-12 <= value <= high + 1e-12)
    least = 0.95 - 4 * np.sqrt(0.95 * 0.05 / runs)
    assert min(hits.values()) / runs > least, hits
    assert {key for key, hit in hits.items() if hit < runs}  # they do miss sometimes


def test_equal_tables_give_equal_bits(marts: Marts) -> None:
    first, second = (marts(factory.anatomy(6))["noise_anatomy"] for _ in (0, 1))
    assert first.equals(second)


def test_neighbouring_points_differ_in_one_source_and_blocks_share_nothing() -> None:
    seen: set[tuple[str, int]] = set()
    for number in range(7):
        points = anatomy.block(number, factory.ANATOMY_SOURCES, 2)
        for before, after in pairwise(points[:6]):
            assert [s for s in factory.ANATOMY_SOURCES if before.levels[s] != after.levels[s]] == [after.moved]
        assert all(points[0].levels[s] != points[5].levels[s] for s in factory.ANATOMY_SOURCES)
        assert [p.levels for p in points[6:]] == [points[0].levels] * 2
        levels = {(s, level) for p in points for s, level in p.levels.items()}
        assert not levels & seen
        seen |= levels
    orders = {tuple(p.moved for p in anatomy.block(n, factory.ANATOMY_SOURCES, 0)[1:]) for n in range(5)}
    assert len(orders) == 5 and {order[0] for order in orders} == set(factory.ANATOMY_SOURCES)
