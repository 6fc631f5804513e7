"""Matching pursuit row by row in compiled loops: a row's projections stay in the processor's first cache for all its steps.

The steps are those of `encoder._pursue`, which moves many rows together and runs on a GPU too; sums have another order.
Where float32 cannot tell which of two latents fits better, or whether to stop, a row is pursued again in sae_lens's
arithmetic, so that latents are those that the library gives on this processor, for decoder rows of a norm near 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sae_assay.saes.encoder import LightSAE

BLOCK = 128
"""Projections whose largest is noted together."""
LANES = 32
"""Sums that torch keeps side by side: four vectors of eight."""
CLOSE = np.float32(1e-5)
"""Of a row's largest projection: what lies so near the largest of a step is compared by the residual itself, as projections
that were updated step by step lose their last bits."""
UNSURE = np.float32(2e-6)
"""Of a row's largest projection: float32 cannot tell which of two projections so near each other is larger; a product with
768 terms was seen to be off by up to a fourth of it."""


class Products(NamedTuple):
    """Products of all pairs of decoder rows in 16 bits, which memory gives twice as fast: `parts` [d_sae, d_sae] times
    `part`. What they lose widens what is close."""

    parts: NDArray[np.int16]
    part: np.float32

    @classmethod
    def of(cls, sae: LightSAE) -> Products:
        gram = sae.gram.numpy()
        largest = np.abs(gram.diagonal()).max()  # no two directions have a larger product than one with itself
        part = np.float32(max(largest / np.iinfo(np.int16).max, np.finfo(np.float32).tiny))
        parts = np.empty(gram.shape, np.int16)
        for row, products in zip(parts, gram, strict=True):
            row[:] = np.rint(products / part)
        return cls(parts, part)


class Pursued(NamedTuple):
    """Active latents of some rows, a row's in order: the row, latent and value of each. Which rows [n] float32 leaves unsure
    of; those have none."""

    row: NDArray[np.int32]
    latent: NDArray[np.int32]
    value: NDArray[np.float32]
    unsure: NDArray[np.bool_]


class Pursuit:
    """Matching pursuit by an SAE's settings."""

    def __init__(self, sae: LightSAE) -> None:
        self._sae, self._products = sae, Products.of(sae)
        most = sae.config.get("max_iterations")
        self._most = sae.d_in if most is None else int(most)
        self._threshold = float(sae.config.get("residual_threshold", 1e-2))
        self._stop_on_support = bool(sae.config.get("stop_on_duplicate_support", True))

    def pursue(self, rows: NDArray[np.float32], projections: NDArray[np.float32]) -> Pursued:
        """Latents of rows.

        Args:
            rows: [n, d_in] encoder inputs, finite.
            projections: [n, d_sae] of the rows on the decoder; overwritten.
        """
        shape = len(rows), self._most
        latents, values, unsure = np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(len(rows), bool)
        limits = np.float32(self._threshold), self._stop_on_support
        _pursue(rows, projections, self._sae.W_dec.numpy(), *self._products, *limits, latents, values, unsure)
        values[unsure] = 0
        row, place = np.nonzero(values)
        return Pursued(row.astype(np.int32), latents[row, place], values[row, place], unsure)

    def as_sae_lens(self, x: Tensor) -> Tensor:
        """Latents [n, d_sae] of encoder inputs [n, d_in] by the operations of sae_lens's encoder, in its order."""
        W_dec = self._sae.W_dec
        acts, projections = torch.zeros(len(x), len(W_dec)), torch.empty(len(x), len(W_dec))
        done = torch.zeros(len(x), dtype=torch.bool)
        for _ in range(self._most):
            if done.all():
                break
            torch.mm(x, W_dec.T, out=projections)  # written so, it is torch's own product (`numerics`)
            chosen = projections.relu_().max(1).indices
            directions = W_dec[chosen]
            values = (x * directions).sum(-1).relu() * ~done
            if self._stop_on_support:
                done |= (acts.gather(1, chosen[:, None])[:, 0] != 0) | (values == 0)
            acts.scatter_add_(1, chosen[:, None], values[:, None])
            x = x - values[:, None] * directions
            if self._threshold > 0:
                done |= x.norm(dim=-1) < self._threshold
        return acts


@njit(cache=True)
def _pursue(rows, projections, decoder, parts, part, threshold, stop_on_support, latents, values, unsure):  # type: ignore[no-untyped-def]
    most, residual = np.empty(-(-projections.shape[1] // BLOCK), np.int32), np.empty(rows.shape[1], np.float32)
    sums, earlier = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for i in range(len(rows)):
        residual[:], projection, taken = rows[i], projections[i], 0
        _largest(projection.view(np.int32), most)
        largest = most.view(np.float32).max()
        close = CLOSE * largest
        for step in range(latents.shape[1]):
            chosen, lead = _first(projection, most, close, residual, decoder)
            if lead <= UNSURE * largest or projection[chosen] <= close:
                unsure[i] = True
                break
            value = max(_dot(residual, decoder[chosen], sums, earlier), np.float32(0))
            place = 0
            while place < taken and latents[i, place] != chosen:
                place += 1
            done = stop_on_support and (place < taken or value == 0)
            latents[i, place] = chosen
            values[i, place] += value
            taken = max(taken, place + 1)
            left = _take(residual, decoder[chosen], value)
            norm = np.sqrt(left)
            if threshold > 0 and abs(norm - threshold) <= CLOSE * threshold:
                unsure[i] = True
            if done or step + 1 == latents.shape[1] or unsure[i] or (threshold > 0 and norm < threshold):
                break
            _subtract(projection, parts[chosen], value * part)
            close += value * part  # each of two projections lost half of it
            _largest(projection.view(np.int32), most)
            if most.view(np.float32).max() <= 100 * close:  # too much would be compared by the residual
                projection[:], close = np.dot(decoder, residual), CLOSE * largest
                _largest(projection.view(np.int32), most)
        _in_order(latents[i, :taken], values[i])


@njit
def _in_order(latents, values):  # type: ignore[no-untyped-def]
    """Sorts a row's few latents, and their values with them."""
    for end in range(1, len(latents)):
        latent, value, place = latents[end], values[end], end
        while place and latents[place - 1] > latent:
            latents[place], values[place] = latents[place - 1], values[place - 1]
            place -= 1
        latents[place], values[place] = latent, value


@njit
def _subtract(projection, parts, value):  # type: ignore[no-untyped-def]
    for j in range(len(projection)):
        projection[j] -= value * np.float32(parts[j])


@njit
def _largest(bits, most):  # type: ignore[no-untyped-def]
    """Each block's largest entry, by its bits: a positive float32's are ordered as it is, and compilers vectorise the maximum
    of integers alone. Of a block where all are negative it is another, which only a row can choose by that is then unsure."""
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
    """The first of the largest; of those that are close, the one whose direction fits the residual best. Also by how much it
    fits better than the second."""
    bits, largest, block = projection.view(np.int32), most[0], 0
    for other in range(1, len(most)):
        largest = max(largest, most[other])
    while most[block] != largest:
        block += 1
    j = block * BLOCK
    while bits[j] != largest:
        j += 1
    least, chosen, best, lead = projection[j] - close, j, -np.inf, np.inf
    for block in range(len(most)):
        if most.view(np.float32)[block] >= least:
            for other in range(block * BLOCK, min((block + 1) * BLOCK, len(projection))):
                if projection[other] >= least and other != j:
                    if best == -np.inf:
                        best = _exactly(residual, decoder[j])
                    fits = _exactly(residual, decoder[other])
                    lead = fits - best if fits > best else min(lead, best - fits)
                    if fits > best:
                        chosen, best = other, fits
    return chosen, lead


@njit
def _exactly(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(x)):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@njit
def _dot(x, y, sums, earlier):  # type: ignore[no-untyped-def]
    """The sum of up to 8,192 products in float32 in the order of torch's sum over a row (on CPUs with AVX2), so that it has
    its bits.

    Overwrites `sums` and `earlier` [LANES]. torch adds up sixteen products a lane apart from the next sixteen.
    """
    sums[:], earlier[:] = 0, 0
    at, whole, vectors = 0, len(x) // LANES * LANES, len(x) // 8 * 8
    while at < whole:
        if at and at % (16 * LANES) == 0:
            for j in range(len(sums)):
                earlier[j] += sums[j]
                sums[j] = 0
        step = 8 if at + 8 * LANES <= whole else 1
        _add_products(sums, x[at:], y[at:], step)
        at += step * LANES
    for j in range(len(sums)):
        sums[j] += earlier[j]
    for j in range(whole, vectors):
        sums[j % 8] += x[j] * y[j]
    total = np.float32(0)
    for j in range(vectors, len(x)):
        total += x[j] * y[j]
    for j in range(8):
        total += ((sums[j] + sums[j + 8]) + sums[j + 16]) + sums[j + 24]
    return total


@njit
def _add_products(sums, x, y, times):  # type: ignore[no-untyped-def]
    if times == 8:  # of known length, for the compiler's sake
        for j in range(len(sums)):
            for k in range(8):
                sums[j] += x[LANES * k + j] * y[LANES * k + j]
    else:
        for j in range(len(sums)):
            sums[j] += x[j] * y[j]


@njit(fastmath={"reassoc"})
def _take(residual, direction, value):  # type: ignore[no-untyped-def]
    """Takes a direction from the residual, whose squared norm it returns."""
    left = np.float32(0)
    for i in range(len(residual)):
        residual[i] -= value * direction[i]
        left += residual[i] * residual[i]
    return left
