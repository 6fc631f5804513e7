"""Builds a synthetic world from its configuration, or takes a published one over."""

from __future__ import annotations

import tempfile
from typing import Any

from sae_assay import numerics
from sae_assay.lms import hub
from sae_assay.study.worlds import PublishedWorld, WorldConfig
from sae_assay.worlds import build


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write a world.

    Args:
        inputs: `published`: what a published world is read from (data/registry.yaml, or the files of its folder); else empty.
        outputs: `weights` (world.safetensors), `card` (world.json).
        params: `substrate` (name), `world` or `published_world` (the substrate's section; the other is null).
    """
    device = numerics.begin(params)
    if params["published_world"] is None:
        world = WorldConfig.model_validate(params["world"])
        model = build.build(world, params["substrate"], device)
        build.save_world(model, world, outputs.weights, outputs.card)
        return
    published = PublishedWorld.model_validate(params["published_world"])
    with tempfile.TemporaryDirectory() as fetched:
        if published.input:
            hub.fetch(published.input, published.variant, fetched, *inputs.published)
        model = build.load_published(published.path or fetched)
    build.save_published(model, {"published": params["published_world"]}, outputs.weights, outputs.card)
