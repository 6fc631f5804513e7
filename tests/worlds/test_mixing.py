"""Rows of feature activations: scipy's product, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from sae_assay.worlds import mixing


@pytest.mark.parametrize("width", [1, 7, 64, 100])
def test_rows_are_scipys_bit_for_bit(width: int) -> None:
    generator = np.random.default_rng(0)
    dense = generator.standard_normal((300, 90), np.float32) * (generator.random((300, 90)) < 0.2)
    dense[7] = 0
    features = csr_array(dense.astype(np.float32))
    directions, bias = (generator.standard_normal(shape, np.float32) for shape in ((90, width), (width,)))
    found = mixing.rows(features, directions, bias)
    assert found.dtype == np.float32 and np.array_equal(found, features @ directions + bias)
    assert np.array_equal(found[7], bias)
    assert np.array_equal(mixing.rows(features, np.asfortranarray(directions), bias), found)
    assert np.array_equal(mixing.rows(features[:50], np.asfortranarray(directions), bias), found[:50])


def test_activations_of_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="activations of 3 features, 4 directions"):
        mixing.rows(csr_array(np.eye(3, dtype=np.float32)), np.ones((4, 2), np.float32), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"a bias of shape \(1,\), directions of width 2"):
        mixing.rows(csr_array(np.eye(4, dtype=np.float32)), np.ones((4, 2), np.float32), np.zeros(1, np.float32))
