"""Rows of a world's tasks at one evaluation seed: classes, splits, pools of negatives. Numpy only; rows index the pool.

`saebench` rows follow the audit's synthetic code: each class's first rows, 80 % to train, the rest to test. `strict` rows
are drawn so that no test row is among any training row and an epoch can be chosen on rows of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

NEGATIVES_PER_POSITIVE = 2
"""Size of the pool that SAEBench's procedure redraws a probing task's negatives from."""
FEWEST_PROBING = 5
FEWEST_TPP = 25
FEWEST_SCR = 20
_TRAIN, _STRICT_TRAIN = 0.8, 0.64


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
    """Rows [..., rows] of classes for training, for choosing the epoch and for testing."""

    train: Rows
    select: Rows
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


def tpp_saebench(labels: NDArray[np.bool_], max_rows: int) -> ClassRows:
    """Rows of classes labelled [classes, rows of the pool], cut to the smallest class; the epoch is chosen on test rows.

    Raises:
        TooFewRows: a class of fewer than 25 rows.
    """
    rows = _cut([np.flatnonzero(row) for row in labels], max_rows, FEWEST_TPP, "class")
    train, test = _cuts(rows, _TRAIN)
    return ClassRows(train, test, test)


def tpp_strict(labels: NDArray[np.bool_], max_rows: int) -> ClassRows:
    """As `tpp_saebench`, without rows of two classes, and with a validation split taken from the training rows."""
    alone = labels & (labels.sum(0) == 1)
    rows = _cut([np.flatnonzero(row) for row in alone], max_rows, FEWEST_TPP, "class")
    return ClassRows(*_cuts(rows, _STRICT_TRAIN, _TRAIN))


def scr_saebench(target: NDArray[np.bool_], spurious: NDArray[np.bool_], max_rows: int) -> ClassRows:
    """Six classes [data (target, spurious, biased), label, rows] at natural rates, each cut to the smallest.

    Classes overlap and are split apart, so test rows of one can train another's probe (a leak of the audit's code).

    Raises:
        TooFewRows: a class of fewer than 20 rows.
    """
    classes = [target, ~target, spurious, ~spurious, target & spurious, ~target & ~spurious]
    rows = _cut([np.flatnonzero(c) for c in classes], max_rows, FEWEST_SCR, "class").reshape(3, 2, -1)
    train, test = _cuts(rows, _TRAIN)
    return ClassRows(train, test, test)


def scr_strict(target: NDArray[np.bool_], spurious: NDArray[np.bool_], max_rows: int) -> tuple[ClassRows, ClassRows]:
    """The four cells of target x spurious, equally many rows each, split alike.

    Returns:
        Rows [data (target, spurious), label, 2 cells] and rows of the biased classes [label, 1 cell]. The three splits
        share no row.

    Raises:
        TooFewRows: a cell of fewer than 20 rows.
    """
    cells = [target & spurious, target & ~spurious, ~target & spurious, ~target & ~spurious]
    rows = _cut([np.flatnonzero(c) for c in cells], max(1, max_rows // 2), FEWEST_SCR, "cell")
    both, data, biased = _cuts(rows, _STRICT_TRAIN, _TRAIN), [], []
    for part in both:
        ts, t, s, none = part
        pairs = [[(ts, t), (s, none)], [(ts, s), (t, none)]]
        data.append(np.array([[np.concatenate(pair) for pair in pairs_of] for pairs_of in pairs]))
        biased.append(np.stack([ts, none]))
    return ClassRows(*data), ClassRows(*biased)


def _cut(rows: list[Rows], most: int, fewest: int, what: str) -> Rows:
    smallest = min(len(found) for found in rows)
    if smallest < fewest:
        raise TooFewRows(f"{smallest} rows in the smallest {what}, {fewest} are needed")
    return np.stack([found[: min(smallest, most)] for found in rows])


def _cuts(rows: Rows, *shares: float) -> list[Rows]:
    return np.split(rows, [int(rows.shape[-1] * share) for share in shares], axis=-1)
