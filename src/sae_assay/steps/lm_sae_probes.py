"""Scores SAEs on a language-model substrate with the real sae-probes package; one import serves them all."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sae_assay import numerics
from sae_assay.lms.texts import Texts
from sae_assay.metrics import sae_probes
from sae_assay.saes import encoder
from sae_assay.steps.lm_score import check, columns
from sae_assay.steps.score import table
from sae_assay.tables import scores


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Score some SAEs at their evaluation seeds.

    Args:
        inputs: cards and weights (of the SAEs, in the order of `saes`), text (of lm_activations).
        outputs: scores, SAE by SAE, its evaluation seeds fastest.
        params: study, substrate, threads, `hook` (lm.hook), `saes` (id, panel, evaluation_seeds of each), `metrics`
            ({"sae_probes": {"k_probe": [...]}}).
    """
    device = numerics.begin(params)
    ks, paths = params["metrics"]["sae_probes"]["k_probe"], iter(outputs.scores)
    sets = [sae_probes.ProbeSet(s.name, s.labels, s.last) for s in Texts.load(inputs.text).binary]
    with tempfile.TemporaryDirectory() as folder:
        package = sae_probes.Package(sets, params["hook"], folder)
        for card, one in tqdm(list(zip(inputs.cards, params["saes"], strict=True)), desc="sae-probes", disable=None):
            sae = encoder.load(Path(card).parent).on(device)
            check(sae, one["id"], sets[0].last.shape[1])
            for seed in one["evaluation_seeds"]:
                path = str(next(paths))
                records = package.score(sae, ks, seed, params["metrics"]["sae_probes"].get("penalty", "l1"))
                scores.write(table(records, columns(sae, one, params), seed, path), path)
