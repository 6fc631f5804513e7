"""A small world made by hand, and stand-ins for SAEs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sae_assay.worlds.pool import Pool


@dataclass
class LinearSae:
    """relu((x - b_dec) @ W_enc - threshold), unit decoder rows."""

    W_enc: torch.Tensor
    W_dec: torch.Tensor
    b_dec: torch.Tensor
    threshold: float = 0.0

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu((x - self.b_dec) @ self.W_enc - self.threshold)

    def decode(self, f: torch.Tensor, x: torch.Tensor | None = None) -> torch.Tensor:
        return f @ self.W_dec + self.b_dec


def make_sae(d: int, d_sae: int, seed: int = 0, threshold: float = 0.3) -> LinearSae:
    g = torch.Generator().manual_seed(seed)
    W_dec = torch.nn.functional.normalize(torch.randn(d_sae, d, generator=g), dim=1)
    W_enc = W_dec.T + 0.1 * torch.randn(d, d_sae, generator=g)
    return LinearSae(W_enc, W_dec, 0.1 * torch.randn(d, generator=g), threshold)


@pytest.fixture(scope="session")
def features() -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((40, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def pool(features: np.ndarray) -> Pool:
    """3,000 rows; features 0-3 exclude one another, the rest fire independently."""
    rng = np.random.default_rng(2)
    fires = rng.random((3000, len(features))) < 0.12
    group = rng.integers(0, 8, 3000)
    fires[:, :4] = group[:, None] == np.arange(4)
    magnitudes = (fires * (3 + rng.random(fires.shape))).astype(np.float32)
    return Pool.from_dense(
        magnitudes @ features + 0.05 * rng.standard_normal((3000, 16)).astype(np.float32), magnitudes
    )
