"""Rows drawn from a world, each set from its own named stream, and the file of training rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tqdm import tqdm

from sae_assay import seeds
from sae_assay.errors import AssayError
from sae_assay.worlds.pool import Pool
from sae_assay.worlds.sampler import TILE, Sampler

_REMEDY = "delete the file and run the workflow again; it rebuilds what is missing"


def draw(sampler: Sampler, rows: int, *purpose: str | int) -> Pool:
    """Draw a pool of `rows` rows with their features from the stream of a purpose."""
    return Pool.concatenate(list(_tiles(sampler, rows, purpose)))


def draw_hidden(sampler: Sampler, rows: int, *purpose: str | int) -> NDArray[np.float32]:
    """Draw rows [rows, d_in] without their features from the stream of a purpose."""
    drawn = np.empty((rows, sampler.d_in), np.float32)
    filled = 0
    for tile in _tiles(sampler, rows, purpose):
        drawn[filled : filled + len(tile)] = tile.hidden
        filled += len(tile)
    return drawn


def _tiles(sampler: Sampler, rows: int, purpose: tuple[str | int, ...]) -> Iterator[Pool]:
    generator = seeds.numpy_generator(*purpose)
    starts = range(0, rows, TILE)
    for start in tqdm(starts, desc=f"rows: {purpose[-1]}", unit_scale=TILE, disable=None, leave=False):
        yield sampler.draw(min(TILE, rows - start), generator)


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
