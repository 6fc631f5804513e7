"""Rows drawn from a world, each set from its own named stream, and the file of training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.sparse import csr_array, vstack
from tqdm import tqdm

from sae_assay import seeds
from sae_assay.errors import AssayError
from sae_assay.worlds.pool import Pool
from sae_assay.worlds.sampler import TILE, Sampler

_REMEDY = "delete the file and run the workflow again; it rebuilds what is missing"


def draw(sampler: Sampler, rows: int, *purpose: str | int) -> Pool:
    """Draw a pool of `rows` rows with their features from the stream of a purpose."""
    features = draw_features(sampler, rows, *purpose)
    return Pool.of_features(features, sampler.hidden(features))


def draw_hidden(sampler: Sampler, rows: int, *purpose: str | int) -> NDArray[np.float32]:
    """Draw rows [rows, d_in] without their features from the stream of a purpose."""
    return sampler.hidden(draw_features(sampler, rows, *purpose))


def draw_features(sampler: Sampler, rows: int, *purpose: str | int) -> csr_array:
    """Draw feature activations [rows, num_features] without the rows that they make from the stream of a purpose."""
    generator = seeds.numpy_generator(*purpose)
    starts = tqdm(range(0, rows, TILE), desc=f"rows: {purpose[-1]}", unit_scale=TILE, disable=None, leave=False)
    tiles = [sampler.draw(min(TILE, rows - start), generator) for start in starts]
    return vstack(tiles, format="csr") if tiles else csr_array((0, sampler.num_features), dtype=np.float32)


def save_rows(path: str | Path, training: NDArray[np.float32], calibration: NDArray[np.float32]) -> None:
    """Write training.safetensors: `rows` [n, d_in] for training and `calibration` [m, d_in], float32."""
    _save(path, {"rows": training, "calibration": calibration})


def save_features(path: str | Path, training: csr_array, calibration: NDArray[np.float32]) -> None:
    """Write training.safetensors of a world: `indptr`, `indices` and `values` of the training rows' feature activations
    [n, num_features], a tenth of the rows' own size or less, and `calibration` rows [m, d_in]."""
    parts = {
        "indptr": training.indptr.astype(np.int64),
        "indices": training.indices.astype(np.int32),
        "values": training.data,
    }
    _save(path, parts | {"shape": np.array(training.shape), "calibration": calibration})


def load_rows(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Read training.safetensors: `rows` and `calibration`.

    Raises:
        AssayError: missing, truncated or without these arrays.
    """
    return _load(path, "rows", "calibration")


def load_features(path: str | Path) -> csr_array:
    """Read the feature activations [n, num_features] of a world's training rows; errors as in `load_rows`."""
    found = _load(path, "values", "indices", "indptr", "shape")
    return csr_array((found["values"], found["indices"], found["indptr"]), tuple(found["shape"].tolist()))


def load_calibration(path: str | Path) -> NDArray[np.float32]:
    """Read calibration rows [m, d_in]; errors as in `load_rows`."""
    return _load(path, "calibration")["calibration"]


def _save(path: str | Path, arrays: dict[str, NDArray[Any]]) -> None:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))
    Path(path).chmod(0o644)  # safetensors lets nobody but the owner read it


def _load(path: str | Path, *names: str) -> dict[str, NDArray[Any]]:
    try:
        with safe_open(str(path), framework="np") as file:
            return {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise AssayError(str(path), "no such file of training rows", _REMEDY) from None
    except SafetensorError as error:
        raise AssayError(str(path), f"not a whole file of training rows ({error})", _REMEDY) from None
