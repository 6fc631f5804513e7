"""|Cosines| of one set of directions with another, of which a matching looks at the few largest of each row.

Between 4,096 latents and 16,384 features there are 67 million. Where the machine multiplies bfloat16 faster than float32,
such a product finds which cosines can lie above a bound, and float32 computes those alone: none is missed, since rounding
moves a cosine of unit vectors by no more than it moves the vectors. The portable profile keeps the whole product.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn import functional

from sae_assay import numerics, sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Entries = tuple[NDArray[np.int64], NDArray[np.float32]]
    """Flat positions, ascending, and the cosines there."""

WORTHWHILE = 1 << 24
"""Cosines from which on screening pays."""
CHUNK = 64
"""Rows that are compared together: what they give stays in the cache."""
_ROUNDED = 1 + 2.0**-8  # of a cosine, as the product is rounded to bfloat16
_LOW = 0.03
"""A bound so low that a row is computed in full."""


class Similarity(Protocol):
    """Cosines [n, m] in 0 .. 1."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def rows(self, chosen: NDArray[np.integer]) -> NDArray[np.float32]:
        """All cosines of some rows [chosen, m]."""
        ...

    def best(self) -> Entries:
        """Each row's largest, the first of equals: [n]."""
        ...

    def above(self, least: NDArray[np.float32]) -> Entries:
        """All that are larger than their row's bound [n]."""
        ...


@dataclass(frozen=True)
class Whole:
    """All cosines in float32 [n, m]."""

    cosines: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        return self.cosines.shape

    @property
    def T(self) -> Whole:
        return Whole(np.ascontiguousarray(self.cosines.T))

    def rows(self, chosen: NDArray[np.integer]) -> NDArray[np.float32]:
        return self.cosines[chosen]

    def best(self) -> Entries:
        n, m = self.shape
        return self._at(np.arange(n) * m + self.cosines.argmax(1))

    def above(self, least: NDArray[np.float32]) -> Entries:
        return self._at(np.flatnonzero(self.cosines > least[:, None]))

    def _at(self, positions: NDArray[np.int64]) -> Entries:
        return positions, self.cosines.ravel()[positions]


@dataclass(frozen=True)
class Screened:
    """Cosines of unit vectors float32 [n, d] and [m, d]."""

    left: Tensor
    right: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.left), len(self.right)

    @property
    def T(self) -> Screened:
        return Screened(self.right, self.left)

    def rows(self, chosen: NDArray[np.integer]) -> NDArray[np.float32]:
        return (self.left[torch.from_numpy(chosen)] @ self.right.T).abs_().numpy()

    def best(self) -> Entries:
        return self._best

    @cached_property
    def _best(self) -> Entries:
        highest = torch.from_numpy(self._bits.max(1)).view(torch.bfloat16).float().numpy()
        positions, values = self.above(np.nextafter(highest / _ROUNDED - self._lost, -np.inf, dtype=np.float32))
        row = positions // self.shape[1]
        order = np.lexsort((positions, -values, row))
        first = order[np.searchsorted(row[order], np.arange(self.shape[0]))]
        return positions[first], values[first]

    def above(self, least: NDArray[np.float32]) -> Entries:
        m = self.shape[1]
        bound = (least.astype(np.float64) - self._lost) / _ROUNDED
        low = np.flatnonzero(bound < _LOW)
        # A positive bfloat16's bits are ordered as it is; float32's first half is the bfloat16 below.
        bits = (np.maximum(bound, 0).astype(np.float32).view(np.int32) >> 16).astype(np.int16)
        bits[low] = np.iinfo(np.int16).max  # above every cosine
        parts = range(0, len(bits), CHUNK)
        found = [np.flatnonzero(self._bits[at : at + CHUNK] >= bits[at : at + CHUNK, None]) + at * m for at in parts]
        candidates = np.concatenate(found)
        values = self._exact(candidates)
        kept = values > least[candidates // m]
        whole = self.rows(low)
        row, column = np.nonzero(whole > least[low][:, None])
        positions = np.concatenate([candidates[kept], low[row] * m + column])
        order = np.argsort(positions, kind="stable")
        return positions[order], np.concatenate([values[kept], whole[row, column]])[order]

    @cached_property
    def _bits(self) -> NDArray[np.int16]:
        """|Cosines| of the rounded directions, a bfloat16 each, as integers [n, m]."""
        product = functional.linear(self.left.bfloat16(), self.right.bfloat16())
        bits = product.view(torch.int16).numpy()
        bits &= np.int16(0x7FFF)
        return bits

    @cached_property
    def _lost(self) -> float:
        """How far a cosine of the rounded directions may be off, its own rounding left out."""
        moved = [float((x - x.bfloat16().float()).norm(dim=1).max()) for x in (self.left, self.right)]
        sums = 2 * self.left.shape[1] * 2.0**-24  # float32's, of this product and of the exact one
        return moved[0] + moved[1] * _ROUNDED + 1.01 * sums + 1e-6

    def _exact(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        n, m = self.shape
        indptr = np.searchsorted(positions, np.arange(n + 1) * m)
        column = positions - sparse.row_of(indptr) * m
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
            wanted = torch.sparse_csr_tensor(
                torch.from_numpy(indptr),
                torch.from_numpy(column),
                torch.zeros(len(positions)),
                (n, m),
                check_invariants=False,
            )
            found = torch.sparse.sampled_addmm(wanted, self.left, self.right.T, beta=0.0).values()
        return found.abs_().numpy()


def cosines(left: Tensor, right: Tensor) -> Whole | Screened:
    """|Cosines| of directions [n, d] with [m, d]; a direction of length 0 has none but 0."""
    units = [rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8) for rows in (left, right)]
    if (
        len(left) * len(right) >= WORTHWHILE
        and numerics.fast_bfloat16()
        and all(x.dtype == torch.float32 and np.isfinite(x.numpy()).all() for x in units)
    ):
        return Screened(*units)
    return Whole((units[0] @ units[1].T).abs_().numpy())
