"""The second form of a BatchTopK SAE: its threshold moved to the nominal L0.

sae_lens follows the smallest active latent of each batch with a moving average, which lags early in training: after one step
the stored threshold is far too low, and the SAE fires many times more latents than it was trained with (lab/lm.md). Here the
threshold is the one at which held-out activations have exactly the nominal number of active latents on average.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_assay.saes.settings import RunSettings

if TYPE_CHECKING:
    from sae_assay.saes.train import Trained


FORM = ".recalibrated"


@torch.no_grad()
def threshold(tensors: dict[str, Any], rows: torch.Tensor, k: float, chunk: int = 1024) -> float:
    """The threshold above which k latents a row are active on average, never below 0 (a latent is not negative).

    Args:
        tensors: W_enc [d_in, d_sae], b_enc and b_dec, float32.
        rows: activations [n, d_in].
        k: nominal L0.
    """
    W_enc, b_enc, b_dec = (torch.from_numpy(tensors[name]) for name in ("W_enc", "b_enc", "b_dec"))
    wanted = round(k * len(rows)) + 1  # the largest value that stays silent
    kept = torch.empty(0)
    for part in rows.split(chunk):
        latents = ((part - b_dec) @ W_enc + b_enc).flatten()
        kept = torch.cat([kept, latents[latents > 0]])
        if len(kept) > wanted:
            kept = kept.topk(wanted, sorted=False).values
    return float(kept.min()) if len(kept) == wanted else 0.0


def recalibrated(sae: Trained, k: float, rows: torch.Tensor, dtype: str = "float16") -> Trained:
    """The SAE with its threshold at the nominal L0 of these rows, with matrices as they will be stored."""
    stored = {n: t.astype(dtype).astype(np.float32) if t.ndim > 1 else t for n, t in sae.tensors.items()}
    found = np.full_like(sae.tensors["threshold"], threshold(stored, rows, k))
    return replace(sae, tensors={**sae.tensors, "threshold": found})


def save(
    sae: Trained,
    run: RunSettings,
    calibration: torch.Tensor,
    config_path: str | Path,
    weights_path: str | Path,
) -> None:
    """Write the recalibrated form; the first half of the calibration rows sets the threshold, the other is measured on.

    Args:
        sae: the SAE as trained.
        calibration: held-out rows [n, d_in].
    """
    from sae_assay.saes import train

    half = len(calibration) // 2
    moved = recalibrated(sae, run.target_l0, calibration[:half])
    variant = ".".join(filter(None, [run.variant, "recalibrated"]))
    # Its run stands in the panel already, so this form belongs to the trajectories alone.
    names = {"sae_id": train.sae_id(run, sae.step, FORM), "base_sae_id": train.sae_id(run, sae.step)}
    more = {**names, "variant": variant, "panel": "trajectory"}
    train.save(moved, run, True, calibration[half:], config_path, weights_path, **more)
