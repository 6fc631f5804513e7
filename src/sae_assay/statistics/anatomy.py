"""Intervals of a noise anatomy's variance components and shares: generalised confidence intervals (Weerahandi 1993).

A mean square of N blocks is its expectation times chi-squared over N. So each component is drawn anew as
mean square * N / chi-squared, the common shift as M* - E* / K (cut at 0), shares from the draws; the interval holds the
middle 95 %. For one component this is the exact chi-squared interval; for sums, differences and shares it is the usual
answer where no exact one exists.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from sae_assay import seeds

REPLICATES = 4000
PARTS = ("common", "relative")
ALL, RESAMPLE, FIXED = "all", "resample", "fixed rows"
MOVES_ROWS = ("data", "tasks")
"""Sources that change which rows or concepts are asked about; the others are what a reseed on fixed rows moves."""
SCHEMA = pl.Schema(
    {
        "cell_id": pl.Int64(),
        "part": pl.String(),
        "source": pl.String(),
        **dict.fromkeys(("variance", "low", "high", "share_low", "share_high"), pl.Float64()),
    }
)
Draws = dict[str, np.ndarray[Any, np.dtype[np.float64]]]


def intervals(squares: pl.DataFrame, confidence: float = 0.95) -> pl.DataFrame:
    """Variances of every source and part, their intervals and those of their shares.

    Args:
        squares: columns cell_id, source, n_saes, n_blocks, df, common, relative (`sql/stg_anatomy_squares.sql`).
        confidence: of the intervals.

    Returns:
        A row a cell, part and source that has two blocks, and one for `fixed rows`, the sum over sources that leave the rows
        alone. Shares are those of single sources; null where draws give no variance to divide.
    """
    rows: list[tuple[Any, ...]] = []
    for (cell,), group in squares.filter(pl.col("n_blocks") > 1).group_by("cell_id", maintain_order=True):
        found = {row["source"]: row for row in group.sort("source").to_dicts()}
        for part in PARTS:
            rows += [(cell, part, *one) for one in _of_part(found, part, (1 - confidence) / 2)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _of_part(found: dict[str, dict[str, Any]], part: str, tail: float) -> list[tuple[Any, ...]]:
    """(source, variance, low, high, share_low, share_high) of each source."""
    variances = {source: _variance(row, part) for source, row in found.items()}
    draws = {source: _drawn(row, part) for source, row in found.items()}
    single = [source for source in found if source not in (ALL, RESAMPLE)]
    fixed = [source for source in single if source not in MOVES_ROWS]
    if fixed:
        variances[FIXED] = sum(variances[source] for source in fixed)
        draws[FIXED] = np.sum([draws[source] for source in fixed], axis=0)
    total = np.sum([draws[source] for source in single], axis=0)
    rows = []
    for source, variance in variances.items():
        share: tuple[float | None, float | None] = (None, None)
        if source in single:
            with np.errstate(invalid="ignore"):
                share = _middle(draws[source] / total, tail)
        rows.append((source, variance, *_middle(draws[source], tail), *share))
    return rows


def _variance(row: dict[str, Any], part: str) -> float:
    value = row["relative"] if part == "relative" else row["common"] - row["relative"] / row["n_saes"]
    return max(0.0, float(value))


def _drawn(row: dict[str, Any], part: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Draws [replicates] of a component; a source draws alike in every cell, so that cells stay paired."""
    relative = row["relative"] * _factors(row["source"], "relative", row["df"])
    if part == "relative":
        return relative
    common = row["common"] * _factors(row["source"], "common", row["df"])
    return np.maximum(common - relative / row["n_saes"], 0.0)


@lru_cache(maxsize=64)
def _factors(source: str, part: str, df: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """df over chi-squared draws."""
    rng = seeds.numpy_generator("statistics", "noise anatomy", source, part)
    return df / rng.chisquare(df, size=REPLICATES)


def _middle(draws: np.ndarray[Any, np.dtype[np.float64]], tail: float) -> tuple[float | None, float | None]:
    """The middle of the draws; None where some draw is undefined."""
    if not np.isfinite(draws).all():
        return None, None
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
