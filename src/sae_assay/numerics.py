"""Where and how a job computes: device, threads, and arithmetic that gives the same bits on every x86 CPU.

torch takes square roots, exponentials and matrix products from MKL. Under MKL's mode COMPATIBLE its exponentials,
logarithms and factorisations are the same on CPUs of different makers. Two things are not good enough:

- Its square root starts from an approximation (rsqrtps) that every maker rounds in its own way, in any mode. IEEE's is
  exact everywhere. Adam takes one at every step, so that one wrong bit makes another SAE.
- Its matrix products run at less than half the speed. OpenBLAS's, under one core type, run at full speed.

Both are replaced here by numpy's. `ledger/environment.py` fixes the modes, before the process starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_REAL = (torch.float32, torch.float64)
_overrides: list[torch.library.Library] = []


def begin(settings: Mapping[str, Any]) -> str:
    """Fix this process's threads and arithmetic, and say on which device the job computes.

    Args:
        settings: `threads` (1 where absent) and `device`: `cpu`, or `auto`, CUDA where there is one.
    """
    torch.set_num_threads(int(settings.get("threads", 1)))
    make_portable()
    device = settings.get("device", "cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(device)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 products on a GPU round their factors to ten bits here: several times faster, a relative error of some 1e-3."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def native() -> bool:
    """Whether this process's arithmetic is the machine's own (profile `native`), so that sums may be taken in any order."""
    return "ONEDNN_MAX_CPU_ISA" not in os.environ


def fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32, and the numeric profile lets it."""
    return native() and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def make_portable() -> None:
    """Replace torch's square roots and matrix products of real tensors on the CPU, in this process from now on."""
    if _overrides:
        return
    library = torch.library.Library("aten", "IMPL")
    for operator, function in _REPLACED.items():
        library.impl(operator, _where_real(operator, function), "CPU", with_keyset=True)
    _overrides.append(library)


def _where_real(operator: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` for float32 and float64, torch's own kernel for anything else."""
    own = torch.library.get_kernel(f"aten::{operator}", "CPU")

    def replaced(keyset: torch._C.DispatchKeySet, *inputs: Any, **options: Any) -> Tensor:
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        if all(x.dtype in _REAL and x.layout == torch.strided for x in tensors):
            found = function(*(x.detach() if isinstance(x, Tensor) else x for x in inputs), **options)
            if found is not NotImplemented:
                return found
        return own.call_boxed(keyset, *inputs, **options)

    return replaced


def _sqrt(x: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(np.sqrt(x.numpy())))


def _pow(x: Tensor, exponent: float) -> Any:
    return _sqrt(x) if exponent == 0.5 else NotImplemented


def _product(x: Tensor, y: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() @ y.numpy())


def _sum_and_product(added: Tensor, x: Tensor, y: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = _product(x, y)
    if (beta, alpha) == (1, 1):
        return product.add_(added)
    return product.mul_(alpha).add_(added, alpha=beta) if beta else product.mul_(alpha)


_REPLACED: dict[str, Callable[..., Any]] = {
    "sqrt": _sqrt,
    "sqrt_": lambda x: x.copy_(_sqrt(x)),
    "sqrt.out": lambda x, out: out.resize_(x.shape).copy_(_sqrt(x)),
    "pow.Tensor_Scalar": _pow,
    "mm": _product,
    "bmm": _product,
    "addmm": _sum_and_product,
    "baddbmm": _sum_and_product,
}
