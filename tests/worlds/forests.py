"""Worlds as plain arrays, for tests that need no sae_lens."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm


def arrays(probabilities: Any, factor: Any = None, mean: float = 5.0, std: float = 0.5, d: int = 4) -> dict[str, Any]:
    """A world's arrays: directions drawn at random, equal magnitudes, and a correlation where there is a `factor`."""
    p = np.asarray(probabilities, np.float32)
    directions = np.random.default_rng(7).standard_normal((len(p), d)).astype(np.float32)
    found = {
        "feature_vectors": directions / np.linalg.norm(directions, axis=1, keepdims=True),
        "bias": np.arange(d, dtype=np.float32),
        "firing_probabilities": p,
        "magnitude_means": np.full(len(p), mean, np.float32),
        "magnitude_stds": np.full(len(p), std, np.float32),
    }
    if factor is not None:
        found["correlation_factor"] = np.asarray(factor, np.float32)
        found["correlation_diag"] = 1 - (found["correlation_factor"] ** 2).sum(1)
    return found


def family(parent: int, children: list[int], exclusive: bool, scales: bool = False) -> list[dict[str, Any]]:
    """Nodes of a root and its children."""
    shared = {"root": parent, "scales_children": False, "exclusive_children": False}
    root = {**shared, "feature": parent, "parent": None, "depth": 0, "exclusive_children": exclusive}
    return [root | {"scales_children": scales}] + [
        {**shared, "feature": child, "parent": parent, "depth": 1} for child in children
    ]


def both_fire(p: float, q: float, correlation: float) -> float:
    """The chance that two features fire together whose Gaussian fields correlate: integrated over the first field."""
    z = np.linspace(norm.isf(p), 9, 200_001)
    given = norm.sf((norm.isf(q) - correlation * z) / np.sqrt(1 - correlation**2))
    return float(np.trapezoid(norm.pdf(z) * given, z))
