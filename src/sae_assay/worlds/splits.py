"""Rows of a world's tasks at one evaluation seed: classes, splits, pools of negatives. Numpy only; rows index the pool.

Without repairs (`sae_assay.modes`) the rows of TPP and SCR follow the audit's synthetic code: each class's first rows,
80 % to train, the rest to test. Repairs keep test rows out of all training rows, leave rows to choose an epoch on, or
balance the cells of target x spurious.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sae_assay.modes import Repairs

    Rows = NDArray[np.int64]

NEGATIVES_PER_POSITIVE = 2
"""Size of the pool that SAEBench's procedure redraws a probing task's negatives from."""
FEWEST_PROBING = 5
FEWEST_TPP = 25
FEWEST_SCR = 20
_TRAIN, _VALIDATED_TRAIN = 0.8, 0.64


class TooFewRows(ValueError):
    """The pool of this evaluation seed holds too few rows for the task."""


@dataclass(frozen=True)
class ProbingRows:
    """Positives first, then the pool of negatives; orders index them: as many negatives as positives, shuffled."""

    train: Rows
    test: Rows
    train_positives: int
    test_positives: int
    train_order: Rows
    test_order: Rows


@dataclass(frozen=True)
class ClassRows:
    """Rows [..., rows] of classes: to train a probe, to choose its epoch, to measure latents' effects, and to test."""

    train: Rows
    select: Rows
    effects: Rows
    test: Rows


def probing(labels: NDArray[np.bool_], max_train: int, max_test: int, generator: np.random.Generator) -> ProbingRows:
    """A balanced split of one concept: at most `max_train` positives (half of all) to train, `max_test` to test.

    Raises:
        TooFewRows: fewer than five positives on either side, or fewer negatives than positives.
    """
    positive, negative = (generator.permutation(np.flatnonzero(labels == side)) for side in (True, False))
    train = min(max_train, len(positive) // 2)
    test = min(max_test, len(positive) - train)
    if min(train, test) < FEWEST_PROBING:
        raise TooFewRows(f"{len(positive)} rows of the concept: {FEWEST_PROBING} are needed on each side of the split")
    half = min(NEGATIVES_PER_POSITIVE * train, len(negative) * train // (train + test))
    rest = min(NEGATIVES_PER_POSITIVE * test, len(negative) - half)
    if half < train or rest < test:
        raise TooFewRows(f"{len(negative)} rows without the concept for {train} + {test} rows with it")
    return ProbingRows(
        np.concatenate([positive[:train], negative[:half]]),
        np.concatenate([positive[train : train + test], negative[half : half + rest]]),
        train,
        test,
        generator.permutation(2 * train),
        generator.permutation(2 * test),
    )


def resampled_probing(rows: ProbingRows, generator: np.random.Generator) -> ProbingRows:
    """The same split, the rows of each label and side drawn anew with replacement."""

    def drawn(side: Rows, positives: int) -> Rows:
        parts = np.split(side, [positives])
        return np.concatenate([part[generator.integers(len(part), size=len(part))] for part in parts])

    return replace(rows, train=drawn(rows.train, rows.train_positives), test=drawn(rows.test, rows.test_positives))


def resampled(rows: ClassRows, generator: np.random.Generator) -> ClassRows:
    """The rows of every class drawn anew with replacement, each within its part of the split: none changes sides."""

    def drawn(part: Rows) -> Rows:
        return np.take_along_axis(part, generator.integers(part.shape[-1], size=part.shape), axis=-1)

    train, test = drawn(rows.train), drawn(rows.test)
    select = test if rows.select is rows.test else drawn(rows.select)
    effects = train if rows.effects is rows.train else np.concatenate([train, select], axis=-1)
    return ClassRows(train, select, effects, test)


def tpp(labels: NDArray[np.bool_], max_rows: int, repairs: Repairs) -> ClassRows:
    """Rows of classes labelled [classes, rows of the pool], each class's first ones, cut to the smallest class.

    Raises:
        TooFewRows: a class of fewer than 25 rows.
    """
    used = labels & (labels.sum(0) == 1) if repairs.overlap else labels
    rows = _cut([np.flatnonzero(row) for row in used], max_rows, FEWEST_TPP, "class")
    return _class_rows(_cuts(rows, *_shares(repairs)), repairs)


def scr(
    target: NDArray[np.bool_], spurious: NDArray[np.bool_], max_rows: int, repairs: Repairs
) -> tuple[ClassRows, ClassRows, ClassRows]:
    """Rows [label, rows] of the target, the spurious and the biased classes; label 0: the concept is there, 1: it is not.

    Without repairs all six classes hold as many rows, and are split apart, so that test rows of one may train another's
    probe (a leak of the audit's code).

    Raises:
        TooFewRows: a class (balanced: a cell) of fewer than 20 rows.
    """
    cells = [
        np.flatnonzero(cell)
        for cell in (target & spurious, target & ~spurious, ~target & spurious, ~target & ~spurious)
    ]
    parts = (_balanced if repairs.cells else _natural)(cells, max_rows, repairs)
    first, second, third = (_class_rows([part[data] for part in parts], repairs) for data in range(3))
    return first, second, third


def _balanced(cells: list[Rows], max_rows: int, repairs: Repairs) -> list[list[Rows]]:
    """Per part of the split, the three pairs of classes; those of T and S hold as many rows of either cell.

    Where a row may serve twice, all classes are equally large, as in SAEBench: half a cell's rows each, and the biased
    ones whole cells. Else every cell is split once and used whole.
    """
    ts, t, s, none = cells
    if repairs.overlap:
        half = _cut(cells, max(1, max_rows // 2), FEWEST_SCR, "cell")
        whole = half[[0, 3]]
    else:
        halves = [ts[: len(ts) // 2], t, s, none[: len(none) // 2]]
        half = _cut(halves, max(1, max_rows // 2), FEWEST_SCR // 2, "half of a class")
        whole = np.stack([rows[: 2 * half.shape[1]] for rows in (ts, none)])
    parts, shares = [], _shares(repairs)
    for (ts, t, s, none), biased in zip(_cuts(half, *shares), _cuts(whole, *shares), strict=True):
        pairs = [[(ts, t), (s, none)], [(ts, s), (t, none)]]
        parts.append([*(np.stack([np.concatenate(cell) for cell in pair]) for pair in pairs), biased])
    return parts


def _natural(cells: list[Rows], max_rows: int, repairs: Repairs) -> list[list[Rows]]:
    """Per part of the split, the three pairs of classes, their first rows in the pool's order."""
    if not repairs.overlap:
        rows = _cut(_classes(cells), max_rows, FEWEST_SCR, "class").reshape(3, 2, -1)
        return [list(part) for part in _cuts(rows, *_shares(repairs))]
    size = _cut(_classes(cells), max_rows, FEWEST_SCR, "class").shape[1]
    split = zip(*(_cuts(cell, *_shares(repairs)) for cell in cells), strict=True)
    most = [part.shape[-1] for part in _cuts(np.arange(size), *_shares(repairs))]
    return [
        list(_cut(_classes(list(part)), limit, 1, "class").reshape(3, 2, -1))
        for part, limit in zip(split, most, strict=True)
    ]


def _classes(cells: list[Rows]) -> list[Rows]:
    """Rows of T, not T, S, not S, both and neither, ascending, from the cells."""
    ts, t, s, none = cells
    pairs = [(ts, t), (s, none), (ts, s), (t, none), (ts,), (none,)]
    return [np.sort(np.concatenate(pair)) for pair in pairs]


def _shares(repairs: Repairs) -> tuple[float, ...]:
    """Where the rows of a class are cut: training, validation (where there is one), test."""
    return (_VALIDATED_TRAIN, _TRAIN) if repairs.epoch else (_TRAIN,)


def _class_rows(parts: list[Rows], repairs: Repairs) -> ClassRows:
    """From training, validation and test rows; without the second the epoch is chosen on test rows."""
    train, *select, test = parts
    if not select:
        return ClassRows(train, test, train, test)
    effects = train if repairs.overlap else np.concatenate([train, *select], axis=-1)
    return ClassRows(train, select[0], effects, test)


def _cut(rows: list[Rows], most: int, fewest: int, what: str) -> Rows:
    smallest = min(len(found) for found in rows)
    if smallest < fewest:
        raise TooFewRows(f"{smallest} rows in the smallest {what}, {fewest} are needed")
    return np.stack([found[: min(smallest, most)] for found in rows])


def _cuts(rows: Rows, *shares: float) -> list[Rows]:
    return np.split(rows, [int(rows.shape[-1] * share) for share in shares], axis=-1)
