"""Matching pursuit row by row in compiled loops: a row's projections stay in the processor's first cache for all its steps.

The steps are those of `encoder._pursue`, which moves many rows together and runs on a GPU too; sums have another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sae_assay.saes.encoder import LightSAE

BLOCK = 128
"""Projections whose largest is noted together."""
CLOSE = np.float32(1e-5)
"""Of a row's largest projection: what lies so near the largest of a step is told apart by the residual itself, as
projections that were updated step by step lose their last bits."""


def pursue(
    rows: NDArray[np.float32], projections: NDArray[np.float32], sae: LightSAE
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Row, latent and value of every active latent, row by row, in the order in which they were taken.

    Args:
        rows: [n, d_in] encoder inputs, finite; overwritten by what is left of them.
        projections: [n, d_sae] of the rows on the decoder; overwritten.
    """
    config = sae.config
    most = int(config.get("max_iterations") or rows.shape[1])
    latents, values = np.zeros((len(rows), most), np.int32), np.zeros((len(rows), most), np.float32)
    _pursue(
        rows,
        projections,
        sae.W_dec.numpy(),
        sae.gram.numpy(),
        np.float32(config.get("residual_threshold", 1e-2)),
        bool(config.get("stop_on_duplicate_support", True)),
        latents,
        values,
    )
    row, place = np.nonzero(values)
    return row.astype(np.int32), latents[row, place], values[row, place]


@njit(cache=True)
def _pursue(rows, projections, decoder, gram, threshold, stop_on_support, latents, values):  # type: ignore[no-untyped-def]
    most = np.empty(-(-projections.shape[1] // BLOCK), np.int32)
    for i in range(len(rows)):
        residual, projection = rows[i], projections[i]
        taken = 0
        _largest(projection.view(np.int32), most)
        close = CLOSE * projection.max()
        for _ in range(latents.shape[1]):
            chosen = _first(projection, most, close, residual, decoder)
            value = max(_dot(residual, decoder[chosen]), np.float32(0))
            place = 0
            while place < taken and latents[i, place] != chosen:
                place += 1
            done = stop_on_support and (place < taken or value == 0)
            latents[i, place] = chosen
            values[i, place] += value
            taken = max(taken, place + 1)
            left = _take(residual, decoder[chosen], value)
            if done or (threshold > 0 and np.sqrt(left) < threshold):
                break
            _subtract(projection, gram[chosen], value)
            _largest(projection.view(np.int32), most)


@njit
def _subtract(projection, products, value):  # type: ignore[no-untyped-def]
    for j in range(len(projection)):
        projection[j] -= value * products[j]


@njit
def _largest(bits, most):  # type: ignore[no-untyped-def]
    """Each block's largest entry. A positive float32's bits are ordered as it is, and compilers vectorise the maximum of
    integers alone. Where all are negative it is another than the first of the largest, whose latent is 0 too, but for
    rounding."""
    whole = len(bits) // BLOCK
    for block in range(whole):  # of fixed length, for the compiler's sake
        largest = np.int32(-(2**31))
        for j in range(block * BLOCK, block * BLOCK + BLOCK):
            largest = max(largest, bits[j])
        most[block] = largest
    if whole < len(most):
        most[whole] = bits[whole * BLOCK :].max()


@njit
def _first(projection, most, close, residual, decoder):  # type: ignore[no-untyped-def]
    """The first of the largest; of those that are close, the one whose direction fits the residual best."""
    block = 0
    for other in range(1, len(most)):
        if most[other] > most[block]:
            block = other
    j = block * BLOCK
    while projection.view(np.int32)[j] != most[block]:
        j += 1
    least, chosen, best = projection[j] - close, j, -np.inf
    for block in range(len(most)):
        if most.view(np.float32)[block] >= least:
            for other in range(block * BLOCK, min((block + 1) * BLOCK, len(projection))):
                if projection[other] >= least and other != j:
                    best = max(best, _exactly(residual, decoder[chosen]))
                    fits = _exactly(residual, decoder[other])
                    if fits > best:
                        chosen, best = other, fits
    return chosen


@njit
def _exactly(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(x)):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@njit(fastmath={"reassoc"})
def _dot(x, y):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@njit(fastmath={"reassoc"})
def _take(residual, direction, value):  # type: ignore[no-untyped-def]
    """Takes a direction from the residual, whose squared norm it returns."""
    left = np.float32(0)
    for i in range(len(residual)):
        residual[i] -= value * direction[i]
        left += residual[i] * residual[i]
    return left
