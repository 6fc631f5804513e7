"""A pool: rows drawn from a world, with the features that fired in each row kept sparse. Without torch.

A large pool is stored as features alone, a tenth of the rows' own size; with the world they make the same rows again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy.sparse import csr_array

from sae_assay import sparse
from sae_assay.errors import AssayError
from sae_assay.worlds import mixing

Op = Literal["single", "and", "or"]
_REMEDY = "delete the file and run the workflow again; it rebuilds what is missing"


@dataclass(frozen=True)
class Pool:
    """Rows of a world and their true feature activations, in compressed sparse rows.

    Attributes:
        hidden: float32 [n, d_in], what an SAE reads; [n, 0] where only features were asked for.
        indptr: int64 [n + 1]; row i's features are `indices[indptr[i]:indptr[i + 1]]`.
        indices: int32 [nnz], feature numbers, ascending within a row.
        values: float32 [nnz], their activations; never 0.
        num_features: features of the world, those that never fire included.
    """

    hidden: NDArray[np.float32]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    num_features: int

    @classmethod
    def from_dense(cls, hidden: NDArray[np.float32], features: NDArray[np.float32]) -> Pool:
        """A pool from rows [n, d_in] and dense feature activations [n, num_features]; 0 means that a feature is silent."""
        rows, columns = np.nonzero(features)
        indptr = np.zeros(len(features) + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=len(features)), out=indptr[1:])
        values = features[rows, columns].astype(np.float32)
        return cls(
            np.ascontiguousarray(hidden, np.float32), indptr, columns.astype(np.int32), values, features.shape[1]
        )

    @classmethod
    def of_features(cls, features: csr_array, hidden: NDArray[np.float32] | None = None) -> Pool:
        """A pool from sparse feature activations [n, num_features] and, where they are there, the rows that they make."""
        rows, num_features = features.shape
        kept = np.empty((rows, 0), np.float32) if hidden is None else hidden
        return cls(
            kept, features.indptr.astype(np.int64), features.indices.astype(np.int32), features.data, num_features
        )

    @classmethod
    def concatenate(cls, pools: list[Pool]) -> Pool:
        """One pool of all rows, in the order given."""
        return cls(
            np.concatenate([pool.hidden for pool in pools]),
            sparse.stacked([pool.indptr for pool in pools]),
            np.concatenate([pool.indices for pool in pools]),
            np.concatenate([pool.values for pool in pools]),
            pools[0].num_features,
        )

    def __len__(self) -> int:
        return len(self.hidden)

    @cached_property
    def _columns(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Where each feature's rows start, and the rows sorted by (feature, row)."""
        rows = np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.indptr))
        starts = np.zeros(self.num_features + 1, np.int64)
        np.cumsum(np.bincount(self.indices, minlength=self.num_features), out=starts[1:])
        return starts, rows[np.argsort(self.indices, kind="stable")]

    def rows_of(self, feature: int) -> NDArray[np.int32]:
        """Rows where a feature fires, ascending."""
        starts, rows = self._columns
        return rows[starts[feature] : starts[feature + 1]]

    @property
    def rates(self) -> NDArray[np.float64]:
        """Firing rate of every feature [num_features], in 0 .. 1."""
        return np.diff(self._columns[0]) / max(1, len(self))

    def labels(self, op: Op, features: list[int]) -> NDArray[np.bool_]:
        """Whether a concept holds in each row [n]: `single` (the one feature fires), `and` (all fire), `or` (any fires)."""
        if op not in ("single", "and", "or") or (op == "single") != (len(features) == 1) or not features:
            raise ValueError(f"no concept: {op} of {len(features)} features")
        counts = np.zeros(len(self), np.int16)
        for feature in dict.fromkeys(features):
            counts[self.rows_of(feature)] += 1
        return counts >= (len(set(features)) if op == "and" else 1)

    def activations(self, rows: NDArray[np.integer], width: int) -> NDArray[np.float32]:
        """True activations of the first `width` features in these rows, dense [len(rows), width]: the oracle's latents."""
        dense = np.zeros((len(rows), width), np.float32)
        indptr, source = sparse.taken(self.indptr, rows)
        target = sparse.row_of(indptr)
        kept = self.indices[source] < width
        dense[target[kept], self.indices[source[kept]]] = self.values[source[kept]]
        return dense

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; equal pools give equal bytes."""
        arrays = {"hidden": self.hidden, "indptr": self.indptr, "indices": self.indices, "values": self.values}
        metadata = {"pool": json.dumps({"num_features": self.num_features})}
        Path(path).write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata))

    @classmethod
    def load(cls, path: str | Path, world: Mapping[str, NDArray[np.float32]] | None = None) -> Pool:
        """Read a pool; `world` (the arrays of world.safetensors) makes the rows of one that was stored without.

        Raises:
            AssayError: no such file, truncated, not a pool, or one of another world.
        """
        try:
            with safe_open(str(path), framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in ("hidden", "indptr", "indices", "values")}
                pool = cls(**arrays, num_features=json.loads(file.metadata()["pool"])["num_features"])
        except FileNotFoundError:
            raise AssayError(str(path), "no such pool", _REMEDY) from None
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise AssayError(str(path), f"not a whole pool ({' '.join(str(error).split())})", _REMEDY) from None
        return pool if world is None or pool.hidden.shape[1] else pool.in_world(world, str(path))

    def without_rows(self) -> Pool:
        """The same pool, features alone."""
        return replace(self, hidden=self.hidden[:, :0])

    def in_world(self, world: Mapping[str, NDArray[np.float32]] | None, where: str) -> Pool:
        """The same pool with the rows that its features make, bit for bit those that were drawn.

        Args:
            world: arrays of world.safetensors.
            where: the pool's file, for errors.
        """
        if world is None:
            raise AssayError(where, "holds features alone", "pass the world that makes its rows")
        if self.num_features != len(world["feature_vectors"]):
            problem = f"has {self.num_features} features, the world {len(world['feature_vectors'])}"
            raise AssayError(where, problem, _REMEDY)
        shape = (len(self.indptr) - 1, self.num_features)
        features = csr_array((self.values, self.indices, self.indptr), shape)
        return replace(self, hidden=mixing.rows(features, world["feature_vectors"], world["bias"]))
