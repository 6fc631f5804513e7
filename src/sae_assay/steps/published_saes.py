"""Takes published SAEs over as panel entries: fetched at the pinned revision, checked, written with our card."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from sae_assay import numerics
from sae_assay.errors import AssayError
from sae_assay.lms import hub
from sae_assay.saes import encoder, formats, releases
from sae_assay.worlds import sample


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write every published SAE of a substrate; matrices keep float32.

    Args:
        inputs: `registry`, `training` (its calibration rows); of a world also `card` (world.json).
        outputs: `cards` and `weights`, in the order of `saes`.
        params: `substrate`, `kind`, `d_sae`, `saes` (each `id`, `input`, `folder`, `arch`, `l0`, `training_seed`, and
            `release` where `folder` is an id in a release of SAELens).
    """
    numerics.begin(params)
    calibration, d_sae = sample.load_calibration(inputs.training), params["d_sae"]
    for one, *paths in zip(params["saes"], outputs.cards, outputs.weights, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            if one.get("release"):
                releases.fetch(one["input"], (one["release"], one["folder"]), folder, inputs.registry)
            else:
                hub.fetch(one["input"], one["folder"], folder, inputs.registry)
            # SAEs of a language model come in many widths; those of a world are compared at one.
            shape = (None if params.get("kind") == "lm" else d_sae, calibration.shape[1])
            take(folder, one, shape, torch.from_numpy(calibration), *paths)


def take(
    folder: str | Path,
    one: dict[str, Any],
    shape: tuple[int | None, int],
    calibration: torch.Tensor,
    config_path: str,
    weights_path: str,
) -> None:
    """Write one SAE from its fetched folder.

    Args:
        folder: in SAELens's format.
        one: `id`, `input`, `folder`, `arch`, `l0`, `training_seed`.
        shape: latents (None: any number) and width that the study wants.
        calibration: rows [n, d_in] on which L0, explained variance and dead latents are measured.

    Raises:
        AssayError: see `formats.read`; also another shape.
    """
    found = formats.read(folder)
    d_sae, d_in = found.tensors["W_dec"].shape
    if (shape[0] or d_sae, shape[1]) != (d_sae, d_in):
        problem = f"has {d_sae} latents of width {d_in}, the study {shape[0] or 'SAEs'} of width {shape[1]}"
        raise AssayError(one["id"], problem, "name SAEs of this substrate under `published`, or change d_sae")
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
