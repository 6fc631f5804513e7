"""Rows that feature activations make: each active feature's direction by its activation, and the world's bias.

A compiled loop in place of scipy's product: the same terms in the same order, so the same bits, in less than half the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    Floats = NDArray[np.float32]


def rows(features: csr_array, directions: Floats, bias: Floats) -> Floats:
    """Rows [n, d_in] of feature activations [n, num_features], float32.

    Args:
        directions, bias: [num_features, d_in] and [d_in].

    Raises:
        ValueError: features of another number of directions, or a bias of another width.
    """
    if features.shape[1] != len(directions):
        raise ValueError(f"activations of {features.shape[1]} features, {len(directions)} directions")
    if bias.shape != directions.shape[1:]:
        raise ValueError(f"a bias of shape {bias.shape}, directions of width {directions.shape[1]}")
    out = np.empty((features.shape[0], directions.shape[1]), np.float32)
    indptr, indices = features.indptr.astype(np.int64), features.indices.astype(np.int32, copy=False)
    _mix(indptr, indices, features.data, np.ascontiguousarray(directions), bias, out)
    return out


@njit(cache=True)
def _mix(indptr, indices, values, directions, bias, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        row = out[i]
        row[:] = 0
        for at in range(indptr[i], indptr[i + 1]):
            _add(row, values[at], directions[indices[at]])
        for j in range(len(row)):
            row[j] += bias[j]


@njit
def _add(row, value, direction):  # type: ignore[no-untyped-def]
    for j in range(len(row)):
        row[j] += value * direction[j]
