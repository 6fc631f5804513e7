"""Builds a synthetic world from its configuration."""

from __future__ import annotations

from typing import Any

from sae_assay import numerics
from sae_assay.study.worlds import WorldConfig
from sae_assay.worlds import build


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write a world.

    Args:
        inputs: none.
        outputs: `weights` (world.safetensors), `card` (world.json).
        params: `substrate` (name), `world` (the substrate's section).
    """
    numerics.begin(params)
    world = WorldConfig.model_validate(params["world"])
    build.save_world(build.build(world, params["substrate"]), world, outputs.weights, outputs.card)
