"""Scores of binary classifiers, for many problems of different sizes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def auc(scores: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Area under the ROC curve by ranks, ties one half: [problems] in [0, 1], nan where a class is missing.

    Args:
        scores: [problems, rows], finite.
        labels: [problems, rows], 0 or 1.
        counts: [problems, rows] bool; rows that do not count are padding.
    """
    positive, negative = counts & (labels > 0.5), counts & (labels < 0.5)
    scores = scores.contiguous()
    ranked = scores.masked_fill(~negative, torch.inf).sort(dim=1).values
    below = torch.searchsorted(ranked, scores) + torch.searchsorted(ranked, scores, right=True)
    wins = 0.5 * (below.double() * positive).sum(1)
    return wins / (positive.sum(1) * negative.sum(1))


def accuracy(predicted: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Share of right predictions: [problems] from [problems, rows] of booleans or 0 and 1."""
    right = (predicted == (labels > 0.5)) & counts
    return right.sum(1).double() / counts.sum(1)


def weighted_f1(predicted: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """F1 of both classes, weighted by their rows (scikit-learn's `average="weighted"`); 0 for a class never right."""
    truth, total = labels > 0.5, torch.zeros(len(labels), dtype=torch.float64)
    for side in (True, False):
        actual, said = (truth == side) & counts, (predicted == side) & counts
        both = (actual & said).sum(1).double()
        sizes = actual.sum(1).double()
        f1 = torch.where(both > 0, 2 * both / (sizes + said.sum(1)), 0.0)
        total += sizes * f1
    return total / counts.sum(1)
