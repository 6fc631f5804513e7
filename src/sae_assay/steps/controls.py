"""Builds a substrate's controls from their bases; no sae_lens."""

from __future__ import annotations

from typing import Any

import torch

from sae_assay import numerics
from sae_assay.saes import controls, encoder, formats
from sae_assay.worlds import build, sample


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write every control.

    Args:
        inputs: `weights` (world.safetensors), `training` (its calibration rows), `base_cards` and `base_weights` (in the
            order of `options.bases`).
        outputs: `cards` and `weights`, in the order of `controls`.
        params: `study`, `substrate`, `d_sae`, `controls` (each `id`, `kind`, `base` or null), `options` (`bases`,
            `best_fraction`, `random_init_threshold`).
    """
    numerics.begin(params)
    options = params["options"]
    calibration = torch.from_numpy(sample.load_calibration(inputs.training))
    files = zip(inputs.base_cards, inputs.base_weights, strict=True)
    bases = {
        name: encoder.from_file(formats.read_files(*paths), str(paths[0]))
        for name, paths in zip(options["bases"], files, strict=True)
    }
    for one, card_path, weights_path in zip(params["controls"], outputs.cards, outputs.weights, strict=True):
        purpose = (params["study"], params["substrate"], one["id"])
        base = bases.get(one["base"])
        if base is None:
            config, weights = controls.oracle(build.read_arrays(inputs.weights)["feature_vectors"], params["d_sae"])
        else:
            config, weights = controls.build(one["kind"], base, calibration, options, *purpose)
        stored = formats.write(
            config_path=card_path, weights_path=weights_path, config=config, tensors=weights, card={}
        )
        card = _card(one, base) | (_measured(stored, calibration) if base else {})
        formats.write(card_path, weights_path, config, weights, card)


def _card(one: dict[str, Any], base: encoder.LightSAE | None) -> dict[str, Any]:
    about = base.card if base else {}
    return {
        "sae_id": one["id"],
        "panel": "control",
        "control": one["kind"],
        "base_sae_id": one["base"],
        "arch": about.get("arch", base.arch if base else "oracle"),
        "target_l0": about.get("target_l0"),
        "training_seed": about.get("training_seed"),
        "variant": None,
        "step": None,
        "tokens": None,
        "is_final": True,
        "coefficient": None,
    }


def _measured(stored: formats.SaeFile, calibration: torch.Tensor) -> dict[str, float]:
    return encoder.measure(encoder.from_file(stored, "control"), calibration)
