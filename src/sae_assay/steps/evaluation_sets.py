"""Every evaluation set of a world in one process: one job to make again where results were pulled without them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sae_assay.steps import evaluation_set


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write the evaluation set of each evaluation seed.

    Args:
        inputs: `tasks` (tasks.json), `world` (world.safetensors), `pools` (in the order of `evaluation_seeds`).
        outputs: `evaluations` (safetensors), in the same order.
        params: `evaluation_seeds`, and what `evaluation_set.run` asks for.
    """
    for seed, pool, path in zip(params["evaluation_seeds"], inputs.pools, outputs.evaluations, strict=True):
        one = SimpleNamespace(tasks=inputs.tasks, pool=pool, world=inputs.world)
        evaluation_set.run(one, SimpleNamespace(evaluation=path), {**params, "evaluation_seed": seed})
