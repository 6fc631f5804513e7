"""Rows drawn from a world, each set from its own named stream, and the file of training rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tqdm import tqdm

from sae_assay import seeds
from sae_assay.errors import AssayError
from sae_assay.worlds.pool import Pool

if TYPE_CHECKING:
    from sae_lens.synthetic import SyntheticModel

CHUNK = 4096  # the reference's batch; part of the stream, since the library draws chunk by chunk
_REMEDY = "delete the file and run the workflow again; it rebuilds what is missing"


def draw(model: SyntheticModel, rows: int, *purpose: str | int) -> Pool:
    """Draw a pool of `rows` rows with their features from the stream of a purpose."""
    parts: list[Pool] = []

    def keep(size: int) -> None:
        hidden, features = model.sample_with_features(size)
        parts.append(Pool.from_dense(hidden.numpy(), features.numpy()))

    _in_chunks(rows, keep, purpose)
    return Pool.concatenate(parts)


def draw_hidden(model: SyntheticModel, rows: int, *purpose: str | int) -> NDArray[np.float32]:
    """Draw rows [rows, d_in] without their features from the stream of a purpose."""
    drawn = np.empty((rows, model.cfg.hidden_dim), np.float32)
    filled = 0

    def keep(size: int) -> None:
        nonlocal filled
        drawn[filled : filled + size] = model.sample(size).numpy()
        filled += size

    _in_chunks(rows, keep, purpose)
    return drawn


def _in_chunks(rows: int, keep: Callable[[int], None], purpose: tuple[str | int, ...]) -> None:
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        # The library samples from torch's global generator.
        torch.manual_seed(seeds.integer(*purpose))
        for start in tqdm(
            range(0, rows, CHUNK), desc=f"rows: {purpose[-1]}", unit_scale=CHUNK, disable=None, leave=False
        ):
            keep(min(CHUNK, rows - start))


def save_rows(path: str | Path, training: NDArray[np.float32], calibration: NDArray[np.float32]) -> None:
    """Write training.safetensors: `rows` [n, d_in] for training and `calibration` [m, d_in], float32."""
    arrays = {"rows": training, "calibration": calibration}
    Path(path).write_bytes(save({name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()}))


def load_rows(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Read training.safetensors: `rows` and `calibration`.

    Raises:
        AssayError: missing, truncated or without these arrays.
    """
    try:
        arrays = load_file(str(path))
        return {name: arrays[name] for name in ("rows", "calibration")}
    except FileNotFoundError:
        raise AssayError(str(path), "no such file of training rows", _REMEDY) from None
    except (SafetensorError, KeyError) as error:
        raise AssayError(str(path), f"not a whole file of training rows ({error})", _REMEDY) from None
