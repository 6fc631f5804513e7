"""Sparse latents against the dense ones that they hold."""

from __future__ import annotations

import pytest
import torch

from sae_assay.lms.activations import pooled
from sae_assay.metrics.latents import CHUNK, SparseLatents


@pytest.fixture(scope="module")
def dense() -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    f = torch.randn(50, 12, generator=g) * (torch.rand(50, 12, generator=g) < 0.3)
    f[7], f[:, 4] = 0, 0
    return f


def test_dense_rows_and_columns(dense) -> None:
    sparse, rows = SparseLatents.of(dense), torch.tensor([49, 7, 0, 7])
    assert torch.equal(sparse.dense(), dense) and len(sparse) == 50
    for taken in (rows, torch.arange(5, 31), torch.arange(50), torch.tensor([7]), torch.arange(0)):
        assert torch.equal(sparse.take(taken).dense(), dense[taken])
    assert torch.equal(sparse.columns(torch.tensor([11, 0, 4])), dense[:, [11, 0, 4]])
    assert torch.equal(SparseLatents.concatenate([sparse.take(rows), sparse]).dense(), torch.cat([dense[rows], dense]))


def test_rows_beyond_the_last_are_refused(dense) -> None:
    sparse = SparseLatents.of(dense)
    for rows in (torch.arange(45, 60), torch.tensor([50])):
        with pytest.raises(IndexError):
            sparse.take(rows)


def test_sums_counts_and_products(dense) -> None:
    sparse, weights = SparseLatents.of(dense), torch.linspace(-1, 1, 50).double()
    torch.testing.assert_close(sparse.sums(), dense.double().sum(0))
    torch.testing.assert_close(sparse.sums(weights), (dense.double() * weights[:, None]).sum(0))
    torch.testing.assert_close(sparse.magnitudes(), dense.double().abs().sum(0))
    assert torch.equal(sparse.counts(), (dense != 0).sum(0))
    matrix = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sparse @ matrix, dense @ matrix)
    torch.testing.assert_close(sparse @ matrix.double(), dense.double() @ matrix.double())


def test_encoding_chunk_by_chunk() -> None:
    sparse = SparseLatents.encoded(lambda rows: torch.stack([rows % 3, rows], 1).float(), CHUNK + 5, 2)
    assert sparse.dense()[[4, CHUNK + 4]].tolist() == [[1, 4], [(CHUNK + 4) % 3, CHUNK + 4]]
    assert len(SparseLatents.encoded(lambda rows: rows, 0, 2)) == 0


def test_what_is_not_a_number_is_kept(dense) -> None:
    broken = dense.clone()
    broken[7, 4] = torch.nan
    assert SparseLatents.of(broken).take(torch.tensor([7])).values.tolist() == pytest.approx(
        [float("nan")], nan_ok=True
    )


def test_means_have_the_bits_of_the_dense_rows_added_one_by_one() -> None:
    g = torch.Generator().manual_seed(4)
    f = torch.rand(3000, 20, generator=g) * (torch.rand(3000, 20, generator=g) < 0.3)
    group = torch.randint(0, 6, (3000,), generator=g)
    found = SparseLatents.of(f).means(group, 7)
    assert torch.equal(found.dense()[:6], pooled(f, group, 6)) and not found.dense()[6].any()
    assert torch.equal(SparseLatents.of(found.dense()).take(torch.arange(7)).dense(), found.dense())
