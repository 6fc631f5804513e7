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
from scipy.sparse import csr_array
from torch.nn import functional

from sae_assay import numerics
from sae_assay.errors import AssayError
from sae_assay.metrics.latents import SparseLatents
from sae_assay.saes.encoder import LightSAE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from sae_assay.worlds.pool import Pool

WORTHWHILE = 1 << 20
"""Weights of an encoder from which on this pays."""
FEWER = 4
"""How many times fewer features than dimensions a row must have: a sum's term costs more than a product's."""
TILE = 64
ROWS = 16384
"""Rows summed together: a tile's sums stay in the cache too."""
PURSUED = 4096
"""Rows whose projections on the whole decoder are held at once."""
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
            features = _Features.of(pool, start, start + CHECKED)
            rows = torch.from_numpy(pool.hidden[start : start + CHECKED])
            made = features.sums(self.directions) + self.bias
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
        threshold = torch.zeros(sae.d_sae) if sae.threshold is None else sae.threshold.clamp(min=0)
        blocks = [(start, _Features.of(pool, start, start + ROWS)) for start in range(0, len(pool), ROWS)]
        found: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]] = []
        for first, tile in _tiles(self.directions, sae.W_enc):
            width = tile.shape[1]
            here = slice(first, first + width)
            for start, features in blocks:
                pre = features.sums(tile).add_(offset[here])
                at = np.flatnonzero(~(pre <= threshold[here]).numpy()).astype(np.int32)
                found.append((at // width + np.int32(start), at % width + np.int32(first), pre.numpy().ravel()[at]))
        row, column, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
        del found  # as large as what is made of it
        return _sparse(row, column, values, (len(pool), sae.d_sae))

    def _pursued(self, pool: Pool) -> SparseLatents:
        from sae_assay.saes import pursuit  # compiles its loops

        sae, weights = self.sae, self.sae.W_dec.T
        tiles, offset = [tile for _, tile in _tiles(self.directions, weights)], self._offset(weights)
        parts = []
        for start in range(0, len(pool), PURSUED):
            features = _Features.of(pool, start, start + PURSUED)
            projections = torch.empty(len(features.starts), sae.d_sae)
            for part, tile, shift in zip(projections.split(TILE, 1), tiles, offset.split(TILE), strict=True):
                torch.add(features.sums(tile), shift, out=part)
            rows = sae.encoder_input(torch.from_numpy(pool.hidden[start : start + PURSUED])).clone()
            row, column, values = pursuit.pursue(rows.numpy(), projections.numpy(), sae)
            parts.append((row + np.int32(start), column, values))
        row, column, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        return _sparse(row, column, values, (len(pool), sae.d_sae))


@dataclass(frozen=True)
class _Features:
    """Features of some rows, as a sum over bags takes them: row i's begin at `starts[i]`."""

    indices: Tensor
    values: Tensor
    starts: Tensor

    @classmethod
    def of(cls, pool: Pool, start: int, stop: int) -> _Features:
        first, last = pool.indptr[start], pool.indptr[min(stop, len(pool))]
        starts = (pool.indptr[start : min(stop, len(pool))] - first).astype(np.int32)
        indices, values = (torch.from_numpy(part[first:last]) for part in (pool.indices, pool.values))
        return cls(indices, values, torch.from_numpy(starts))

    def sums(self, of: Tensor) -> Tensor:
        """Sums of the rows [num_features, n] of each row's features, by their activations: [rows, n]."""
        return functional.embedding_bag(self.indices, of, self.starts, mode="sum", per_sample_weights=self.values)


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


def _tiles(directions: Tensor, weights: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Mapped directions [num_features, up to TILE] of weights [d_in, d_sae], and the first latent of each."""
    first = 0
    for some in weights.split(4 * TILE, 1):  # a product with few columns is slow
        for tile in (directions @ some.contiguous()).split(TILE, 1):
            yield first, tile.contiguous()
            first += tile.shape[1]


def _sparse(
    row: NDArray[np.int32], column: NDArray[np.int32], values: NDArray[np.float32], shape: tuple[int, int]
) -> SparseLatents:
    """Active latents from their rows and columns."""
    found = csr_array((values, (row, column)), shape)
    found.sort_indices()
    return SparseLatents(found.indptr.astype(np.int64), found.indices.astype(np.int32), found.data, shape[1])
