"""Latents of a wide SAE by a product in bfloat16 that finds which can be active, and float32 for those alone.

A row's pre-activations lie below the threshold for all but some dozens of thousands of latents. Where products of
bfloat16 run on matrix units of their own (AMX), they cost a quarter of float32's, so that they screen: a latent is
computed in float32 unless its rounded product shows that it cannot be active. No active latent is missed. With x~ and w~
rounded to bfloat16, and g of |x| |w| for what float32 sums lose,

    |x.w - x~.w~| <= |x - x~| |w| + |x~| |w - w~|,

so x~.w~ + (b - threshold) + (|x - x~| + g |x|) |w| + |x~| |w - w~| is positive where x.w + b is above the threshold. That
is one product, if x~ and w~ are given four columns more, rounded up.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from sae_assay import numerics

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sae_assay.saes.encoder import LightSAE

WORTHWHILE = 1 << 20
"""Weights of an encoder from which on screening pays."""
_UNITS = 32
"""Columns that a matrix unit takes at a time."""
_ABOVE = 1 + 1e-3
"""More than what float32 loses of a norm and of the columns that bound the rounding."""


@dataclass(frozen=True)
class Screen:
    """An encoder of thresholded latents.

    Attributes:
        sae: the SAE that it encodes for.
        weights: float32 [d_sae, d_in], the encoder's columns as rows.
        screen: bfloat16 [d_sae, d_in and more], the same rounded, and what bounds the rounding.
        threshold: float32 [d_sae]; a latent is active above it.
    """

    sae: LightSAE
    weights: Tensor
    screen: Tensor
    threshold: Tensor

    def encode(self, x: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Latents of finite activations [rows, d_in]: indptr [rows + 1], indices and values [active]."""
        x = self.sae.encoder_input(x)
        row, column = self.candidates(x)
        values = self._products(x, row, column) + self.sae.b_enc[column]
        active = values > self.threshold[column]
        indptr = np.searchsorted(row[active].numpy(), np.arange(len(x) + 1))
        return indptr, column[active].to(torch.int32).numpy(), values[active].numpy()

    def candidates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and latents, in this order, that may be active on encoder inputs [rows, d_in]: all that are, and few more."""
        rounded, one = x.bfloat16(), torch.ones(len(x))
        lost = _norm(x - rounded.float()) + _sum_error(x.shape[1]) * _norm(x)
        above = functional.linear(_widened(rounded, one, one, lost, _norm(rounded.float())), self.screen)
        # A bfloat16 is positive where the integer of the same bits is, and numpy reads integers alone.
        at = torch.from_numpy(np.flatnonzero(above.view(torch.int16).numpy() > 0))
        return at // len(self.weights), at % len(self.weights)

    def _products(self, x: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """x[row] . weights[column], float32 [candidates]."""
        indptr = torch.searchsorted(row, torch.arange(len(x) + 1))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
            wanted = torch.sparse_csr_tensor(
                indptr, column, torch.zeros(len(row)), (len(x), len(self.weights)), check_invariants=False
            )
            return torch.sparse.sampled_addmm(wanted, x, self.weights.T, beta=0.0).values()


def screen(sae: LightSAE) -> Screen | None:
    """The screen of an SAE; None where this machine, the numeric profile or the SAE gains nothing by it."""
    if not numerics.matrix_units() or sae.arch not in ("standard", "jumprelu") or sae.W_enc.numel() < WORTHWHILE:
        return None
    parts = (sae.W_enc, sae.b_enc)
    if any(t.dtype != torch.float32 or t.device.type != "cpu" or not torch.isfinite(t).all() for t in parts):
        return None
    weights = sae.W_enc.T.contiguous()
    threshold = torch.zeros(len(weights)) if sae.threshold is None else sae.threshold.clamp(min=0)
    rounded, offset = weights.bfloat16(), sae.b_enc.double() - threshold
    high = offset.bfloat16().double()
    low = offset - high + _sum_error(sae.d_in) * offset.abs()
    return Screen(
        sae, weights, _widened(rounded, high, low, _norm(weights), _norm(weights - rounded.float())), threshold
    )


def _widened(rounded: Tensor, *columns: Tensor) -> Tensor:
    """bfloat16 [n, d] and more columns [n], none of them rounded down, up to a whole number of matrix units."""
    more = _rounded_up(torch.stack([column.double() for column in columns], 1))
    width = rounded.shape[1] + more.shape[1]
    return torch.cat([rounded, more, rounded.new_zeros(len(rounded), -width % _UNITS)], 1)


def _rounded_up(x: Tensor) -> Tensor:
    rounded = x.bfloat16()
    above = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
    return torch.where(rounded.double() < x, above, rounded)


def _norm(rows: Tensor) -> Tensor:
    """Bounds of the norms of rows [n, d] from above: [n]."""
    return torch.linalg.vector_norm(rows, dim=1) * _ABOVE


def _sum_error(d: int) -> float:
    """How far float32 sums of d + a few products may be off, both that of the screen and the exact one, of |x| |w|."""
    terms = d + 2 * _UNITS
    return 2 * terms * 2.0**-24 / (1 - terms * 2.0**-24)
