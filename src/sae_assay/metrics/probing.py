"""k-sparse probing: how well do k latents tell a concept from the rest? Two procedures, all tasks together.

- `sparse_probing` (SAEBench, evals/sparse_probing): latents by |difference of class means|, logistic regression with
  C = 1, accuracy. Negatives are redrawn for every k_probe.
- `sae_probes` (Kantamneni et al. 2025, the package sae-probes): class means of latents divided by their mean non-zero
  |activation|; C among ten values by cross-validated AUC; AUC, weighted F1 and accuracy. The penalty is L2, as in the
  audit's synthetic code; the package's L1 runs in `metrics/sae_probes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from sae_assay.metrics import classification, logistic
from sae_assay.metrics.probes import draw_sample
from sae_assay.metrics.records import Record, record, too_narrow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Generator, Tensor

    from sae_assay.metrics.latents import SparseLatents

Selection = Literal["raw", "normalised"]
COMPONENTS = {"sparse_probing": ("accuracy",), "sae_probes": ("auc", "f1", "accuracy")}
C_GRID = np.logspace(5, -5, 10)
"""Largest first: among equally good values the first is taken, as in the package."""
FEWEST_ROWS = 4
LARGE = 512
"""Training rows above which tasks are batched apart."""


@dataclass(frozen=True)
class ProbingInput:
    """One task on one SAE: rows of the concept first, then a pool of negatives at least as large.

    Shapes: train_latents [positives + pool, d_sae], test_latents likewise; train_order and test_order index them: the
    fixed balanced rows of `sae_probes`, shuffled (its hold-out takes the last training rows).
    """

    task: str
    task_kind: str | None
    train_latents: SparseLatents
    test_latents: SparseLatents
    train_positives: int
    test_positives: int
    train_order: Tensor
    test_order: Tensor


@dataclass(frozen=True)
class ProbingDraws:
    """Negatives of `sparse_probing`, one set per k_probe, as indices into the task's rows. No draw depends on an SAE."""

    train: list[Tensor]
    test: list[Tensor]


@dataclass(frozen=True)
class _Rows:
    """Rows and labels of one fit and of its test."""

    train: SparseLatents
    train_labels: Tensor
    test: SparseLatents
    test_labels: Tensor


@dataclass(frozen=True)
class _Problem:
    """One fit and its test on the best-ranked latents, best first: train [rows, most] and test [rows, most]."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def draw(train: tuple[int, int], test: tuple[int, int], n_ks: int, generator: Generator) -> ProbingDraws:
    """Draws a task's negatives in SAEBench's order: per k_probe training, then test.

    Args:
        train, test: numbers of positives and of negatives in the pool.
    """
    drawn = [[draw_sample(sizes, 0, generator).negatives for sizes in (train, test)] for _ in range(n_ks)]
    return ProbingDraws([d[0] for d in drawn], [d[1] for d in drawn])


def sparse_probing(
    tasks: Sequence[ProbingInput], draws: Sequence[ProbingDraws], ks: Sequence[int], selection: Selection = "raw"
) -> list[Record]:
    """SAEBench's procedure on every task at every k_probe.

    Args:
        draws: one per task, holding one set of negatives for each of `ks`.
        selection: how latents are ranked: `raw`, SAEBench's, or `normalised`, as in the audit's synthetic code.
    """
    ranked = {"raw": _by_mean_difference, "normalised": _by_normalised_difference}[selection]
    most = max(ks, default=0)
    seen: dict[tuple[int, ...], _Problem] = {}  # rows of the k_probe before; draws that return are prepared once
    records: list[Record] = []
    for i, k in enumerate(ks):
        fitting = [t for t in range(len(tasks)) if k <= tasks[t].train_latents.width]
        records += _too_narrow(tasks, k, "sparse_probing")
        keys = {t: (t, id(draws[t].train[i]), id(draws[t].test[i])) for t in fitting}
        seen = {
            key: seen.get(key) or _chosen(_redrawn(tasks[t], draws[t].train[i], draws[t].test[i]), ranked, most)
            for t, key in keys.items()
        }
        drawn = {t: seen[key] for t, key in keys.items()}
        for group in _of_similar_size(fitting, drawn):
            problems = [drawn[t] for t in group]
            batch = _Batch(problems, k)
            theta = logistic.fit(batch.x, batch.y, batch.counts, torch.ones(len(problems)))
            scores = {"accuracy": batch.test_accuracy(theta)}
            records += _records([tasks[t] for t in group], problems, scores, "sparse_probing", k)
    return records


def _chosen(rows: _Rows, ranked: Callable[[_Rows], Tensor], most: int) -> _Problem:
    latents = ranked(rows)[:most]
    train, test = (part.columns(latents) for part in (rows.train, rows.test))
    return _Problem(train, rows.train_labels, test, rows.test_labels)


def _redrawn(task: ProbingInput, train: Tensor, test: Tensor) -> _Rows:
    def rows(latents: SparseLatents, positives: int, negatives: Tensor) -> tuple[SparseLatents, Tensor]:
        labels = torch.cat([torch.ones(positives), torch.zeros(len(negatives))])
        return latents.take(torch.cat([torch.arange(positives), negatives])), labels

    return _Rows(
        *rows(task.train_latents, task.train_positives, train), *rows(task.test_latents, task.test_positives, test)
    )


def sae_probes(tasks: Sequence[ProbingInput], ks: Sequence[int], seed: int = 1) -> list[Record]:
    """The sae-probes procedure (L2) on every task at every k_probe.

    Args:
        seed: of the six folds that tasks of 13 to 127 training rows are split into; 1 is the package's.
    """
    records: list[Record] = []
    most = max(ks, default=0)
    all_problems = [_chosen(_fixed(t), _by_normalised_difference, most) for t in tasks]
    folds = [_folds(p.train_labels.numpy(), seed) for p in all_problems]
    small = [t for t, found in enumerate(folds) if not found]
    for t in small:
        n = len(all_problems[t].train)
        reason = f"{n} training rows give no fold with both classes"
        records += unavailable(tasks[t].task, tasks[t].task_kind, ks, "sae_probes", "too_few_rows", reason)
    for k in ks:
        wide = [t for t in range(len(tasks)) if t not in small and k <= tasks[t].train_latents.width]
        records += _too_narrow([tasks[t] for t in range(len(tasks)) if t not in small], k, "sae_probes")
        # Folds multiply the work, so tasks with folds and tasks with one hold-out are batched apart.
        parts = [t for t in wide if len(folds[t]) == 1], [t for t in wide if len(folds[t]) > 1]
        for group in (group for part in parts for group in _of_similar_size(part, all_problems)):
            problems = [all_problems[t] for t in group]
            batch = _Batch(problems, k)
            scores = _tuned_scores(batch, [folds[t] for t in group])
            records += _records([tasks[t] for t in group], problems, scores, "sae_probes", k)
    return records


def _of_similar_size(tasks: list[int], problems: Mapping[int, _Problem] | Sequence[_Problem]) -> list[list[int]]:
    """The tasks in batches, so that small ones are not padded to the largest one's rows."""
    large = {t: len(problems[t].train) > LARGE for t in tasks}
    return [group for side in (False, True) if (group := [t for t in tasks if large[t] is side])]


def _fixed(task: ProbingInput) -> _Rows:
    return _Rows(
        task.train_latents.take(task.train_order),
        (task.train_order < task.train_positives).float(),
        task.test_latents.take(task.test_order),
        (task.test_order < task.test_positives).float(),
    )


def _by_mean_difference(rows: _Rows) -> Tensor:
    return _difference(rows).abs().argsort(descending=True, stable=True)


def _by_normalised_difference(rows: _Rows) -> Tensor:
    size = rows.train.magnitudes() / (rows.train.counts() + 1e-6) + 1e-6
    return (_difference(rows) / size).abs().argsort(descending=True, stable=True)


def _difference(rows: _Rows) -> Tensor:
    """Difference of the classes' means of each latent [d_sae], float64."""
    labels = rows.train_labels
    positive = (labels > 0.5).sum()
    return rows.train.sums(torch.where(labels > 0.5, 1 / positive.double(), -1 / (len(labels) - positive).double()))


class _Batch:
    """Problems of different sizes, padded: x [problems, rows, k], y and counts [problems, rows], and the same to test."""

    def __init__(self, problems: Sequence[_Problem], k: int) -> None:
        train, test = (
            [(p.train[:, :k], p.train_labels) for p in problems],
            [(p.test[:, :k], p.test_labels) for p in problems],
        )
        dtype = torch.float32 if all(p.train.dtype == torch.float32 for p in problems) else torch.float64
        self.x, self.y, self.counts = _pad(train, dtype)  # a fit makes float64 of what is active
        self.test_x, self.test_y, self.test_counts = _pad(test, torch.float64)

    def test_accuracy(self, theta: Tensor) -> Tensor:
        return classification.accuracy(logistic.logits(self.test_x, theta) > 0, self.test_y, self.test_counts)

    def test_scores(self, theta: Tensor) -> dict[str, Tensor]:
        """AUC, weighted F1 and accuracy."""
        found, test = logistic.logits(self.test_x, theta), (self.test_y, self.test_counts)
        return {
            "auc": classification.auc(torch.sigmoid(found), *test),
            "f1": classification.weighted_f1(found > 0, *test),
            "accuracy": classification.accuracy(found > 0, *test),
        }


def _pad(parts: Sequence[tuple[Tensor, Tensor]], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    rows, k = max(len(y) for _, y in parts), parts[0][0].shape[1]
    x = torch.zeros(len(parts), rows, k, dtype=dtype)
    y = torch.zeros(len(parts), rows)
    counts = torch.zeros(len(parts), rows, dtype=torch.bool)
    for i, (values, labels) in enumerate(parts):
        x[i, : len(labels)], y[i, : len(labels)], counts[i, : len(labels)] = values, labels, True
    return x, y, counts


Folds = list[tuple[np.ndarray, np.ndarray]]


def _folds(labels: np.ndarray, seed: int) -> Folds:
    """Training and validation rows, as sae-probes splits them; only folds whose validation rows hold both classes."""
    n = len(labels)
    if n < FEWEST_ROWS or len(np.unique(labels)) < 2:
        return []
    rows = np.arange(n)
    if n <= 12:
        held_out = [np.array(pair) for pair in combinations(range(n), 2)]
    elif n < 128:
        if np.unique(labels, return_counts=True)[1].max() < 6:
            return []
        fold = _stratified(labels, 6, seed)
        held_out = [rows[fold == f] for f in range(6)]
    else:
        held_out = [rows[n - min(int(0.2 * n), 100) :]]
    return [(np.setdiff1d(rows, held), held) for held in held_out if len(np.unique(labels[held])) == 2]


def _stratified(labels: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Each row's fold: scikit-learn's `StratifiedKFold(n_folds, shuffle=True, random_state=seed)`."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    encoded = np.argsort(np.argsort(first))[inverse]
    ordered, rng, fold = np.sort(encoded), np.random.RandomState(seed), np.empty(len(labels), dtype=int)
    allocation = [np.bincount(ordered[i::n_folds], minlength=len(first)) for i in range(n_folds)]
    for c in range(len(first)):
        folds = np.arange(n_folds).repeat([row[c] for row in allocation])
        rng.shuffle(folds)
        fold[encoded == c] = folds
    return fold


def _tuned_scores(batch: _Batch, folds: Sequence[Folds]) -> dict[str, Tensor]:
    """AUC, weighted F1 and accuracy on the test rows at each problem's best C."""
    owner = torch.tensor([i for i, found in enumerate(folds) for _ in found])
    train, held = (torch.zeros(len(owner), batch.y.shape[1], dtype=torch.bool) for _ in range(2))
    for row, (fitted, kept) in enumerate(pair for found in folds for pair in found):
        train[row, fitted], held[row, kept] = True, True
    one_each = len(owner) == len(batch.x)
    x, y = (batch.x, batch.y) if one_each else (batch.x[owner], batch.y[owner])
    best, start = _best_c(x, y, train, held, owner)
    theta = logistic.fit(batch.x, batch.y, batch.counts, best, start)
    return batch.test_scores(theta)


def _best_c(x: Tensor, y: Tensor, train: Tensor, held: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """The C of highest mean validation AUC of each owner, and weights to begin its final fit from."""
    positives = (train * y).sum(1)
    one_class = (positives == 0) | (positives == train.sum(1))
    aucs: list[Tensor] = []
    fits: list[Tensor] = []
    problems = logistic.Problems.of(x, y, train)
    # Validation rows, those of each problem side by side; behind them rows that do not count.
    rows = held.int().argsort(dim=1, descending=True, stable=True)[:, : int(held.sum(1).max())]
    labels, counts = y.gather(1, rows), held.gather(1, rows)
    held_x = x.gather(1, rows[..., None].expand(-1, -1, x.shape[2])).double()
    # Smallest C first: each fit begins where the last two point to.
    for C in C_GRID[::-1]:
        start = 2 * fits[-1] - fits[-2] if len(fits) > 1 else fits[-1] if fits else None
        theta = problems.fit(torch.full((len(x),), C, dtype=torch.float64), start)
        fold_auc = classification.auc(torch.sigmoid(logistic.logits(held_x, theta)), labels, counts)
        aucs.append(torch.where(one_class, 0.5, fold_auc))
        fits.append(theta)
    scores, thetas = torch.stack(aucs[::-1]), torch.stack(fits[::-1])
    owners = int(owner.max()) + 1
    mean = torch.stack([scores[:, owner == i].mean(1) for i in range(owners)], 1)
    index = torch.from_numpy(mean.numpy().argmax(0))
    first_fold = torch.tensor([int((owner == i).nonzero()[0]) for i in range(owners)])
    return torch.from_numpy(C_GRID.copy())[index], thetas[index, first_fold]


def _records(
    tasks: Sequence[ProbingInput], problems: Sequence[_Problem], scores: dict[str, Tensor], metric: str, k: int
) -> list[Record]:
    return [
        record(
            metric,
            part,
            values[i].item(),
            task=task.task,
            task_kind=task.task_kind,
            hp=("k_probe", k),
            mode="saebench",
            n_train=len(problem.train),
            n_test=len(problem.test),
        )
        for i, (task, problem) in enumerate(zip(tasks, problems, strict=True))
        for part, values in scores.items()
    ]


def _too_narrow(tasks: Sequence[ProbingInput], k: int, metric: str) -> list[Record]:
    rows = []
    for task in tasks:
        if (width := task.train_latents.width) < k:
            rows += unavailable(task.task, task.task_kind, [k], metric, **too_narrow("k_probe", k, width))
    return rows


def unavailable(
    task: str, task_kind: str | None, ks: Sequence[int], metric: str, status: str, reason: str
) -> list[Record]:
    """Rows for a task that has no score, with the reason."""
    labels: dict[str, Any] = {
        "task": task,
        "task_kind": task_kind,
        "mode": "saebench",
        "status": status,
        "reason": reason,
    }
    return [record(metric, part, None, hp=("k_probe", k), **labels) for k in ks for part in COMPONENTS[metric]]
