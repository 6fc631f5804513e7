from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from sae_assay.errors import AssayError
from sae_assay.saes.rows import FeatureRows, not_finite

DENSE = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 3]], np.float32)
DIRECTIONS = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
BIAS = np.array([10, 20], np.float32)


def test_rows_are_made_when_they_are_asked_for() -> None:
    rows = FeatureRows(csr_array(DENSE), DIRECTIONS, BIAS)
    assert len(rows) == 3 and rows.shape == (3, 2)
    made = rows[torch.tensor([2, 0, 1, 2])]
    torch.testing.assert_close(made, torch.tensor([[14.0, 23], [10, 22], [10, 20], [14, 23]]))


def test_the_path_of_other_devices_makes_the_same_rows() -> None:
    dense = np.maximum(np.random.default_rng(0).standard_normal((50, 9)), 0).astype(np.float32)
    dense[7] = 0
    drawn = csr_array(dense)
    directions = np.random.default_rng(1).standard_normal((9, 5)).astype(np.float32)
    here, there = (FeatureRows(drawn, directions, np.ones(5, np.float32), device) for device in ("cpu", "cpu:0"))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(here[order], there[order])


def test_rows_that_are_not_finite_are_counted() -> None:
    bad = DENSE.copy()
    bad[0, :2], bad[2, 2] = np.inf, np.nan
    assert not_finite(FeatureRows(csr_array(bad), DIRECTIONS, BIAS)) == 2
    assert not_finite(FeatureRows(csr_array(DENSE), DIRECTIONS, BIAS)) == 0
    assert not_finite(torch.tensor([[1.0, torch.nan], [2, 3]])) == 1


def test_features_of_another_world_are_refused() -> None:
    with pytest.raises(AssayError, match="3 features, the world 2"):
        FeatureRows(csr_array(DENSE), DIRECTIONS[:2], BIAS)
