"""The replaced operators give what they should, for every shape, type and use that torch allows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from sae_assay import numerics


@pytest.fixture(autouse=True)
def portable() -> Iterator[None]:
    numerics.make_portable()
    yield
    numerics._overrides.clear()  # torch's own kernels return with the library's end


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_square_roots_are_exact(dtype: torch.dtype) -> None:
    x = drawn(4099, dtype=dtype)
    exact = torch.from_numpy(np.sqrt(x.numpy()))
    target = torch.empty(0, dtype=dtype)
    torch.sqrt(x, out=target)
    for found in (x.sqrt(), x**0.5, x.clone().sqrt_(), target):
        assert torch.equal(found, exact)
    assert torch.equal(x[7].sqrt(), exact[7]) and torch.equal(drawn(3, 4, dtype=dtype).T.sqrt().T[0], exact[:4])


def test_products_are_those_of_float64() -> None:
    x, y, added = drawn(50, 30) - 0.5, drawn(30, 20) - 0.5, drawn(20)
    exact = (x.double().numpy() @ y.double().numpy()).astype(np.float32)
    linear = torch.nn.functional.linear(x[None], y.T, added)[0]
    for found, wanted in (
        (x @ y, exact),
        (torch.bmm(x[None], y[None])[0], exact),
        (linear, exact + added.numpy()),
        (torch.addmm(added, x, y, beta=2, alpha=3), 3 * exact + 2 * added.numpy()),
        (torch.baddbmm(added[None, None], x[None], y[None], beta=0)[0], exact),
    ):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_gradients_flow() -> None:
    x = drawn(6, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ((x @ x.T).sqrt() + x**0.5).sum(), x)


def test_other_types_keep_torchs_own_kernels() -> None:
    whole = torch.arange(6).view(2, 3)
    assert (whole @ whole.T).tolist() == [[5, 14], [14, 50]]
    assert torch.tensor([4, 9]).sqrt().tolist() == [2, 3]
    assert (drawn(2, 3).bfloat16() @ drawn(3, 2).bfloat16()).dtype == torch.bfloat16
    assert (drawn(5) ** 0.3).allclose(torch.exp(0.3 * torch.log(drawn(5))))
    assert torch.sqrt(torch.tensor([-1.0 + 0j])).imag.item() == pytest.approx(1)


def test_device_is_cuda_only_where_there_is_one() -> None:
    assert numerics.begin({"device": "cpu"}) == "cpu"
    assert numerics.begin({"device": "auto"}) == ("cuda" if torch.cuda.is_available() else "cpu")
