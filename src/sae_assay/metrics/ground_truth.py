"""How well an SAE recovers a world's features: the truth that the other metrics are held to.

Definitions are those of `sae_lens.synthetic.evals` and `sae_lens.evals.ExplainedVarianceCalculator`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.optimize import linear_sum_assignment

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
    """
    cosine = (_unit(W_dec) @ _unit(features).T).abs()
    rows, columns = linear_sum_assignment(1 - cosine.numpy())
    nearest = cosine.argmax(dim=1)
    return Match(cosine[rows, columns].mean().item(), len(nearest.unique()) / len(W_dec), nearest)


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8)


def detection(latents: Tensor, activations: csr_array, feature: Tensor) -> tuple[float, float, float]:
    """Mean F1, precision and recall of each latent as a detector of its nearest feature (0 where undefined).

    Args:
        latents: [rows, d_sae]; a latent is active where it is not 0.
        activations: [rows, n_features], the true activations; a feature fires where it is above 0.
        feature: [d_sae], from `match`.
    """
    wanted, column = feature.unique(return_inverse=True)
    fires = torch.from_numpy(activations[:, wanted.numpy()].toarray() > 0)[:, column]
    active = latents != 0
    both = (active & fires).sum(0).float()
    precision = _ratio(both, active.sum(0).float())
    recall = _ratio(both, fires.sum(0).float())
    f1 = _ratio(2 * precision * recall, precision + recall)
    return f1.mean().item(), precision.mean().item(), recall.mean().item()


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator, 0.0)


def explained_variance(hidden: Tensor, reconstruction: Tensor) -> float | None:
    """1 - E|x - x_hat|^2 / (E|x|^2 - |E x|^2) over rows; None where the activations do not vary."""
    rows = len(hidden)
    mean = hidden.sum(0).double() / rows
    variance = hidden.pow(2).sum().item() / rows - mean.pow(2).sum().item()
    residual = (hidden - reconstruction).pow(2).sum().item() / rows
    return None if variance < 1e-10 else 1 - residual / variance


def ground_truth(
    latents: Tensor, reconstruction: Tensor, hidden: Tensor, activations: csr_array, matched: Match
) -> list[Record]:
    """All ground-truth records of one SAE on one sample.

    Args:
        latents: [rows, d_sae].
        reconstruction, hidden: [rows, d].
        activations: [rows, n_features] true activations.
        matched: from `match`; equal for every sample.
    """
    f1, precision, recall = detection(latents, activations, matched.feature)
    variance = explained_variance(hidden, reconstruction)
    values = {
        "mcc": matched.mcc,
        "f1": f1,
        "precision": precision,
        "recall": recall,
        "uniqueness": matched.uniqueness,
        "l0": (latents != 0).sum().item() / len(latents),
        "dead_latents": float((latents == 0).all(dim=0).sum()),
    }
    rows = [record("ground_truth", name, value, n_test=len(latents)) for name, value in values.items()]
    reason = None if variance is not None else "the sampled activations do not vary"
    status = "ok" if variance is not None else "undefined_denominator"
    return [
        *rows,
        record("ground_truth", "explained_variance", variance, n_test=len(latents), status=status, reason=reason),
    ]
