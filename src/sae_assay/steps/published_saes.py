"""Takes published SAEs over as panel entries: fetched at the pinned revision, checked, written with our card; no sae_lens."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from sae_assay import numerics
from sae_assay.errors import AssayError
from sae_assay.lms import hub
from sae_assay.saes import encoder, formats
from sae_assay.worlds import build, sample


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write every published SAE of a substrate; matrices keep float32.

    Args:
        inputs: `registry`, `card` (world.json), `training` (its calibration rows).
        outputs: `cards` and `weights`, in the order of `saes`.
        params: `substrate`, `d_sae`, `saes` (each `id`, `input`, `folder`, `arch`, `l0`, `training_seed`).
    """
    numerics.begin(params)
    d_in, calibration = build.read_json(inputs.card)["hidden_dim"], sample.load_calibration(inputs.training)
    for one, *paths in zip(params["saes"], outputs.cards, outputs.weights, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            hub.fetch(one["input"], one["folder"], folder, inputs.registry)
            take(folder, one, (params["d_sae"], d_in), torch.from_numpy(calibration), *paths)


def take(
    folder: str | Path,
    one: dict[str, Any],
    shape: tuple[int, int],
    calibration: torch.Tensor,
    config_path: str,
    weights_path: str,
) -> None:
    """Write one SAE from its fetched folder.

    Args:
        folder: in SAELens's format.
        one: `id`, `input`, `folder`, `arch`, `l0`, `training_seed`.
        shape: latents and width that the study wants.
        calibration: rows [n, d_in] on which L0, explained variance and dead latents are measured.

    Raises:
        AssayError: see `formats.read`; also another shape.
    """
    found = formats.read(folder)
    d_sae, d_in = found.tensors["W_dec"].shape
    if (d_sae, d_in) != shape:
        problem = f"has {d_sae} latents of width {d_in}, the study {shape[0]} of width {shape[1]}"
        raise AssayError(one["id"], problem, "name SAEs of this world under `published`, or change d_sae")
    card = {
        "sae_id": one["id"],
        "panel": "panel",
        "arch": one["arch"],
        "target_l0": float(one["l0"]),
        "training_seed": one["training_seed"],
        "variant": None,
        "step": None,
        "tokens": None,
        "is_final": True,
        "coefficient": None,
        "control": None,
        "base_sae_id": None,
        "published": f"{one['input']}: {one['folder']}",
        **encoder.measure(encoder.from_file(found, one["id"]), calibration),
    }
    formats.write(config_path, weights_path, found.config, found.tensors, card, "float32")
