"""A world for the workflow's own tests: unit features that fire independently. Numpy only, milliseconds; never a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sae_assay.seeds import numpy_generator


@dataclass(frozen=True)
class ToyWorld:
    """Features [num_features, hidden_dim] of unit norm, and the probability [num_features] with which each fires."""

    features: np.ndarray
    probabilities: np.ndarray

    def sample(self, rows: int, *purpose: str | int) -> tuple[np.ndarray, np.ndarray]:
        """Draw activations [rows, hidden_dim] and the feature magnitudes [rows, num_features] behind them (float32)."""
        generator = numpy_generator("toy", *purpose)
        fires = generator.random((rows, len(self.probabilities))) < self.probabilities
        magnitudes = fires * generator.uniform(0.5, 1.5, fires.shape)
        return (magnitudes @ self.features).astype(np.float32), magnitudes.astype(np.float32)


def build(config: dict[str, Any]) -> ToyWorld:
    """A world from `num_features`, `hidden_dim` and `seed`; firing probabilities fall as rank ** -0.5 from 0.2."""
    generator = numpy_generator("toy", "world", config["seed"])
    features = generator.standard_normal((config["num_features"], config["hidden_dim"]))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return ToyWorld(features.astype(np.float32), 0.2 * np.arange(1, config["num_features"] + 1) ** -0.5)
