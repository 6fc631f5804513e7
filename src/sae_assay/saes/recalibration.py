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
def threshold(tensors: dict[str, Any], rows: torch.Tensor, k: float, device: str = "cpu", chunk: int = 1024) -> float:
    """The threshold above which k latents a row are active on average, never below 0 (a latent is not negative).

    Args:
        tensors: W_enc [d_in, d_sae], b_enc and b_dec, float32.
        rows: activations [n, d_in].
        k: nominal L0.
    """
    W_enc, b_enc, b_dec = (torch.from_numpy(tensors[name]).to(device) for name in ("W_enc", "b_enc", "b_dec"))
    wanted = round(k * len(rows)) + 1  # the largest value that stays silent
    kept = torch.empty(0, device=device)
    for part in rows.split(chunk):
        latents = ((part.to(device) - b_dec) @ W_enc + b_enc).flatten()
        kept = torch.cat([kept, latents[latents > 0]])
        if len(kept) > wanted:
            kept = kept.topk(wanted, sorted=False).values
    return float(kept.min()) if len(kept) == wanted else 0.0


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
    stored = {name: t.astype(np.float16).astype(np.float32) if t.ndim > 1 else t for name, t in sae.tensors.items()}
    found = threshold(stored, calibration[:half], run.target_l0, run.device)
    moved = replace(sae, tensors={**sae.tensors, "threshold": np.full_like(sae.tensors["threshold"], found)})
    variant = ".".join(filter(None, [run.variant, "recalibrated"]))
    # Its run stands in the panel already, so this form belongs to the trajectories alone.
    names = {"sae_id": train.sae_id(run, sae.step, FORM), "base_sae_id": train.sae_id(run, sae.step)}
    more = {**names, "variant": variant, "panel": "trajectory"}
    train.save(moved, run, True, calibration[half:], config_path, weights_path, **more)
