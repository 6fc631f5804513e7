"""Builds the evaluation sets of a language-model substrate, all evaluation seeds in one process."""

from __future__ import annotations

from typing import Any


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Draw splits and train the probes on raw activations.

    Args:
        inputs: text (of lm_activations).
        outputs: evaluations, one safetensors file per evaluation seed, in the order of `evaluation_seeds`.
        params: study, substrate, `evaluation_seeds`, threads.
    """
    from sae_assay import numerics
    from sae_assay.lms import evaluation
    from sae_assay.lms.texts import Texts

    numerics.begin(params)
    texts = Texts.load(inputs.text)
    for seed, path in zip(params["evaluation_seeds"], outputs.evaluations, strict=True):
        evaluation.build(texts, (params["study"], params["substrate"], seed)).save(path)
