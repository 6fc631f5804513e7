"""Chooses a world's tasks from rows drawn for that purpose; light: no torch, no sae_lens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sae_assay.study.worlds import Tasks
from sae_assay.worlds import build, tasks
from sae_assay.worlds.pool import Pool


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write tasks.json.

    Args:
        inputs: `card` (world.json), `task_pool`.
        outputs: `tasks`.
        params: `study`, `substrate`, `d_sae`, `tasks` (the substrate's section).
    """
    nodes = build.read_json(inputs.card)["hierarchy"]
    wanted = Tasks.model_validate(params["tasks"])
    chosen = tasks.choose(
        Pool.load(inputs.task_pool), nodes, params["d_sae"], wanted, params["study"], params["substrate"]
    )
    Path(outputs.tasks).write_text(json.dumps(chosen, indent=1, sort_keys=True) + "\n", encoding="utf-8")
