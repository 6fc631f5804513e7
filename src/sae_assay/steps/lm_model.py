"""Fetches a registered language model."""

from __future__ import annotations

from typing import Any

from sae_assay.lms import fetch


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write the model file of a registered input.

    Args:
        inputs: registry (data/registry.yaml).
        outputs: model (a GGUF file under data/inputs/, outside DVC and git).
        params: `input`, the registry's name for it (config: lm.input).
    """
    fetch.fetch(params["input"], outputs.model, inputs.registry)
