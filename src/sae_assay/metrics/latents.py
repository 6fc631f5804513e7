"""An SAE's latents on many rows, kept sparse: a few dozen of thousands are active in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch.nn import functional

from sae_assay import numerics, sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

CHUNK = 512
"""Rows encoded at a time: their dense latents stay in the processor's cache."""


@dataclass(frozen=True)
class SparseLatents:
    """Latents [rows, width] in compressed sparse rows.

    Attributes:
        indptr: int64 [rows + 1]; row i's active latents are `indices[indptr[i]:indptr[i + 1]]`.
        indices: int32 [active], ascending within a row.
        values: float32 [active], never 0.
        width: d_sae.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[Any]
    width: int

    @classmethod
    def of(cls, dense: Tensor) -> SparseLatents:
        """From dense latents [rows, width]; what is not a number counts as active. Silent latents stay on their device."""
        if dense.device.type != "cpu":
            row, column = dense.nonzero(as_tuple=True)
            ends = torch.searchsorted(row, torch.arange(len(dense) + 1, device=row.device))
            indptr, indices, values = (part.cpu().numpy() for part in (ends, column.int(), dense[row, column]))
            return cls(indptr, indices, values, dense.shape[1])
        array = dense.numpy()
        rows, width = array.shape
        at = np.flatnonzero(array != 0)
        indptr = np.searchsorted(at, np.arange(rows + 1) * width)
        return cls(indptr, (at % width).astype(np.int32), array.ravel()[at], width)

    @classmethod
    def encoded(
        cls, encode: Callable[[Tensor], Tensor | SparseLatents], rows: int, width: int, chunk: int = CHUNK
    ) -> SparseLatents:
        """From an encoder of positions [n] to latents [n, width], dense or sparse, called chunk by chunk."""
        if not rows:
            return cls(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), width)
        parts = (encode(part) for part in torch.arange(rows).split(chunk))
        return cls.concatenate([part if isinstance(part, SparseLatents) else cls.of(part) for part in parts])

    @classmethod
    def concatenate(cls, parts: Sequence[SparseLatents]) -> SparseLatents:
        """All rows, in the order given."""
        return cls(
            sparse.stacked([part.indptr for part in parts]),
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.values for part in parts]),
            parts[0].width,
        )

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def row(self) -> NDArray[np.int64]:
        """The row of each active latent [active]."""
        return sparse.row_of(self.indptr)

    def take(self, rows: Tensor) -> SparseLatents:
        """These rows, in this order; where they follow one another they share this one's memory."""
        first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, -1)
        if 0 <= first <= last < len(self) and torch.equal(rows, torch.arange(first, last + 1)):
            indptr = self.indptr[first : last + 2]
            here = slice(indptr[0], indptr[-1])
            return SparseLatents(indptr - indptr[0], self.indices[here], self.values[here], self.width)
        indptr, source = sparse.taken(self.indptr, rows.numpy())
        return SparseLatents(indptr, self.indices[source], self.values[source], self.width)

    def dense(self) -> Tensor:
        """[rows, width]"""
        out = np.zeros((len(self), self.width), self.values.dtype)
        out.ravel()[self.row * self.width + self.indices] = self.values
        return torch.from_numpy(out)

    def means(self, group: Tensor, groups: int) -> SparseLatents:
        """Mean over the rows of each group [groups, width]; silent where a group has no row.

        Args:
            group: int64 [rows], the group of each row.
        """
        members = csr_array(
            (np.ones(len(self), np.float32), (group.numpy(), np.arange(len(self)))), (groups, len(self))
        )
        found = members @ csr_array((self.values, self.indices, self.indptr), (len(self), self.width))
        found.sort_indices()
        counts = np.bincount(group.numpy(), minlength=groups).astype(np.float32)
        indptr = found.indptr.astype(np.int64)
        values = found.data / counts[sparse.row_of(indptr)]
        return SparseLatents(indptr, found.indices.astype(np.int32), values, self.width)

    def columns(self, chosen: Tensor) -> Tensor:
        """Dense [rows, k] of different latents [k]."""
        place = np.full(self.width, -1)
        place[chosen.numpy()] = np.arange(len(chosen))
        column = place[self.indices]
        kept = column >= 0
        out = np.zeros((len(self), len(chosen)), self.values.dtype)
        out[self.row[kept], column[kept]] = self.values[kept]
        return torch.from_numpy(out)

    def sums(self, weights: Tensor | None = None) -> Tensor:
        """Sum over rows of each latent [width], float64, each row by its weight [rows] where given."""
        values = self.values if weights is None else self.values * weights.numpy()[self.row]
        return torch.from_numpy(np.bincount(self.indices, values, self.width))

    def magnitudes(self) -> Tensor:
        """Sum over rows of each latent's magnitude [width], float64."""
        return torch.from_numpy(np.bincount(self.indices, np.abs(self.values), self.width))

    def counts(self) -> Tensor:
        """Rows in which each latent is active [width]."""
        return torch.from_numpy(np.bincount(self.indices, minlength=self.width))

    def __matmul__(self, matrix: Tensor) -> Tensor:
        """[rows, d] from [width, d]."""
        if numerics.native() and self.values.dtype == np.float32 and matrix.dtype == torch.float32:
            starts = torch.from_numpy(self.indptr[:-1].astype(np.int32))
            indices, values = torch.from_numpy(self.indices), torch.from_numpy(self.values)
            return functional.embedding_bag(indices, matrix, starts, mode="sum", per_sample_weights=values)
        shape = (len(self), self.width)
        return torch.from_numpy(csr_array((self.values, self.indices, self.indptr), shape=shape) @ matrix.numpy())
