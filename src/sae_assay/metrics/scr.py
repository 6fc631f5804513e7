"""Spurious Correlation Removal (SCR): does ablating a spurious concept's latents repair a biased probe?

Direction 1 ablates the latents of the spurious concept S and looks at the biased probe on target (T) data; direction
2 swaps T and S. Score = (changed - original) / (clean - original), in accuracies of the biased probe after ablation,
the biased probe, and the data's own probe (SAEBench, evals/scr_and_tpp; Karvonen et al. 2025, section 3).

Of the repairs (`sae_assay.modes`) one concerns the arithmetic here: with `direction`, both directions count instead of
the one of lower original accuracy, which another seed may switch. Their gains and gaps are summed before they are
divided, so that the direction with more to repair weighs more and a small gap blows nothing up. The other repairs move
the rows and probes that it is given. No draw takes part: every row of both classes counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sae_assay.metrics.ablation import ablated_logits, alignment, masks_for
from sae_assay.metrics.probes import Probes
from sae_assay.metrics.records import Record, record, too_narrow
from sae_assay.modes import REPAIRS, Mode, components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TARGET, SPURIOUS, BIASED = range(3)
SMALLEST_DENOMINATOR = 1e-3
COMPONENTS = ("score", "compatible", "direction_1", "direction_2")


@dataclass(frozen=True)
class ScrInput:
    """One task on one SAE.

    Axis 0 is the data (0 target, 1 spurious), axis 1 the label (0: the concept is there, 1: it is not).
    Shapes: train_latents [2, 2, m, d_sae]; test_latents [2, 2, r, d_sae] (as ablated); test_hidden [2, 2, r, d];
    W_dec [d_sae, d]; probes: target, spurious, biased.
    """

    task: str
    task_kind: str | None
    train_latents: Tensor
    test_latents: Tensor
    test_hidden: Tensor
    W_dec: Tensor
    probes: Probes


@dataclass(frozen=True)
class _Direction:
    """Accuracies of one direction, or their means over both: changed has one value per n."""

    clean: float
    original: float
    changed: list[float]

    def score(self, i: int) -> float | None:
        """None where clean - original < 0.001."""
        gap = self.clean - self.original
        return None if gap < SMALLEST_DENOMINATOR else (self.changed[i] - self.original) / gap


def _both(first: _Direction, second: _Direction) -> _Direction:
    """Mean accuracies over the data of both directions."""

    def mean(a: float, b: float) -> float:
        return (a + b) / 2

    changed = [mean(a, b) for a, b in zip(first.changed, second.changed, strict=True)]
    return _Direction(mean(first.clean, second.clean), mean(first.original, second.original), changed)


def scr(inputs: ScrInput, ns: Sequence[int], mode: Mode) -> list[Record]:
    """Both directions, the reported score (of lower original accuracy, unless repaired) and SAEBench's own value."""
    usable = [n for n in ns if n <= len(inputs.W_dec)]
    directions = (_direction(inputs, usable, TARGET), _direction(inputs, usable, SPURIOUS))
    labels = {
        "task": inputs.task,
        "task_kind": inputs.task_kind,
        "mode": mode,
        "n_train": 4 * inputs.train_latents.shape[2],
        "n_test": 4 * inputs.test_latents.shape[2],
    }
    reported = _both(*directions) if REPAIRS[mode].direction else None
    kept, records = components(mode, COMPONENTS), []
    for n in ns:
        if n in usable:
            found = _at_n(directions, reported, usable.index(n), {**labels, "hp": ("n", n)})
            records += [row for row in found if row["component"] in kept]
        else:
            why = too_narrow("n", n, len(inputs.W_dec))
            records += unavailable(inputs.task, inputs.task_kind, [n], mode, **why)
    return records


def _direction(inputs: ScrInput, ns: Sequence[int], data: int) -> _Direction:
    """Ablates the other concept's latents and evaluates on this concept's data."""
    ablated = 1 - data
    align = alignment(inputs.W_dec, inputs.probes.weight)
    means = inputs.train_latents[ablated].mean(1)
    effects = ((means[0] - means[1]) * align[:, ablated]).abs()
    logits = inputs.probes.logits(inputs.test_hidden[data].flatten(0, 1))
    changed: list[float] = []
    if ns:
        masks = masks_for(effects[None], ns, positive_only=False)
        latents = inputs.test_latents[data].flatten(0, 1)
        after = ablated_logits(logits[:, [BIASED]], latents, align[:, [BIASED]], masks)
        changed = _accuracy(after[..., 0]).tolist()
    clean, original = _accuracy(logits[:, [data, BIASED]].T).tolist()
    return _Direction(clean, original, changed)


def _accuracy(logits: Tensor) -> Tensor:
    """[probes] from [probes, 2 r], positives first; float32 as SAEBench averages."""
    half = logits.shape[-1] // 2
    correct = (logits[:, :half] > 0).sum(1) + (logits[:, half:] <= 0).sum(1)
    return (correct.float() / logits.shape[-1]).double()


def _at_n(
    directions: tuple[_Direction, _Direction], reported: _Direction | None, i: int, labels: dict[str, Any]
) -> list[Record]:
    """Records at one n; `reported` None: the direction of lower original accuracy."""
    records = [
        _scored(f"direction_{k + 1}", d.score(i), d, {**labels, "direction": k + 1}) for k, d in enumerate(directions)
    ]
    first, second = (d.original for d in directions)
    if reported is None and first == second:
        reason = f"the biased probe's accuracy is {first:.4f} on both data sets, so SAEBench reports neither direction"
        tied = {**labels, "status": "tied_direction", "reason": reason}
        return [*records, *(record("scr", part, None, **tied) for part in ("score", "compatible"))]
    chosen = reported or directions[0 if first < second else 1]
    score = chosen.score(i)
    compatible = record("scr", "compatible", 0.0 if score is None else score, **labels)
    return [*records, _scored("score", score, chosen, labels), compatible]


def _scored(component: str, value: float | None, direction: _Direction, labels: dict[str, Any]) -> Record:
    if value is not None:
        return record("scr", component, value, **labels)
    reason = f"clean - original = {direction.clean:.4f} - {direction.original:.4f} is below {SMALLEST_DENOMINATOR}"
    return record("scr", component, None, **labels, status="undefined_denominator", reason=reason)


def unavailable(
    task: str, task_kind: str | None, ns: Sequence[int], mode: Mode, status: str, reason: str
) -> list[Record]:
    """Rows for a task that has no score, with the reason."""
    labels: dict[str, Any] = {"task": task, "task_kind": task_kind, "mode": mode, "status": status, "reason": reason}
    ways = {"direction_1": 1, "direction_2": 2}
    return [
        record("scr", part, None, hp=("n", n), direction=ways.get(part), **labels)
        for n in ns
        for part in components(mode, COMPONENTS)
    ]
