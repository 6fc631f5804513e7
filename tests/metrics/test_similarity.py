"""Screened cosines miss none of the whole product's, also where rounding to bfloat16 hides it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sae_assay import numerics
from sae_assay.metrics import assignment, ground_truth, similarity


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few directions, and machines whose products of bfloat16 are slow, take part."""
    monkeypatch.setattr(similarity, "WORTHWHILE", 0)
    monkeypatch.setattr(numerics, "fast_bfloat16", lambda: True)


def both(n: int, m: int, d: int = 48, near: bool = True) -> tuple[similarity.Whole, similarity.Screened]:
    g = torch.Generator().manual_seed(n)
    right = torch.randn(m, d, generator=g)
    left = torch.randn(n, d, generator=g) + (2 * right[torch.randint(m, (n,), generator=g)] if near else 0)
    screened = similarity.cosines(left, right)
    assert isinstance(screened, similarity.Screened)
    return similarity.Whole((screened.left @ screened.right.T).abs_().numpy()), screened


@pytest.mark.parametrize("near", [True, False])
def test_entries_are_those_of_the_whole_product(near: bool) -> None:
    whole, screened = both(300, 700, near=near)
    bounds = np.linspace(0, 1, 300, dtype=np.float32)  # also rows that must be computed in full
    for least in (bounds, np.full(300, 0.3, np.float32), np.full(300, -1, np.float32), np.full(300, 2, np.float32)):
        (wanted, values), (found, close) = whole.above(least), screened.above(least)
        assert np.array_equal(found, wanted)
        np.testing.assert_allclose(close, values, atol=1e-6)
    assert np.array_equal(screened.best()[0], whole.best()[0]) and len(screened.best()[0]) == 300
    chosen = np.array([7, 3])
    np.testing.assert_allclose(screened.rows(chosen), whole.rows(chosen), atol=1e-6)


def test_none_is_missed_in_the_worst_case() -> None:
    """Every product rounds down: entries lie just below the middle of two bfloat16s."""
    entry = (1 + 2.0**-8 - 2.0**-16) * 0.125  # rounds to 0.125
    row = torch.full((1, 64), entry)
    screened = similarity.Screened(row, row)
    exact = float(row.double()[0] @ row.double()[0])
    least = np.array([exact * (1 - 1e-6)], np.float32)
    assert screened.above(least)[0].tolist() == [0] and screened.best()[0].tolist() == [0]
    assert float((row.bfloat16().float() ** 2).sum()) < exact * (1 - 7e-3)


def test_a_matching_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, screened = both(300, 700)
    columns, values = assignment.largest(screened)
    wanted, exact = assignment.largest(whole)
    assert np.array_equal(columns, wanted)
    np.testing.assert_allclose(values, exact, atol=1e-6)
    found = ground_truth.match(screened.right, screened.left)  # more latents than features
    monkeypatch.setattr(numerics, "fast_bfloat16", lambda: False)
    assert isinstance(similarity.cosines(screened.right, screened.left), similarity.Whole)
    again = ground_truth.match(screened.right, screened.left)
    assert found.mcc == pytest.approx(again.mcc, abs=1e-6) and found.uniqueness == again.uniqueness
    assert torch.equal(found.feature, again.feature)


def test_directions_of_length_0_have_no_cosine() -> None:
    whole, screened = both(300, 700)
    left = torch.cat([torch.zeros(200, 48), screened.left])
    found = similarity.cosines(left, screened.right)
    columns, values = assignment.largest(found)
    assert len(set(columns.tolist())) == 500 and not values[:200].any()
    wanted = assignment.largest(similarity.Whole(np.concatenate([np.zeros((200, 700), np.float32), whole.cosines])))[1]
    assert values.astype(np.float64).sum() == pytest.approx(wanted.astype(np.float64).sum(), abs=1e-4)


def test_directions_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ArithmeticError, match="not finite"):
        ground_truth.match(torch.tensor([[torch.nan, 1.0]]), torch.eye(2))


def test_portable_arithmetic_screens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not numerics.native() and not numerics.fast_bfloat16()
