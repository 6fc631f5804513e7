"""Training rows as feature activations, of which a batch is made when it is asked for: a world's rows would not fit otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sae_assay.errors import AssayError
from sae_assay.worlds import mixing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array


class FeatureRows:
    """Rows [n, d_in] of a world; `rows[indices]` makes some of them.

    Args:
        features: feature activations, float32 [n, num_features].
        directions: float32 [num_features, d_in].
        bias: float32 [d_in].
        device: where rows are made; on `cpu` they have the bits that the world's sampler gives them.

    Raises:
        AssayError: the features are not those of the directions.
    """

    def __init__(
        self, features: csr_array, directions: NDArray[np.float32], bias: NDArray[np.float32], device: str = "cpu"
    ) -> None:
        if features.shape[1] != len(directions):
            problem = f"the training rows have {features.shape[1]} features, the world {len(directions)}"
            raise AssayError("training rows", problem, "delete them and run the workflow again")
        self.features, self.directions, self.bias = features, directions, bias
        self.shape = torch.Size((features.shape[0], directions.shape[1]))
        self._there = None if device == "cpu" else [torch.from_numpy(a).to(device) for a in (directions, bias)]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Rows [len(rows), d_in], float32."""
        some = self.features[rows.numpy()]
        if self._there is None:
            return torch.from_numpy(mixing.rows(some, self.directions, self.bias))
        directions, bias = self._there
        indices, starts, values = (
            torch.from_numpy(a).to(directions.device)
            for a in (some.indices.astype("int64"), some.indptr[:-1].astype("int64"), some.data)
        )
        return functional.embedding_bag(indices, directions, starts, per_sample_weights=values, mode="sum") + bias

    def not_finite(self) -> int:
        """How many rows hold a value that is not finite."""
        bad = np.flatnonzero(~np.isfinite(self.features.data))
        return len(np.unique(np.searchsorted(self.features.indptr, bad, side="right")))


def not_finite(rows: Tensor | FeatureRows) -> int:
    """How many of the rows hold a value that is not finite."""
    if isinstance(rows, FeatureRows):
        return rows.not_finite()
    return int((~torch.isfinite(rows)).any(dim=1).sum())
