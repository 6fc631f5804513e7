"""SAE files: SAELens's inference format (cfg.json, sae_weights.safetensors) with our card. Numpy only.

The card stands in cfg.json under metadata.sae_assay, which SAELens keeps and ignores. Matrices are stored as float16 by
default, vectors (biases, thresholds) as float32: thresholds decide L0, and cost nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from sae_assay.errors import AssayError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SAE_LENS_VERSION = "6.54.12"  # whose format this is; SAELens reads older-looking files in another way
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
# Tensors that each architecture must have, as functions of the widths.
_SHAPES = {
    "W_enc": ("d_in", "d_sae"),
    "W_dec": ("d_sae", "d_in"),
    "b_enc": ("d_sae",),
    "b_dec": ("d_in",),
    "threshold": ("d_sae",),
}
TENSORS = {
    "standard": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "topk": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "jumprelu": ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"),
    "matching_pursuit": ("W_dec", "b_dec"),
    "oracle": ("W_dec", "b_dec"),
}
_REMEDY = "train it again (delete its folder and run the workflow), or fetch it again if it came from elsewhere"


@dataclass(frozen=True)
class SaeFile:
    """An SAE as stored.

    Attributes:
        config: cfg.json; `architecture` is a key of `TENSORS`, `d_in` and `d_sae` are the widths.
        tensors: float32 by SAELens's names.
        card: what sae-assay knows of it; empty for an SAE from elsewhere.
    """

    config: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]]
    card: dict[str, Any]


def write(
    config_path: str | Path,
    weights_path: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, NDArray[np.float32]],
    card: Mapping[str, Any],
    dtype: str = "float16",
) -> SaeFile:
    """Write an SAE; equal content gives equal bytes.

    Args:
        config_path, weights_path: the two files.
        config: SAELens's configuration of the inference SAE.
        tensors: float32, by SAELens's names.
        card: JSON-able values for metadata.sae_assay.
        dtype: of matrices: `float16` or `float32`.

    Returns:
        The SAE as it will be read: matrices rounded to `dtype`.
    """
    stored = {n: np.ascontiguousarray(t, dtype if t.ndim > 1 else np.float32) for n, t in sorted(tensors.items())}
    metadata = {"sae_lens_version": SAE_LENS_VERSION, **(config.get("metadata") or {}), "sae_assay": dict(card)}
    content = {**config, "dtype": "float32", "device": "cpu", "metadata": metadata}
    Path(weights_path).write_bytes(save(stored))
    Path(config_path).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return SaeFile(content, {name: array.astype(np.float32) for name, array in stored.items()}, dict(card))


def read(folder: str | Path) -> SaeFile:
    """Read a folder written by `write` or by SAELens.

    Raises:
        AssayError: a file is missing or truncated, the architecture is unknown, or a tensor is missing, has another
            shape than d_in and d_sae say, or is not finite.
    """
    return read_files(Path(folder) / CONFIG, Path(folder) / WEIGHTS)


def read_files(config_path: str | Path, weights_path: str | Path) -> SaeFile:
    """Like `read`, from the two files."""
    config = _read_config(Path(config_path))
    tensors = _read_tensors(Path(weights_path))
    if config["architecture"] == "topk" and config.get("k") is None:
        raise AssayError(str(config_path), "a TopK SAE without `k`", _REMEDY)
    for name in TENSORS[config["architecture"]]:
        _check(Path(weights_path), name, tensors, config)
    return SaeFile(config, tensors, (config.get("metadata") or {}).get("sae_assay") or {})


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AssayError(str(path), "no such file", _REMEDY) from None
    except ValueError as error:
        raise AssayError(str(path), f"not JSON ({error})", _REMEDY) from None
    missing = [key for key in ("architecture", "d_in", "d_sae") if key not in config]
    if missing:
        raise AssayError(str(path), f"lacks {', '.join(missing)}", "save the SAE with sae_lens 6 or newer")
    if config["architecture"] not in TENSORS:
        raise AssayError(
            str(path), f"architecture {config['architecture']} cannot be scored", f"use one of {', '.join(TENSORS)}"
        )
    return config


def _read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        entries = deserialize(path.read_bytes())
    except FileNotFoundError:
        raise AssayError(str(path), "no such file", _REMEDY) from None
    except SafetensorError as error:
        raise AssayError(str(path), f"not a whole safetensors file ({error})", _REMEDY) from None
    return {name: _decode(path, name, entry) for name, entry in entries}


def _decode(path: Path, name: str, entry: dict[str, Any]) -> NDArray[np.float32]:
    if entry["dtype"] not in _DTYPES:
        raise AssayError(str(path), f"{name} is of type {entry['dtype']}", f"store it as {', '.join(_DTYPES)}")
    array = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":  # the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    return array.astype(np.float32).reshape(entry["shape"])


def _check(path: Path, name: str, tensors: dict[str, NDArray[np.float32]], config: dict[str, Any]) -> None:
    if name not in tensors:
        raise AssayError(str(path), f"lacks the tensor {name}", _REMEDY)
    expected = tuple(int(config[width]) for width in _SHAPES[name])
    if tensors[name].shape != expected:
        problem = f"{name} has shape {list(tensors[name].shape)}, cfg.json says {list(expected)}"
        raise AssayError(str(path), problem, "correct d_in and d_sae, or fetch the SAE again")
    # A removed latent's threshold may be infinite.
    bad = np.isnan(tensors[name]) if name == "threshold" else ~np.isfinite(tensors[name])
    if bad.any():
        raise AssayError(str(path), f"{name} has {int(bad.sum())} values that are not finite", _REMEDY)


def number(value: float | None) -> float | None:
    """A finite float for a card, or None."""
    return None if value is None or not math.isfinite(value) else float(value)
