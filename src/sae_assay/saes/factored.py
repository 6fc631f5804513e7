"""Latents of a wide SAE on a world's rows, from the few features that make each row.

A row is the world's bias and the sum of its active features' directions, each by its activation. A linear map of it is
the same sum of mapped directions: with `directions @ W_enc` some 34 terms a latent in SynthSAEBench-16k, where a product
with the row has 768. Latents are taken `TILE` at a time, whose mapped directions stay in the processor's cache.

Sums have another order than the dense product's, so that values differ in their last bits. The portable profile keeps
the dense product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numba import njit

from sae_assay import numerics
from sae_assay.errors import AssayError
from sae_assay.metrics.latents import SparseLatents
from sae_assay.saes.encoder import LightSAE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from sae_assay.worlds.pool import Pool

    Found = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
    """Active latents: the row, latent and value of each."""

WORTHWHILE = 1 << 20
"""Weights of an encoder from which on this pays."""
FEWER = 4
"""How many times fewer features than dimensions a row must have: a sum's term costs more than a product's."""
TILE, ROWS = 32, 16_384
"""Latents, and rows summed together: a tile's sums stay in the cache too."""
PURSUED_TILE, PURSUED_ROWS = 64, 8192
"""The same for a pursuit, which keeps the sums of all tiles."""
PRODUCT = 512
"""Latents whose directions are mapped together: a product with few columns is slow."""
CHECKED = 64
"""Rows that are compared with what their features make."""
MOST_MAPPED = 1 << 28
"""Mapped directions that a pursuit, which needs all tiles at once, may keep: 1 GiB."""


@dataclass(frozen=True)
class Factored:
    """An SAE that reads the rows of a world.

    Attributes:
        sae: thresholded (standard, JumpReLU) or matching pursuit.
        directions, bias: float32 [num_features, d_in] and [d_in], the world's.
    """

    sae: LightSAE
    directions: Tensor
    bias: Tensor

    def encode(self, pool: Pool) -> SparseLatents:
        """Latents of all rows.

        Raises:
            AssayError: rows that this world does not make of their features.
        """
        self._check(pool)
        return self._pursued(pool) if self.sae.arch == "matching_pursuit" else self._thresholded(pool)

    def _check(self, pool: Pool) -> None:
        """Some of the first and last rows: a pool can be put together of two."""
        fits = (pool.num_features, pool.hidden.shape[1]) == tuple(self.directions.shape)
        for start in (0, max(0, len(pool) - CHECKED)) if fits else ():
            features = _features(pool, start, start + CHECKED)
            rows = torch.from_numpy(pool.hidden[start : start + CHECKED])
            made = features @ self.directions + self.bias
            fits &= torch.allclose(made, rows, rtol=1e-3, atol=1e-3 * float(rows.abs().max()), equal_nan=True)
        if not fits:
            problem = "its rows are not those that the world makes of their features"
            raise AssayError(
                "evaluation set", problem, "delete it and run the workflow again; it rebuilds what is missing"
            )

    def _offset(self, weights: Tensor) -> Tensor:
        """What the bias adds to every row's product with weights [d_in, d_sae]: [d_sae]."""
        return (self.sae.encoder_input(self.bias[None]).double() @ weights.double())[0].float()

    def _thresholded(self, pool: Pool) -> SparseLatents:
        sae = self.sae
        offset = self._offset(sae.W_enc) + sae.b_enc
        threshold = None if sae.threshold is None else sae.threshold.clamp(min=0).numpy()
        blocks = [(start, _features(pool, start, start + ROWS)) for start in range(0, len(pool), ROWS)]
        found: list[Found] = []
        for first, tile in _tiles(self.directions, sae.W_enc, TILE):
            width = tile.shape[1]
            here = slice(first, first + width)
            least = np.float32(0) if threshold is None else threshold[here]
            for start, features in blocks:
                pre = (features @ tile).add_(offset[here]).numpy()
                at = np.flatnonzero(~(pre <= least)).astype(np.int32)
                found.append((at // width + np.int32(start), at % width + np.int32(first), pre.ravel()[at]))
        return _sparse(found, len(pool), sae.d_sae)

    def _pursued(self, pool: Pool) -> SparseLatents:
        from sae_assay.saes import pursuit  # compiles its loops

        sae, weights, how = self.sae, self.sae.W_dec.T, pursuit.Pursuit(self.sae)
        tiles, offset = [tile for _, tile in _tiles(self.directions, weights, PURSUED_TILE)], self._offset(weights)
        kept = torch.empty(min(PURSUED_ROWS, len(pool)), sae.d_sae)  # fresh memory costs as much as the sums
        parts, unsure = [], []
        for start in range(0, len(pool), PURSUED_ROWS):
            features = _features(pool, start, start + PURSUED_ROWS)
            projections = kept[: len(features)]
            for part, tile, shift in zip(
                projections.split(PURSUED_TILE, 1), tiles, offset.split(PURSUED_TILE), strict=True
            ):
                torch.add(features @ tile, shift, out=part)
            rows = sae.encoder_input(torch.from_numpy(pool.hidden[start : start + PURSUED_ROWS]))
            found = how.pursue(rows.numpy(), projections.numpy())
            parts.append((found.row + np.int32(start), found.latent, found.value))
            unsure.append(np.flatnonzero(found.unsure) + start)
        again = np.concatenate(unsure)  # of all blocks: a product with few rows costs nearly one with many
        for at in range(0, len(again), PURSUED_ROWS):
            some = again[at : at + PURSUED_ROWS]
            latents = how.as_sae_lens(sae.encoder_input(torch.from_numpy(pool.hidden[some]))).numpy()
            row, latent = np.nonzero(latents)
            parts.append((some[row].astype(np.int32), latent.astype(np.int32), latents[row, latent]))
        return _sparse(parts, len(pool), sae.d_sae)


def _features(pool: Pool, start: int, stop: int) -> SparseLatents:
    """Features of some rows: what an SAE of the world's own directions would have for latents."""
    indptr = pool.indptr[start : stop + 1]
    here = slice(indptr[0], indptr[-1])
    return SparseLatents(indptr - indptr[0], pool.indices[here], pool.values[here], pool.num_features)


def factored(sae: object, pool: Pool, world: Mapping[str, NDArray[np.float32]]) -> Factored | None:
    """The SAE as a reader of the world's rows; None where the numeric profile forbids it, or nothing is gained by it.

    Args:
        world: arrays of world.safetensors.
    """
    if not numerics.native() or type(sae) is not LightSAE or sae.normalizes_rows:
        return None
    if sae.arch not in ("standard", "jumprelu", "matching_pursuit") or sae.W_dec.numel() < WORTHWHILE:
        return None
    directions, bias = (torch.from_numpy(world[name]) for name in ("feature_vectors", "bias"))
    if sae.arch == "matching_pursuit" and len(directions) * sae.d_sae > MOST_MAPPED:
        return None
    if len(pool) < len(directions) or FEWER * len(pool.values) > pool.hidden.size:
        return None
    parts = (sae.W_dec, sae.W_enc, sae.b_enc, sae.b_dec)
    if any(t.dtype != torch.float32 or t.device.type != "cpu" or not torch.isfinite(t).all() for t in parts):
        return None  # the dense encoder shows what is not finite
    return Factored(sae, directions, bias)


def _tiles(directions: Tensor, weights: Tensor, width: int) -> Iterator[tuple[int, Tensor]]:
    """Mapped directions [num_features, up to width] of weights [d_in, d_sae], and the first latent of each."""
    first = 0
    for some in weights.split(PRODUCT, 1):
        for tile in (directions @ some.contiguous()).split(width, 1):
            yield first, tile.contiguous()
            first += tile.shape[1]


def _sparse(parts: list[Found], rows: int, width: int) -> SparseLatents:
    """Latents from the rows, columns and values of active ones, of which each row's come in order of their columns."""
    indptr = np.zeros(rows + 1, np.int64)
    for row, _, _ in parts:
        _count(row, indptr)
    np.cumsum(indptr, out=indptr)
    indices, values, place = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32), indptr[:-1].copy()
    for part in parts:
        _put(*part, place, indices, values)
    return SparseLatents(indptr, indices, values, width)


@njit(cache=True)
def _count(row, after):  # type: ignore[no-untyped-def]
    for i in row:
        after[i + 1] += 1


@njit(cache=True)
def _put(row, column, value, place, indices, values):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        at = place[row[i]]
        indices[at], values[at] = column[i], value[i]
        place[row[i]] = at + 1
