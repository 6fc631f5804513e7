"""Draws all rows of a world in one process: for training, for calibration, for choosing tasks, and every pool."""

from __future__ import annotations

from typing import Any

from sae_assay import numerics
from sae_assay.worlds import build, sample


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write training rows and pools, each from its own stream.

    Args:
        inputs: `weights` (world.safetensors), `card` (world.json).
        outputs: `training` (training and calibration rows), `task_pool`, `pools` (one per evaluation seed, in order).
        params: `study`, `substrate`, `samples` (the substrate's section), `evaluation_seeds`.
    """
    numerics.begin(params)
    sizes, purpose = params["samples"], (params["study"], params["substrate"])
    model = build.restore(inputs.weights, inputs.card)
    sample.save_rows(
        outputs.training,
        sample.draw_hidden(model, sizes["training_rows"], *purpose, "training"),
        sample.draw_hidden(model, sizes["calibration_rows"], *purpose, "calibration"),
    )
    sample.draw(model, sizes["task_rows"], *purpose, "tasks").save(outputs.task_pool)
    for seed, path in zip(params["evaluation_seeds"], outputs.pools, strict=True):
        sample.draw(model, sizes["pool_rows"], *purpose, "pool", seed).save(path)
