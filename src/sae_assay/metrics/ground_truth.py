"""How well an SAE recovers a world's features: the truth that the other metrics are held to.

Definitions are those of `sae_lens.synthetic.evals` and `sae_lens.evals.ExplainedVarianceCalculator`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numba import njit

from sae_assay.metrics import assignment, similarity
from sae_assay.metrics.latents import SparseLatents
from sae_assay.metrics.records import Record, record

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from torch import Tensor

COMPONENTS = ("mcc", "f1", "precision", "recall", "uniqueness", "explained_variance", "l0", "dead_latents")


@dataclass(frozen=True)
class Match:
    """What depends on the decoder alone: mcc and uniqueness in [0, 1], and each latent's feature [d_sae]."""

    mcc: float
    uniqueness: float
    feature: Tensor


def match(W_dec: Tensor, features: Tensor) -> Match:
    """Compares decoder rows [d_sae, d] with feature directions [n_features, d].

    MCC is the mean |cosine| of the one-to-one matching (Hungarian) of the smaller side; uniqueness the number of
    distinct features that are some latent's nearest, per latent.

    Raises:
        ArithmeticError: a direction that is not finite.
    """
    if not all(np.isfinite(x.numpy()).all() for x in (W_dec, features)):  # torch's takes ten times as long
        raise ArithmeticError("a decoder row or a feature's direction is not finite: train or fetch the SAE again")
    cosines = similarity.cosines(W_dec, features)
    nearest = torch.from_numpy(cosines.best()[0] % len(features))
    return Match(_best_matching(cosines).mean().item(), len(nearest.unique()) / len(W_dec), nearest)


def _best_matching(cosines: similarity.Whole | similarity.Screened) -> Tensor:
    """The cosines of the one-to-one matching of largest sum: one per row or column, whichever are fewer."""
    n, m = cosines.shape
    short = cosines if n <= m else cosines.T
    return torch.from_numpy(assignment.largest(short)[1])


def detection(latents: Tensor, activations: csr_array, feature: Tensor) -> tuple[float, float, float]:
    """Mean F1, precision and recall of each latent as a detector of its nearest feature (0 where undefined).

    Args:
        latents: [rows, d_sae]; a latent is active where it is not 0.
        activations: [rows, n_features], the true activations; a feature fires where it is above 0.
        feature: [d_sae], from `match`.
    """
    counts = _Counts(feature, activations.shape[1])
    counts.add(SparseLatents.of(latents), activations)
    return counts.detection()


class _Counts:
    """Rows in which each latent is active, its feature fires, and both happen: [d_sae] each."""

    def __init__(self, feature: Tensor, n_features: int) -> None:
        self.feature = feature.numpy()
        if len(feature) and not 0 <= self.feature.min() <= self.feature.max() < n_features:
            raise ValueError(f"latents are matched with features beyond the world's {n_features}")
        self.active, self.both = np.zeros(len(feature), np.int64), np.zeros(len(feature), np.int64)
        self.fires = np.zeros(n_features, np.int64)

    def add(self, latents: SparseLatents, activations: csr_array) -> None:
        """Count rows: latents [rows, d_sae] and activations [rows, n_features]."""
        wanted = (len(latents), latents.width), (len(latents), len(self.fires))
        if wanted != ((activations.shape[0], len(self.feature)), activations.shape):
            raise ValueError(f"{len(latents)} rows of {latents.width} latents, {activations.shape} activations")
        true = activations.indptr.astype(np.int64), activations.indices.astype(np.int32, copy=False), activations.data
        _count(latents.indptr, latents.indices, *true, self.feature, self.active, self.fires, self.both)

    def detection(self) -> tuple[float, float, float]:
        """Mean F1, precision and recall over latents."""
        both, active, fires = (torch.from_numpy(n).float() for n in (self.both, self.active, self.fires[self.feature]))
        precision, recall = _ratio(both, active), _ratio(both, fires)
        f1 = _ratio(2 * precision * recall, precision + recall)
        return f1.mean().item(), precision.mean().item(), recall.mean().item()


@njit(cache=True)
def _count(starts, latents, first, features, activations, feature, active, fires, both):  # type: ignore[no-untyped-def]
    here = np.zeros(len(fires), np.bool_)
    for row in range(len(starts) - 1):
        firing = features[first[row] : first[row + 1]][activations[first[row] : first[row + 1]] > 0]
        for f in firing:
            here[f] = True
            fires[f] += 1
        for latent in latents[starts[row] : starts[row + 1]]:
            active[latent] += 1
            both[latent] += here[feature[latent]]
        here[firing] = False


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator, 0.0)


class _Variance:
    """Sums over rows from which explained variance is taken."""

    def __init__(self) -> None:
        self.rows, self.squares, self.residual = 0, 0.0, 0.0
        self.total = torch.zeros(1, dtype=torch.float64)  # [d] once there are rows

    def add(self, hidden: Tensor, reconstruction: Tensor) -> None:
        """Count rows [rows, d]."""
        self.rows += len(hidden)
        self.total = self.total + hidden.double().sum(0)
        self.squares += _squares(hidden)
        self.residual += _squares(hidden - reconstruction)

    def explained(self) -> float | None:
        """1 - E|x - x_hat|^2 / (E|x|^2 - |E x|^2) over rows; None where the activations do not vary."""
        mean = self.total / self.rows
        variance = self.squares / self.rows - mean.pow(2).sum().item()
        return None if variance < 1e-10 else 1 - self.residual / self.rows / variance


def _squares(rows: Tensor) -> float:
    """The sum of all entries' squares, in float64 without a copy in float64."""
    return torch.linalg.vector_norm(rows, dtype=torch.float64).item() ** 2


class GroundTruth:
    """The ground truth of one SAE, counted chunk by chunk of a sample.

    Args:
        matched: from `match`; equal for every sample.
        n_features: features of the world.
    """

    def __init__(self, matched: Match, n_features: int) -> None:
        self._matched, self._counts, self._variance = matched, _Counts(matched.feature, n_features), _Variance()

    def add(self, latents: SparseLatents, reconstruction: Tensor, hidden: Tensor, activations: csr_array) -> None:
        """Count rows: latents [rows, d_sae], reconstruction and hidden [rows, d], activations [rows, n_features]."""
        self._counts.add(latents, activations)
        self._variance.add(hidden, reconstruction)

    def records(self) -> list[Record]:
        """All ground-truth records."""
        f1, precision, recall = self._counts.detection()
        variance, rows = self._variance.explained(), self._variance.rows
        values = {
            "mcc": self._matched.mcc,
            "f1": f1,
            "precision": precision,
            "recall": recall,
            "uniqueness": self._matched.uniqueness,
            "l0": int(self._counts.active.sum()) / rows,
            "dead_latents": float((self._counts.active == 0).sum()),
        }
        found = [record("ground_truth", name, value, n_test=rows) for name, value in values.items()]
        reason = None if variance is not None else "the sampled activations do not vary"
        status = "ok" if variance is not None else "undefined_denominator"
        return [
            *found,
            record("ground_truth", "explained_variance", variance, n_test=rows, status=status, reason=reason),
        ]


def ground_truth(
    latents: Tensor, reconstruction: Tensor, hidden: Tensor, activations: csr_array, matched: Match
) -> list[Record]:
    """All ground-truth records of one SAE on one sample.

    Args:
        latents: [rows, d_sae].
        reconstruction, hidden: [rows, d].
        activations: [rows, n_features] true activations.
        matched: from `match`.
    """
    found = GroundTruth(matched, activations.shape[1])
    found.add(SparseLatents.of(latents), reconstruction, hidden, activations)
    return found.records()
