"""The fast matching against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from sae_assay.metrics import assignment
from sae_assay.metrics.similarity import Whole


def _total(similarity: np.ndarray, matching: tuple[np.ndarray, np.ndarray]) -> float:
    columns, values = matching
    assert len(set(columns.tolist())) == len(similarity)
    assert np.array_equal(values, similarity[np.arange(len(similarity)), columns])
    return float(values.astype(np.float64).sum())


@pytest.mark.parametrize("near", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_equals_scipys(near: float, seed: int) -> None:
    """`near` 1: all rows want the same few columns, so that the first entries do not suffice."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((700, 24))
    rows = rng.standard_normal((300, 24)) + near * 5 * features[rng.integers(0, 6, 300)]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, features)]
    similarity = np.abs(unit[0] @ unit[1].T).astype(np.float32)
    best = similarity[linear_sum_assignment(similarity, maximize=True)].astype(np.float64).sum()
    assert _total(similarity, assignment.largest(Whole(similarity))) == pytest.approx(best, abs=1e-6)


def test_it_is_found_among_few_entries(monkeypatch) -> None:
    """Not by falling back on scipy's search through all entries."""
    monkeypatch.setattr(assignment, "linear_sum_assignment", None)
    similarity = np.random.default_rng(0).random((200, 600)).astype(np.float32)
    similarity[np.arange(200), 3 * np.arange(200)] = 1
    columns, _ = assignment.largest(Whole(similarity))
    assert columns.tolist() == (3 * np.arange(200)).tolist()


def test_a_crowd_at_one_column() -> None:
    similarity = np.full((40, 600), 0.1, np.float32)
    similarity[:, 5], similarity[:, 7] = 0.9, np.linspace(0.2, 0.8, 40)
    columns, values = assignment.largest(Whole(similarity))
    assert _total(similarity, (columns, values)) == pytest.approx(0.9 + 0.8 + 38 * 0.1, abs=1e-5)
    assert columns[39] == 7
