"""Targeted Probe Perturbation (TPP): does ablating a class's latents hurt that class's probe, and no other?

Score at n = mean over classes c of [accuracy drop of probe c] - [mean accuracy drop of the other classes' probes]
after ablating the top n latents for c (SAEBench, evals/scr_and_tpp; Karvonen et al. 2025, section 3). Two repairs
(`sae_assay.modes`) concern the arithmetic here; the others move the rows and probes that it is given:

- negatives: SAEBench draws them anew for the effects, the clean and every ablated accuracy. Repaired, every row of the
  other classes counts, each class alike, before and after ablation: the expectation of that draw.
- ties: SAEBench's choice of latents is `top_n_mask`. Repaired, only latents of positive effect are ablated, so no score
  depends on the order of latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sae_assay.metrics.ablation import ablated_logits, alignment, masks_for
from sae_assay.metrics.probes import Probes, draw_sample
from sae_assay.metrics.records import Record, record, too_narrow
from sae_assay.modes import REPAIRS, Mode, components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

COMPONENTS = ("score", "intended", "unintended")


@dataclass(frozen=True)
class TppInput:
    """One task on one SAE; all classes have equally many rows.

    Shapes: train_latents [classes, m, d_sae] (pooled over tokens, masked ones left out); test_latents
    [classes, r, d_sae] (as ablated: see `ablation.with_padding`); test_hidden [classes, r, d]; W_dec [d_sae, d];
    probes: one per class, in order.
    """

    task: str
    task_kind: str | None
    train_latents: Tensor
    test_latents: Tensor
    test_hidden: Tensor
    W_dec: Tensor
    probes: Probes


@dataclass(frozen=True)
class TppDraws:
    """Negatives of the mode `saebench`, indices into the classes' rows laid end to end. No draw depends on an SAE.

    clean [classes, r] and ablated [classes, ns, classes, r] index test rows, effects [classes, m] training rows.
    """

    clean: Tensor
    effects: Tensor
    ablated: Tensor

    def at(self, positions: Sequence[int]) -> TppDraws:
        """The draws for some of the n values, by their positions."""
        return TppDraws(self.clean, self.effects, self.ablated[:, list(positions)])


def draw(
    n_classes: int, m: int, r: int, n_ablations: int, clean: Generator, scoring: Generator | None = None
) -> TppDraws:
    """Draws a task's negatives in SAEBench's order: clean accuracies, then effects, then one set per ablation.

    SAEBench takes the clean accuracies where it trains the probes (once per cache) and all else while scoring.

    Args:
        m, r: training and test rows per class.
        n_ablations: number of n values.
        clean: generator of the clean accuracies' negatives.
        scoring: generator of the rest; `clean` goes on where it is None.
    """
    scoring = scoring or clean
    classes = range(n_classes)

    def sample(rows: int, generator: Generator) -> Tensor:
        return torch.stack([draw_sample([rows] * n_classes, c, generator).negatives for c in classes])

    first = sample(r, clean)
    effects = sample(m, scoring)
    ablated = torch.stack([torch.stack([sample(r, scoring) for _ in range(n_ablations)]) for _ in classes])
    return TppDraws(first, effects, ablated)


def saebench(inputs: TppInput, draws: TppDraws, ns: Sequence[int]) -> list[Record]:
    """TPP as SAEBench computes it, from one encode pass."""
    return tpp(inputs, ns, "saebench", draws)


def strict(inputs: TppInput, ns: Sequence[int]) -> list[Record]:
    """TPP on fixed rows: balanced accuracy over all classes, positive effects only."""
    return tpp(inputs, ns, "strict")


def tpp(inputs: TppInput, ns: Sequence[int], mode: Mode, draws: TppDraws | None = None) -> list[Record]:
    """TPP with a mode's repairs.

    Args:
        ns: numbers of ablated latents.
        draws: one set of negatives for each n; needed unless the negatives are repaired.

    Raises:
        ValueError: no draws, in a mode that needs them.
    """
    repairs = REPAIRS[mode]
    if draws is None and not repairs.negatives:
        raise ValueError(f"mode {mode} draws negatives: give it draws")
    drawn = None if repairs.negatives else draws
    difference = _mean_differences(inputs.train_latents, drawn)
    positive, usable = _positive_predictions(inputs, difference, ns, positive_only=repairs.ties)
    if drawn is None:
        accuracy = _balanced_accuracy(positive)
        clean, ablated = accuracy[0], accuracy[1:]
    else:
        kept = drawn.at([i for i, n in enumerate(ns) if n in usable])
        clean = _drawn_accuracy(positive[:1], kept.clean[None])[0]
        ablated = _drawn_accuracy(positive[1:], kept.ablated.reshape(-1, *kept.clean.shape))
    classes = len(inputs.train_latents)
    return _records(inputs, ns, usable, clean, ablated.view(classes, len(usable), classes), mode)


def _mean_differences(train: Tensor, draws: TppDraws | None) -> Tensor:
    """[classes, d_sae]: mean latents of each class less those of its drawn negatives, or of the other classes alike."""
    if draws is not None:
        flat = train.reshape(-1, train.shape[-1])
        return torch.stack([train[c].mean(0) - flat[draws.effects[c]].mean(0) for c in range(len(train))])
    means = train.mean(1)
    return means - (means.sum(0, keepdim=True) - means) / (len(means) - 1)


def _positive_predictions(
    inputs: TppInput, difference: Tensor, ns: Sequence[int], *, positive_only: bool
) -> tuple[Tensor, list[int]]:
    """[1 + classes * usable ns, classes (rows), r, classes (probes)] bool, clean first; and the ns that fit the SAE."""
    align = alignment(inputs.W_dec, inputs.probes.weight)
    usable = [n for n in ns if n <= len(inputs.W_dec)]
    logits = inputs.probes.logits(inputs.test_hidden.flatten(0, 1))
    after = logits[None]
    if usable:
        masks = masks_for(difference.clamp(min=0) * align.T, usable, positive_only=positive_only)
        after = torch.cat([after, ablated_logits(logits, inputs.test_latents.flatten(0, 1), align, masks)])
    return (after > 0).view(len(after), *inputs.test_hidden.shape[:2], -1), usable


def _drawn_accuracy(positive: Tensor, negatives: Tensor) -> Tensor:
    """[ablations, classes]: each probe on its own class's rows and on the drawn negatives [ablations, classes, r]."""
    hits = torch.einsum("acrc->acr", positive).sum(-1)
    flat = positive.flatten(1, 2).transpose(1, 2)
    rejected = (~flat.gather(2, negatives)).sum(-1)
    # float32, as SAEBench averages, so that equal counts give equal scores to the last bit.
    return ((hits + rejected).float() / (2 * negatives.shape[-1])).double()


def _balanced_accuracy(positive: Tensor) -> Tensor:
    """[ablations, classes]: mean of each probe's hit rate on its class and its rejection rate over the others."""
    rate = positive.double().mean(2)  # [ablations, class of the rows, probe]
    own = rate.diagonal(dim1=1, dim2=2)
    false_alarms = (rate.sum(1) - own) / (rate.shape[1] - 1)
    return 0.5 * (own + 1 - false_alarms)


def _records(
    inputs: TppInput, ns: Sequence[int], usable: list[int], clean: Tensor, ablated: Tensor, mode: Mode
) -> list[Record]:
    classes, m = inputs.train_latents.shape[:2]
    shared: dict[str, Any] = {"task": inputs.task, "task_kind": inputs.task_kind, "mode": mode, "n_train": classes * m}
    shared["n_test"] = classes * inputs.test_latents.shape[1]
    drops = (clean - ablated).tolist()  # [ablated class][n][probe]
    records = []
    for n in ns:
        if n not in usable:
            why = too_narrow("n", n, len(inputs.W_dec))
            records += unavailable(inputs.task, inputs.task_kind, [n], mode, **why)
            continue
        values = dict(zip(COMPONENTS, _averages([row[usable.index(n)] for row in drops]), strict=True))
        records += [record("tpp", part, values[part], hp=("n", n), **shared) for part in components(mode, COMPONENTS)]
    return records


def _averages(drops: list[list[float]]) -> tuple[float, float, float]:
    """Total, intended and unintended means over classes; summed as SAEBench sums them."""
    intended = [row[c] for c, row in enumerate(drops)]
    unintended = [(sum(row[:c]) + sum(row[c + 1 :])) / (len(row) - 1) for c, row in enumerate(drops)]
    total = [a - b for a, b in zip(intended, unintended, strict=True)]
    return sum(total) / len(total), sum(intended) / len(intended), sum(unintended) / len(unintended)


def unavailable(
    task: str, task_kind: str | None, ns: Sequence[int], mode: Mode, status: str, reason: str
) -> list[Record]:
    """Rows for a task that has no score, with the reason."""
    return [
        record("tpp", part, None, task=task, task_kind=task_kind, hp=("n", n), mode=mode, status=status, reason=reason)
        for n in ns
        for part in components(mode, COMPONENTS)
    ]
