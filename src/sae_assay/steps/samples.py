"""Draws all rows of a world in one process: for training, for calibration, for choosing tasks, and every pool. No torch."""

from __future__ import annotations

from typing import Any

from sae_assay.worlds import build, sample
from sae_assay.worlds.pool import Pool
from sae_assay.worlds.sampler import Sampler


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write training rows and pools, each from its own stream.

    Args:
        inputs: `weights` (world.safetensors), `card` (world.json).
        outputs: `training` (training and calibration rows), `task_pool`, `pools` (one per evaluation seed, in order).
        params: `study`, `substrate`, `samples` (the substrate's section), `evaluation_seeds`.
    """
    sizes, purpose = params["samples"], (params["study"], params["substrate"])
    sampler = Sampler(build.read_arrays(inputs.weights), build.read_json(inputs.card)["hierarchy"])
    sample.save_features(
        outputs.training,
        sample.draw_features(sampler, sizes["training_rows"], *purpose, "training"),
        sample.draw_hidden(sampler, sizes["calibration_rows"], *purpose, "calibration"),
    )
    Pool.of_features(sample.draw_features(sampler, sizes["task_rows"], *purpose, "tasks")).save(outputs.task_pool)
    for seed, path in zip(params["evaluation_seeds"], outputs.pools, strict=True):
        Pool.of_features(sample.draw_features(sampler, sizes["pool_rows"], *purpose, "pool", seed)).save(path)
