"""Scores SAEs on a language model's fixed text at the points of a noise anatomy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from sae_assay import anatomy, numerics
from sae_assay.lms import evaluation, scoring
from sae_assay.lms.texts import Texts
from sae_assay.saes import encoder
from sae_assay.steps.anatomy import points
from sae_assay.steps.lm_score import check, columns
from sae_assay.steps.score import table
from sae_assay.tables import scores


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Score every SAE at every point of some blocks.

    Args:
        inputs: cards and weights (in the order of `saes`), text (of lm_activations).
        outputs: scores, one per SAE; `eval_seed` is the point's number.
        params: `study`, `substrate`, `saes` (id, panel), `blocks`, `sources`, `resamples`, `text_share`, `metrics`.
    """
    device, texts = numerics.begin(params), Texts.load(inputs.text)
    saes = [encoder.load(Path(card).parent).on(device) for card in inputs.cards]
    for sae, one in zip(saes, params["saes"], strict=True):
        check(sae, one["id"], texts.many.hidden.shape[1])
    encoded = [scoring.encode(sae, texts) for sae in saes]
    pooled = scoring.pooled_sets(texts)
    parts: list[list[pl.DataFrame]] = [[] for _ in saes]
    for point in points(params):
        streams = anatomy.streams(point, params["study"], params["substrate"], texts=True)
        shared = scoring.Seed(evaluation.build(texts, streams, params["text_share"]), pooled)
        for sae, latents, one, rows in zip(saes, encoded, params["saes"], parts, strict=True):
            records = scoring.score(sae, latents, texts, shared, params["metrics"])
            rows.append(table(records, columns(sae, one, params), point.number, f"point {point.number}"))
    for rows, path in zip(parts, outputs.scores, strict=True):
        scores.write(pl.concat(rows), path)
