"""Compressed sparse rows: the entries of row i stand from `indptr[i]` to `indptr[i + 1]`. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]


def row_of(indptr: Ints) -> NDArray[np.int64]:
    """The row of each entry [entries]."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def taken(indptr: Ints, rows: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows picked in an order: their own indptr [rows + 1], and where their entries stand [entries]."""
    rows = np.asarray(rows, np.int64)
    lengths = indptr[rows + 1] - indptr[rows]
    picked = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return picked, np.repeat(indptr[rows] - picked[:-1], lengths) + np.arange(picked[-1])


def stacked(indptrs: Sequence[Ints]) -> NDArray[np.int64]:
    """The indptr of matrices laid one below the other."""
    starts = np.cumsum([0] + [int(indptr[-1]) for indptr in indptrs])
    below = [indptr[1:] + start for indptr, start in zip(indptrs, starts, strict=False)]
    return np.concatenate([np.zeros(1, np.int64), *below])
