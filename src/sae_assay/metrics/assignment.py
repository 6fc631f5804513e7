"""The one-to-one matching of largest total similarity, found among each row's few largest entries and proved optimal.

A matching is optimal if prices exist that make no entry worth more than it costs (linear-programming duality). So the
matching is sought among a few entries a row, prices follow from it, and every other entry is tested against them; the
few that fail are added and the search begins anew. The result is that of `scipy.optimize.linear_sum_assignment`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matching = tuple[NDArray[np.integer], NDArray[np.integer]]

FEW = 32
"""Entries a row to begin with."""
DENSE = 512
"""Columns up to which all entries are looked at."""
ROUNDS = 20
TOLERANCE = 1e-7
"""Of a price: a matching is within `rows * TOLERANCE` of the best."""
_TOP = 2.0  # above every similarity, so that costs are positive: a stored 0 would be no entry


def largest(similarity: NDArray[np.float32]) -> Matching:
    """Rows and columns of the matching.

    Args:
        similarity: [n, m] with n <= m, at most 1.
    """
    n, m = similarity.shape
    if m > DENSE and np.isfinite(similarity).all():
        entries = _large(similarity)
        for _ in range(ROUNDS):
            found = _among(similarity, entries)
            if found is None:
                break
            columns, prices = found
            wrong = _underpriced(similarity, columns, prices)
            if not len(wrong):
                return np.arange(n), columns
            entries = np.union1d(entries, wrong)
    return linear_sum_assignment(similarity, maximize=True)


def _large(similarity: NDArray[np.float32]) -> NDArray[np.int64]:
    """Flat positions of every row's maximum and of what lies above the usual `FEW`-th largest entry of a row."""
    n, m = similarity.shape
    some = similarity[:: max(1, n // 64)]
    chosen = similarity > np.median(np.partition(some, m - FEW, axis=1)[:, m - FEW])
    chosen[np.arange(n), similarity.argmax(1)] = True
    return np.flatnonzero(chosen)


def _among(
    similarity: NDArray[np.float32], entries: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """The best matching's columns [n] that uses these entries alone, and prices of the columns [m]; None where there is
    none, or no prices are found."""
    n, m = similarity.shape
    row, column = entries // m, entries % m
    cost = _TOP - similarity.ravel()[entries].astype(np.float64)
    starts = np.searchsorted(row, np.arange(n + 1))
    graph = csr_array((cost, column.astype(np.int32), starts.astype(np.int32)), shape=(n, m))
    try:
        _, matched = min_weight_full_bipartite_matching(graph)
    except ValueError:  # too few entries for any full matching
        return None
    columns = matched.astype(np.int64)
    paid = _TOP - similarity[np.arange(n), columns].astype(np.float64)
    prices = np.zeros(m)
    for _ in range(n):  # Bellman-Ford: a column costs no more than what any row would save by taking it
        lower = prices.copy()
        np.minimum.at(lower, column, cost - (paid - prices[columns])[row])
        if (lower > prices - 1e-12).all():
            return columns, prices
        prices = lower
    return None


def _underpriced(
    similarity: NDArray[np.float32], columns: NDArray[np.int64], prices: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Flat positions of entries that are worth more than they cost. Prices are not positive, so a row's own gain bounds
    what is worth a look."""
    n, m = similarity.shape
    gain = similarity[np.arange(n), columns].astype(np.float64) + prices[columns]
    seen = np.flatnonzero(similarity > (gain + TOLERANCE / 2).astype(np.float32)[:, None])
    worth = similarity.ravel()[seen].astype(np.float64) + prices[seen % m]
    return seen[worth > gain[seen // m] + TOLERANCE]
