"""Intervals by resampling training runs: the unit of every claim about trajectories."""

from __future__ import annotations

import functools

import numpy as np
import polars as pl

from sae_assay import seeds

REPLICATES = 2000
MINIMUM_RUNS = 3
SCHEMA = pl.Schema({"question": pl.String(), "cell_id": pl.Int64(), "low": pl.Float64(), "high": pl.Float64()})


def run_intervals(decisions: pl.DataFrame, confidence: float = 0.95) -> pl.DataFrame:
    """Percentile bootstrap over runs of the share `sum(score) / sum(n)` over pairs of runs.

    A drawn run brings its pairs with every other drawn run; a run drawn twice makes no pair with itself.

    Args:
        decisions: columns question, cell_id, run_a, run_b, score, n (`sql/stg_decisions.sql`).
        confidence: of the interval.

    Returns:
        question, cell_id, low, high in [0, 1]; no row where there are fewer than three runs.
    """
    rows = []
    for (question, cell), pairs in decisions.group_by("question", "cell_id", maintain_order=True):
        runs = sorted({*pairs["run_a"], *pairs["run_b"]})
        if len(runs) < MINIMUM_RUNS:
            continue
        shares = _resampled_shares(pairs, runs)
        tail = (1 - confidence) / 2
        low, high = np.nanquantile(shares, [tail, 1 - tail])
        rows.append((question, cell, float(low), float(high)))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _resampled_shares(pairs: pl.DataFrame, runs: list[str]) -> np.ndarray:
    """[replicates] shares; NaN where a draw holds no pair. The stream depends on the runs alone, so cells stay paired."""
    weight = _weights(tuple(runs), tuple(pairs["run_a"]), tuple(pairs["run_b"]))
    score, n = pairs["score"].to_numpy().astype(np.float64), pairs["n"].to_numpy().astype(np.float64)
    with np.errstate(invalid="ignore"):
        return (weight @ score) / (weight @ n)


@functools.lru_cache(maxsize=8)
def _weights(runs: tuple[str, ...], run_a: tuple[str, ...], run_b: tuple[str, ...]) -> np.ndarray:
    """[replicates, pairs]: how often a draw of runs holds each pair. Most cells have the same pairs."""
    place = {run: i for i, run in enumerate(runs)}
    a, b = (np.array([place[run] for run in side]) for side in (run_a, run_b))
    rng = seeds.numpy_generator("statistics", "bootstrap over runs", *runs)
    times_drawn = rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=REPLICATES)
    return (times_drawn[:, a] * times_drawn[:, b]).astype(np.float64)
