"""Rows of TPP's and SCR's classes: what each repair changes, and that it changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from sae_assay.modes import REPAIRS, Mode, Repairs
from sae_assay.worlds import splits

ROWS = 4000


@pytest.fixture
def labels() -> tuple[np.ndarray, np.ndarray]:
    """A target and a spurious concept that meet more often than chance."""
    rng = np.random.default_rng(7)
    target = rng.random(ROWS) < 0.3
    return target, rng.random(ROWS) < np.where(target, 0.25, 0.1)


def scr(labels: tuple[np.ndarray, np.ndarray], mode: Mode, most: int = 500) -> tuple[splits.ClassRows, ...]:
    return splits.scr(*labels, most, REPAIRS[mode])


def leaked(classes: tuple[splits.ClassRows, ...]) -> float:
    """Share of target and spurious test rows among the biased probe's training rows."""
    tests = np.concatenate([c.test.ravel() for c in classes[:2]])
    return float(np.isin(tests, classes[2].train).mean())


def share_of_spurious(labels: tuple[np.ndarray, np.ndarray], rows: np.ndarray) -> float:
    return float(labels[1][rows].mean())


def test_without_repairs_classes_are_the_first_rows_of_the_pool(labels) -> None:
    target, spurious = labels
    classes = scr(labels, "saebench")
    wanted = [target, ~target, spurious, ~spurious, target & spurious, ~target & ~spurious]
    size = min(int(w.sum()) for w in wanted)
    cut = int(0.8 * size)
    for found, pair in zip(classes, zip(wanted[::2], wanted[1::2], strict=True), strict=True):
        for label, concept in enumerate(pair):
            first = np.flatnonzero(concept)[:size]
            assert found.train[label].tolist() == found.effects[label].tolist() == first[:cut].tolist()
            assert found.test[label].tolist() == found.select[label].tolist() == first[cut:].tolist()
    assert leaked(classes) > 0.05


@pytest.mark.parametrize("mode", ["saebench", "fix_epoch", "fix_overlap", "fix_cells", "strict"])
def test_rows_have_the_labels_of_their_class(labels, mode: Mode) -> None:
    for classes, concept in zip(scr(labels, mode), (labels[0], labels[1], labels[0] & labels[1]), strict=True):
        for rows in (classes.train, classes.select, classes.effects, classes.test):
            assert concept[rows[0]].all() and not concept[rows[1]].any()
            assert len(set(rows.ravel().tolist())) == rows.size


def test_an_epoch_by_validation_changes_the_probes_rows_alone(labels) -> None:
    before, after = scr(labels, "saebench"), scr(labels, "fix_epoch")
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(old.test, new.test) and np.array_equal(old.effects, new.effects)
        assert np.array_equal(np.concatenate([new.train, new.select], 1), old.train)
        assert new.select.shape[1] == pytest.approx(0.2 * old.train.shape[1], abs=1)


def test_without_overlap_no_test_row_trains_and_rates_stay_natural(labels) -> None:
    before, after = scr(labels, "saebench"), scr(labels, "fix_overlap")
    trained = np.concatenate([c.train.ravel() for c in after])
    assert not np.isin(np.concatenate([c.test.ravel() for c in after]), trained).any()
    for old, new in zip(before, after, strict=True):
        assert (old.train.shape, old.test.shape) == (new.train.shape, new.test.shape)
    natural = labels[1][labels[0]].mean()
    assert share_of_spurious(labels, after[0].test[0]) == pytest.approx(natural, abs=0.15)


@pytest.mark.parametrize("most", [500, 60])
def test_balanced_cells_balance_and_still_overlap(labels, most: int) -> None:
    before, after = scr(labels, "saebench", most), scr(labels, "fix_cells", most)
    for part in ("train", "test", "effects"):
        for data, other in ((0, 1), (1, 0)):
            rows = getattr(after[data], part)
            assert labels[other][rows].mean(1).tolist() == [0.5, 0.5]
    assert leaked(after) > 0.3
    assert after[0].train.shape[1] == pytest.approx(before[0].train.shape[1], abs=2)
    assert before[0].test.shape[1] <= after[0].test.shape[1] <= before[0].test.shape[1] + 2


def test_strict_keeps_every_purpose_apart(labels) -> None:
    classes = scr(labels, "strict")
    parts = [np.concatenate([getattr(c, p).ravel() for c in classes]) for p in ("train", "select", "test")]
    for i in range(3):
        assert not np.isin(parts[i], np.concatenate(parts[:i] + parts[i + 1 :])).any()
    assert leaked(classes) == 0 and np.array_equal(classes[0].effects, classes[0].train)
    assert labels[1][classes[0].test].mean(1).tolist() == [0.5, 0.5]


def test_tpp_drops_rows_of_two_classes_only_where_overlap_is_repaired() -> None:
    classes = np.zeros((3, 400), bool)
    classes[np.arange(400) % 3, np.arange(400)] = True
    classes[:2, :5] = True
    kept, repaired = (splits.tpp(classes, 1000, Repairs(overlap=o)) for o in (False, True))
    both = set(range(5))
    assert both & set(kept.train.ravel().tolist()) == both
    assert not both & set(repaired.train.ravel().tolist())
    epoch = splits.tpp(classes, 1000, REPAIRS["fix_epoch"])
    assert np.array_equal(epoch.effects, kept.train) and np.array_equal(epoch.test, kept.test)


@pytest.mark.parametrize("mode", ["saebench", "fix_overlap", "fix_cells", "strict"])
def test_too_few_rows_are_said(labels, mode: Mode) -> None:
    target, spurious = labels
    few = spurious & (np.cumsum(target & spurious) <= 12)
    with pytest.raises(splits.TooFewRows, match="rows in the smallest"):
        splits.scr(target, few, 500, REPAIRS[mode])
    with pytest.raises(splits.TooFewRows, match="0 rows in the smallest"):
        splits.scr(np.zeros(ROWS, bool), spurious, 500, REPAIRS[mode])
    with pytest.raises(splits.TooFewRows, match="24 rows in the smallest class, 25 are needed"):
        splits.tpp(np.arange(96) % 4 == np.arange(4)[:, None], 500, REPAIRS["saebench"])
