"""Scores SAEs on a language-model substrate: every cheap metric, one score file per SAE and evaluation seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sae_assay import numerics
from sae_assay.errors import AssayError
from sae_assay.lms import model as models
from sae_assay.lms import scoring
from sae_assay.lms.evaluation import Evaluation
from sae_assay.lms.texts import Texts
from sae_assay.saes import encoder
from sae_assay.steps.score import CARD, table
from sae_assay.tables import scores


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Score some SAEs (a run and its snapshots, say) at their evaluation seeds.

    Args:
        inputs: cards and weights (of the SAEs, in the order of `saes`), model (GGUF), text (of lm_activations),
            evaluations (in the order of `evaluation_seeds`).
        outputs: scores, SAE by SAE, its evaluation seeds fastest.
        params: study, substrate, threads, `hook` (lm.hook), `saes` (id, panel, evaluation_seeds of each), `metrics`
            (sections of the cheap metrics), `evaluation_seeds` (all seeds that some SAE needs).
    """
    device, texts, metrics = numerics.begin(params), Texts.load(inputs.text), params["metrics"]
    for card, one in zip(inputs.cards, params["saes"], strict=True):  # all of them, before anything is computed
        check_origin(card, one["id"], texts.many.hidden.shape[1], params["hook"])
    evaluations = dict(zip(params["evaluation_seeds"], map(Evaluation.load, inputs.evaluations), strict=True))
    continue_ = _rest_of_model(inputs.model, params["hook"], device) if "reconstruction" in metrics else None
    seeds = {seed: scoring.prepare(texts, found, continue_) for seed, found in evaluations.items()}
    paths = iter(outputs.scores)
    for card, one in zip(inputs.cards, params["saes"], strict=True):
        sae = encoder.load(Path(card).parent).on(device)
        check(sae, one["id"], texts.many.hidden.shape[1])
        encoded = scoring.encode(sae, texts)
        for seed in one["evaluation_seeds"]:
            path = str(next(paths))
            found = scoring.score(sae, encoded, texts, seeds[seed], metrics)
            scores.write(table(found, columns(sae, one, params), seed, path), path)


def columns(sae: encoder.LightSAE, one: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """The columns of a score row that describe the SAE."""
    found = {name: sae.card.get(name) for name in CARD}
    found |= {"study": params["study"], "substrate": params["substrate"], "sae_id": one["id"], "panel": one["panel"]}
    return found | {"arch": found["arch"] or sae.arch, "is_final": bool(sae.card.get("is_final", True))}


def check_origin(card: str, sae_id: str, width: int, hook: str) -> None:
    """Refuse an SAE whose configuration names another width or hook than the substrate's; one that names no hook may pass.

    Args:
        card: its cfg.json.
    """
    config = json.loads(Path(card).read_text(encoding="utf-8"))
    named = (config.get("metadata") or {}).get("hook_name")
    if config.get("d_in", width) != width or named not in (None, hook):
        problem = f"reads {config.get('d_in')} dimensions at {named or 'an unnamed hook'}, the substrate has {width} at {hook}"
        raise AssayError(sae_id, problem, "score it on the substrate that it was trained on")


def check(sae: encoder.LightSAE, sae_id: str, width: int) -> None:
    """Refuse an SAE that cannot be scored here: AssayError names it and why.

    Args:
        width: of the model's residual stream.
    """
    if sae.d_in != width:
        problem = f"reads {sae.d_in} dimensions, the model's residual stream has {width}"
        raise AssayError(sae_id, problem, "score it on the substrate that it was trained on")
    if sae.normalizes_rows:
        raise AssayError(sae_id, "scales every row by itself", "ablations of such SAEs are not built yet: leave it out")
    if not torch.isfinite(sae.W_dec).all():
        raise AssayError(sae_id, "its decoder is not finite", "train or fetch this SAE again")


def _rest_of_model(path: str, hook: str, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    layer, model = models.layer_of(hook), models.read(path, device=device)
    return lambda residual: model.logits(residual, layer)
