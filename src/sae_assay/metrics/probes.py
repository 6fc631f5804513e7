"""Linear probes on raw activations, all trained side by side.

What SAEBench trains one after another (`train_probe_gpu`) is trained here in lockstep: everything that a probe draws
(negatives, initial weights, the order of rows in every epoch) is drawn beforehand, in SAEBench's order of draws, into
a `ProbePlan`. Training the plans is then free of randomness. A probe does not depend on any SAE.

`select` rows choose the epoch: the test rows in SAEBench (a leak, kept in the mode `saebench`), a validation split in
the mode `strict`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor


@dataclass(frozen=True)
class ProbeConfig:
    """AdamW on binary cross-entropy + l1 * sum|w|; defaults are SAEBench's for TPP and SCR (patience 20 never stops)."""

    lr: float = 1e-3
    weight_decay: float = 0.01
    l1: float = 1e-3
    batch: int = 16
    epochs: int = 20
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True)
class ProbePlan:
    """One probe's rows, labels and draws. Rows index the activations given to `train`.

    Shapes: train_rows, train_labels [n]; select_rows, select_labels [m]; weight [d]; bias []; orders [epochs, n].
    """

    train_rows: Tensor
    train_labels: Tensor
    select_rows: Tensor
    select_labels: Tensor
    weight: Tensor
    bias: Tensor
    orders: Tensor


@dataclass(frozen=True)
class Probes:
    """Trained probes: weight [probes, d], bias [probes], the chosen epoch and its accuracy on the `select` rows."""

    weight: Tensor
    bias: Tensor
    epoch: Tensor
    accuracy: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """[rows, d] -> [rows, probes]."""
        return x @ self.weight.T + self.bias

    def take(self, index: Sequence[int]) -> Probes:
        """The probes at these positions."""
        chosen = torch.as_tensor(list(index), dtype=torch.long)
        return Probes(self.weight[chosen], self.bias[chosen], self.epoch[chosen], self.accuracy[chosen])


@dataclass(frozen=True)
class Sample:
    """One balanced draw: `negatives` [n] index the classes' rows laid end to end, `order` [2 n] shuffles both halves."""

    negatives: Tensor
    order: Tensor


def draw_sample(sizes: Sequence[int], positive: int, generator: Generator, *, paired: bool = False) -> Sample:
    """Draws negatives for one class with the permutations of SAEBench's `prepare_probe_data`, in its order.

    Args:
        sizes: rows per class.
        positive: the class to be told from the others.
        generator: advanced by one permutation per other class, one over those drawn and one over the whole sample.
        paired: the two classes are a class and its opposite (SCR): no permutation per class.

    Raises:
        ValueError: if the other classes have too few rows.
    """
    wanted = sizes[positive]
    starts = [0, *accumulate(sizes)]
    others = [c for c in range(len(sizes)) if c != positive]
    share = math.ceil(wanted / len(others))
    if paired:
        pool = np.arange(sizes[others[0]]) + starts[others[0]]
    else:  # numpy's small sums cost a third of torch's
        drawn = [torch.randperm(sizes[c], generator=generator).numpy()[:share] + starts[c] for c in others]
        pool = np.concatenate(drawn)
    if len(pool) < wanted:
        raise ValueError(f"{wanted} negatives wanted, {len(pool)} rows to draw them from: balance the classes")
    negatives = pool[torch.randperm(len(pool), generator=generator).numpy()[:wanted]]
    return Sample(torch.from_numpy(negatives), torch.randperm(2 * wanted, generator=generator))


def plan(
    train: Sequence[Tensor],
    select: Sequence[Tensor],
    positive: int,
    d: int,
    generator: Generator,
    *,
    epochs: int = 20,
    paired: bool = False,
) -> ProbePlan:
    """Everything that SAEBench draws to train the probe of one class, in its order of draws.

    Args:
        train, select: the classes' rows, [rows of the class] each.
        positive: the class of label 1.
        d: width of an activation.
        paired: as for `draw_sample`.
    """
    train_rows, train_labels = _labelled(train, positive, generator, paired)
    select_rows, select_labels = _labelled(select, positive, generator, paired)
    # torch.nn.Linear's initialisation, in its own arithmetic.
    bound = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(d))
    weight = torch.empty(1, d).uniform_(-bound, bound, generator=generator)[0]
    bias = torch.empty(1).uniform_(-1 / math.sqrt(d), 1 / math.sqrt(d), generator=generator)[0]
    orders = torch.stack([torch.randperm(len(train_rows), generator=generator) for _ in range(epochs)])
    return ProbePlan(train_rows, train_labels, select_rows, select_labels, weight, bias, orders)


def _labelled(classes: Sequence[Tensor], positive: int, generator: Generator, paired: bool) -> tuple[Tensor, Tensor]:
    sample = draw_sample([len(rows) for rows in classes], positive, generator, paired=paired)
    rows = torch.cat([classes[positive], torch.cat(list(classes))[sample.negatives]])
    labels = torch.zeros(len(rows))
    labels[: len(classes[positive])] = 1
    return rows[sample.order], labels[sample.order]


def train(x: Tensor, plans: Sequence[ProbePlan], config: ProbeConfig | None = None) -> Probes:
    """Trains every plan's probe at once and keeps each probe's epoch of best accuracy on its `select` rows.

    The first of equally good epochs is kept, as in SAEBench.

    Args:
        x: [rows, d] raw activations.

    Raises:
        ValueError: if an order of rows is missing for an epoch.
    """
    config = config or ProbeConfig()
    if not plans:
        return Probes(x.new_zeros(0, x.shape[1]), x.new_zeros(0), torch.zeros(0, dtype=torch.long), x.new_zeros(0))
    if any(len(p.orders) < config.epochs for p in plans):
        raise ValueError(
            f"a plan has fewer than {config.epochs} orders of its rows: draw it with epochs={config.epochs}"
        )
    # Longest first: the probes that still have a batch are always a prefix.
    ranks = sorted(range(len(plans)), key=lambda i: -len(plans[i].train_rows))
    trainer = _Lockstep(x, [plans[i] for i in ranks], config)
    for epoch in range(config.epochs):
        trainer.epoch(epoch)
    back = torch.tensor(ranks).argsort()
    best = trainer.best
    return Probes(best[back, :-1], best[back, -1], trainer.best_epoch[back], trainer.best_accuracy[back])


class _Lockstep:
    """AdamW state of all probes; parameters are [probes, d + 1], the bias last."""

    def __init__(self, x: Tensor, plans: list[ProbePlan], config: ProbeConfig) -> None:
        self.x, self.plans, self.config = x, plans, config
        self.theta = torch.stack([torch.cat([p.weight, p.bias[None]]) for p in plans]).to(x.dtype)
        self.mean, self.square = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self.sizes = torch.tensor([len(p.train_rows) for p in plans])
        self.steps = torch.zeros(len(plans), dtype=torch.float64)
        self.best = self.theta.clone()
        self.best_accuracy = torch.full((len(plans),), -1.0)
        self.best_epoch = torch.zeros(len(plans), dtype=torch.long)

    def epoch(self, epoch: int) -> None:
        config, width = self.config, int(self.sizes[0])
        batches = -(-width // config.batch)
        # Row 0 with weight 0 fills up short epochs and a last batch.
        rows = torch.zeros(len(self.plans), batches * config.batch, dtype=torch.long)
        labels = torch.zeros(rows.shape, dtype=self.x.dtype)
        for i, p in enumerate(self.plans):
            order = p.orders[epoch]
            rows[i, : len(order)] = p.train_rows[order]
            labels[i, : len(order)] = p.train_labels[order]
        for b in range(batches):
            at = slice(b * config.batch, (b + 1) * config.batch)
            active = int((self.sizes > at.start).sum())
            left = (self.sizes[:active, None] - at.start).clamp(max=config.batch)
            weights = (torch.arange(config.batch) < left).to(self.x.dtype) / left
            self._step(self.x[rows[:active, at]], labels[:active, at], weights)
        self._keep_best(epoch)

    def _step(self, x: Tensor, labels: Tensor, weights: Tensor) -> None:
        config, active = self.config, len(x)
        theta, mean, square = self.theta[:active], self.mean[:active], self.square[:active]
        logits = torch.baddbmm(theta[:, -1:, None], x, theta[:, :-1, None])[..., 0]
        error = (torch.sigmoid(logits) - labels) * weights
        gradient = torch.cat([torch.bmm(error[:, None], x)[:, 0], error.sum(1, keepdim=True)], 1)
        gradient[:, :-1] += config.l1 * theta[:, :-1].sign()
        self.steps[:active] += 1
        steps = self.steps[:active, None]
        theta.mul_(1 - config.lr * config.weight_decay)
        mean.lerp_(gradient, 1 - config.beta1)
        square.mul_(config.beta2).addcmul_(gradient, gradient, value=1 - config.beta2)
        size = (config.lr / (1 - config.beta1**steps)).to(theta.dtype)
        scale = (1 - config.beta2**steps).sqrt().to(theta.dtype)
        theta.sub_(size * mean / ((square.sqrt() / scale).add_(config.eps)))

    def _keep_best(self, epoch: int) -> None:
        for i, p in enumerate(self.plans):
            positive = torch.addmv(self.theta[i, -1], self.x[p.select_rows], self.theta[i, :-1]) > 0
            accuracy = (positive == (p.select_labels > 0.5)).float().mean()
            if accuracy > self.best_accuracy[i]:
                self.best_accuracy[i], self.best_epoch[i] = accuracy, epoch
                self.best[i] = self.theta[i]
