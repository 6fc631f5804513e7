"""The compiled loops' own exponential and logarithm, and problems without an optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sae_assay.metrics import logistic, newton


def test_exp_and_log1p_are_numpys_to_the_last_bits() -> None:
    x = np.concatenate([np.linspace(0, 1, 1001), np.geomspace(1e-300, 700, 4001)])
    small, rest, scratch = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    newton.exp_of_negative(x, small, rest, scratch)
    np.testing.assert_allclose(small, np.exp(-x), rtol=5e-16)
    newton.exp_of_negative(-x, negative := np.empty_like(x), rest, scratch)
    assert np.array_equal(negative, small)
    newton.log1p(small, found := np.empty_like(x), scratch)
    np.testing.assert_allclose(found, np.log1p(small), rtol=5e-16)
    far = np.array([709.0, 1e10, np.inf])
    newton.exp_of_negative(far, out := np.empty(3), np.empty(3), np.empty(3))
    assert (out > 0).all() and (out < 4e-308).all()


def test_rows_that_do_not_count_are_left_out() -> None:
    x = torch.tensor([[[1.0, 0], [0, 0], [2, 3]], [[0, 0], [4, 5], [6, 0]]])
    first, indptr, columns, values = newton.compress(x.numpy(), np.array([[True, True, False], [False, True, True]]))
    assert first.tolist() == [0, 2, 4] and indptr.tolist() == [0, 1, 1, 3, 4]
    assert columns.tolist() == [0, 0, 1, 0] and values.tolist() == [1, 4, 5, 6]


def test_rows_that_are_not_finite_have_no_optimum() -> None:
    x, y = torch.tensor([[[1.0], [torch.nan]]]), torch.tensor([[0.0, 1.0]])
    with pytest.raises(logistic.NotConverged, match="1 of 1 logistic regressions"):
        logistic.fit(x, y, torch.ones(1, 2, dtype=torch.bool), torch.ones(1))


@pytest.mark.parametrize("k", [1, 3, 4, 5, 9, 64])
@pytest.mark.parametrize("share", [0.05, 0.9])
def test_the_optimum_has_no_gradient(k: int, share: float) -> None:
    """Sparse rows and such as are mostly active; widths that fill the factor's groups of four and that do not."""
    generator = torch.Generator().manual_seed(k)
    x = torch.randn(3, 200, k, generator=generator) * (torch.rand(3, 200, k, generator=generator) < share)
    y = (torch.rand(3, 200, generator=generator) < 0.4).float()
    counts = torch.rand(3, 200, generator=generator) < 0.8
    C = torch.tensor([100.0, 1.0, 0.01])
    theta = logistic.fit(x, y, counts, C)
    for p in range(3):
        rows = torch.cat([x[p][counts[p]].double(), torch.ones(int(counts[p].sum()), 1, dtype=torch.float64)], 1)
        weights = theta[p].clone()
        weights[-1] = 0
        gradient = rows.T @ (torch.sigmoid(rows @ theta[p]) - y[p][counts[p]].double()) + weights / C[p]
        assert gradient.abs().max() < 1e-9


def test_a_factor_solves_what_numpy_solves() -> None:
    generator = np.random.default_rng(0)
    for n in (1, 2, 4, 5, 8, 65):
        half = generator.standard_normal((n + 3, n))
        symmetric, b = half.T @ half, generator.standard_normal(n)
        wanted = np.linalg.solve(symmetric, b)
        assert newton._descend(np.triu(symmetric), b)
        np.testing.assert_allclose(b, wanted, rtol=1e-7)
    assert not newton._descend(np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones(2))


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_large_values_reach_an_optimum_too(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (
        1e6
        * torch.randn(6, 300, 8, generator=generator).double()
        * (torch.rand(6, 300, 8, generator=generator) < share)
    )
    y = (torch.rand(6, 300, generator=generator) < 0.4).float()
    counts = torch.ones(6, 300, dtype=torch.bool)
    for C in (1e-5, 1.0, 1e5):
        assert torch.isfinite(logistic.fit(x, y, counts, torch.full((6,), C))).all()
