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

    from sae_assay.metrics.similarity import Entries, Similarity

    Matching = tuple[NDArray[np.int64], NDArray[np.float32]]

FEW = 32
"""Entries a row to begin with."""
DENSE = 512
"""Columns up to which all entries are looked at."""
ROUNDS = 20
TOLERANCE = 1e-7
"""Of a price: a matching is within `rows * TOLERANCE` of the best."""
_TOP = 2.0  # above every similarity, so that costs are positive: a stored 0 would be no entry


def largest(similarity: Similarity) -> Matching:
    """Every row's column in the matching, and their similarity: [n] each, for n <= m of [n, m]."""
    n, m = similarity.shape
    if m > DENSE:
        entries = _large(similarity)
        for _ in range(ROUNDS):
            found = _among((n, m), entries)
            if found is None:
                break
            at, prices = found
            columns, values = entries[0][at] % m, entries[1][at]
            wrong = _underpriced(similarity, values.astype(np.float64) + prices[columns], prices)
            if not len(wrong[0]):
                return columns, values
            entries = _joined(entries, wrong)
    dense = similarity.rows(np.arange(n))
    rows, columns = linear_sum_assignment(dense, maximize=True)
    return columns, dense[rows, columns]


def _large(similarity: Similarity) -> Entries:
    """Every row's maximum and what lies above the usual `FEW`-th largest entry of a row."""
    n, m = similarity.shape
    some = similarity.rows(np.arange(0, n, max(1, n // 64)))
    usual = np.median(np.partition(some, m - FEW, axis=1)[:, m - FEW])
    return _joined(similarity.above(np.full(n, usual, np.float32)), similarity.best())


def _joined(some: Entries, more: Entries) -> Entries:
    positions, first = np.unique(np.concatenate([some[0], more[0]]), return_index=True)
    return positions, np.concatenate([some[1], more[1]])[first]


def _among(shape: tuple[int, int], entries: Entries) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Which entries [n] are the best matching that uses these alone, and prices of the columns [m]; None where there is
    none, or no prices are found."""
    (n, m), (positions, values) = shape, entries
    row, column = positions // m, positions % m
    cost = _TOP - values.astype(np.float64)
    starts = np.searchsorted(row, np.arange(n + 1))
    graph = csr_array((cost, column.astype(np.int32), starts.astype(np.int32)), shape=(n, m))
    try:
        _, matched = min_weight_full_bipartite_matching(graph)
    except ValueError:  # too few entries for any full matching
        return None
    columns = matched.astype(np.int64)
    at = np.searchsorted(positions, np.arange(n) * m + columns)
    paid, prices = cost[at], np.zeros(m)
    for _ in range(n):  # Bellman-Ford: a column costs no more than what any row would save by taking it
        lower = prices.copy()
        np.minimum.at(lower, column, cost - (paid - prices[columns])[row])
        if (lower > prices - 1e-12).all():
            return at, prices
        prices = lower
    return None


def _underpriced(similarity: Similarity, gain: NDArray[np.float64], prices: NDArray[np.float64]) -> Entries:
    """Entries that are worth more than they cost. Prices are not positive, so a row's own gain [n] bounds what is worth a
    look."""
    m = similarity.shape[1]
    positions, values = similarity.above((gain + TOLERANCE / 2).astype(np.float32))
    wrong = values.astype(np.float64) + prices[positions % m] > gain[positions // m] + TOLERANCE
    return positions[wrong], values[wrong]
