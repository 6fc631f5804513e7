"""An SAE for the workflow's own tests: unit decoder rows found by online spherical k-means, the k largest latents kept.

Numpy only. It gets better with training, which is all that the tests ask of it; nothing scored with it is a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sae_assay.seeds import numpy_generator


@dataclass(frozen=True)
class ToySae:
    """Decoder [d_sae, d_in] of unit rows, whose transpose encodes; at most `k` latents are active."""

    decoder: np.ndarray
    k: int

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Latents [batch, d_sae] of activations [batch, d_in]."""
        latents = np.maximum(x @ self.decoder.T, 0)
        smallest_kept = np.sort(latents, axis=1)[:, -self.k][:, None]
        return np.where(latents >= smallest_kept, latents, 0)


def train(x: np.ndarray, d_sae: int, k: int, steps: list[int], batch: int, seed: int) -> Iterator[ToySae]:
    """Train on activations [rows, d_in] and yield the SAE after each of `steps` (rising)."""
    generator = numpy_generator("toy", "train", k, seed)
    decoder = _unit(generator.standard_normal((d_sae, x.shape[1])))
    for step in range(1, steps[-1] + 1):
        rows = x[generator.integers(0, len(x), batch)]
        latents = ToySae(decoder, k).encode(rows)
        decoder = _unit(decoder + (latents.T @ (rows - latents @ decoder)) / (latents.sum(0)[:, None] + 1))
        if step in steps:
            yield ToySae(decoder.astype(np.float32), k)


def random(d_sae: int, d_in: int, k: int, *purpose: str | int) -> ToySae:
    """An untrained SAE."""
    decoder = _unit(numpy_generator("toy", "random", *purpose).standard_normal((d_sae, d_in)))
    return ToySae(decoder.astype(np.float32), k)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ground_truth(sae: ToySae, features: np.ndarray, x: np.ndarray, magnitudes: np.ndarray) -> dict[str, float]:
    """The ground-truth metrics of method.md on rows x [batch, d_in] with feature magnitudes [batch, num_features]."""
    cosines = np.abs(sae.decoder @ features.T)
    pairs = assignment(cosines)
    best = cosines.argmax(1)
    latents = sae.encode(x)
    active, fires = latents > 0, magnitudes[:, best] > 0
    hits = (active & fires).sum(0)
    precision = hits / np.maximum(active.sum(0), 1)
    recall = hits / np.maximum(fires.sum(0), 1)
    error = ((x - latents @ sae.decoder) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    return {
        "mcc": float(cosines[pairs].mean()),
        "f1": float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).mean()),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "uniqueness": len(np.unique(best)) / len(best),
        "explained_variance": float(1 - error),
        "l0": float(active.sum(1).mean()),
        "dead_latents": float((~active.any(0)).sum()),
    }


def assignment(gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the one-to-one assignment of all rows [n, m >= n] that has the largest sum.

    The Hungarian method by shortest augmenting paths: scipy's costs two seconds of import in every scoring process.
    """
    rows, columns = gain.shape
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    owner = np.full(columns + 1, rows)  # row that holds a column; the last column is where a new row enters
    for row in range(rows):
        owner[columns], here = row, columns
        distance, way = np.full(columns, np.inf), np.full(columns, columns)
        done = np.zeros(columns + 1, dtype=bool)
        while owner[here] != rows:
            done[here] = True
            reduced = -gain[owner[here]] - row_price[owner[here]] - column_price[:-1]
            closer = ~done[:-1] & (reduced < distance)
            distance[closer], way[closer] = reduced[closer], here
            following = int(np.where(done[:-1], np.inf, distance).argmin())
            step = distance[following]
            row_price[owner[done]] += step
            column_price[done] -= step
            distance[~done[:-1]] -= step
            here = following
        while here != columns:
            owner[here], here = owner[way[here]], way[here]
    taken = np.flatnonzero(owner[:-1] != rows)
    order = np.argsort(owner[taken])
    return owner[taken][order], taken[order]
