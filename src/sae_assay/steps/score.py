"""Scores SAEs on a world's evaluation sets: every cheap metric, one score file per SAE and evaluation seed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch

from sae_assay import numerics
from sae_assay.errors import AssayError
from sae_assay.evaluation import EvaluationSet
from sae_assay.metrics import world
from sae_assay.metrics.ground_truth import Match, match
from sae_assay.metrics.records import Record, frame
from sae_assay.saes import encoder
from sae_assay.tables import scores
from sae_assay.worlds.build import read_arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CARD = ("arch", "target_l0", "variant", "training_seed", "step", "tokens", "control", "base_sae_id")
"""What a score row takes from the SAE's card (cfg.json, metadata.sae_assay); null where the card is silent."""


@dataclass(frozen=True)
class _Entry:
    """An SAE to be scored, its row columns, its decoder's match with the world's features, and the world's arrays."""

    sae: encoder.LightSAE
    columns: dict[str, Any]
    matched: Match
    world: dict[str, NDArray[np.float32]]


def run(inputs: Any, outputs: Any, settings: dict[str, Any]) -> None:
    """Score every SAE at every evaluation seed.

    Args:
        inputs: `cards` (each beside its SAE's weights), `evaluations` (one per seed), `world_weights`.
        outputs: `scores`, one per SAE and seed, seeds fastest.
        settings: `study`, `substrate`, `saes` (id, panel), `evaluation_seeds`, `metrics` (the study's sections).
    """
    device = numerics.begin(settings)
    arrays = read_arrays(inputs.world_weights)
    folders = [Path(card).parent for card in inputs.cards]
    entries = [
        _entry(folder, one, settings, arrays, device) for folder, one in zip(folders, settings["saes"], strict=True)
    ]
    seeds, metrics = settings["evaluation_seeds"], settings["metrics"]
    for j, (seed, path) in enumerate(zip(seeds, inputs.evaluations, strict=True)):
        evaluation = EvaluationSet.load(path, arrays)
        draws = world.draw(evaluation, metrics)
        for i, entry in enumerate(entries):
            records = score(entry, evaluation, draws, settings["substrate"], seed, metrics)
            target = outputs.scores[i * len(seeds) + j]
            scores.write(table(records, entry.columns, seed, str(target)), target)
            if sys.stderr.isatty():
                print(f"{entry.columns['sae_id']} at seed {seed}: {len(records)} scores", file=sys.stderr)


def score(
    entry: _Entry, evaluation: EvaluationSet, draws: world.Draws, substrate: str, seed: int, metrics: dict[str, Any]
) -> list[Record]:
    """All records of one SAE on one evaluation set."""
    with torch.no_grad():
        if entry.sae.arch == "oracle":
            latents = world.oracle_latents(evaluation, entry.sae.d_sae)
        else:
            latents = world.sae_latents(evaluation, entry.sae, entry.world)
    name = (substrate, entry.columns["sae_id"], seed)
    try:
        return world.score(world.Subject(entry.sae, latents, evaluation, draws, entry.matched, *name), metrics)
    except ArithmeticError as error:
        raise AssayError(entry.columns["sae_id"], str(error), "train or fetch this SAE again") from None


def table(records: list[Record], columns: dict[str, Any], seed: int, where: str) -> pl.DataFrame:
    """A score table: records with the SAE's columns and the evaluation seed."""
    extra = [pl.lit(value, dtype=scores.SCHEMA[name]).alias(name) for name, value in columns.items()]
    rows = frame(records).with_columns(*extra, pl.lit(seed, dtype=pl.Int64()).alias("eval_seed"))
    return scores.conform(rows, where)


def _entry(
    folder: Path, one: dict[str, str], settings: dict[str, Any], arrays: dict[str, NDArray[np.float32]], device: str
) -> _Entry:
    features = torch.from_numpy(arrays["feature_vectors"])
    sae = encoder.load(folder).on(device)
    if sae.d_in != features.shape[1]:
        problem = f"its decoder has width {sae.d_in}, the world {features.shape[1]}"
        raise AssayError(one["id"], problem, "score it on the substrate that it was trained on")
    if sae.d_sae != settings["d_sae"]:
        problem = f"it has {sae.d_sae} latents, the study's tasks are split into `in` and `out` at {settings['d_sae']}"
        raise AssayError(one["id"], problem, "leave it out, or set d_sae to its width and choose the tasks anew")
    if sae.normalizes_rows:
        raise AssayError(
            one["id"], "scales every row by itself", "ablations of such SAEs are not built yet: leave it out"
        )
    if not torch.isfinite(sae.W_dec).all():
        raise AssayError(one["id"], "its decoder is not finite", "train or fetch this SAE again")
    columns = {name: sae.card.get(name) for name in CARD}
    columns |= {
        "study": settings["study"],
        "substrate": settings["substrate"],
        "sae_id": one["id"],
        "panel": one["panel"],
    }
    columns |= {"arch": columns["arch"] or sae.arch, "is_final": bool(sae.card.get("is_final", True))}
    return _Entry(sae, columns, match(sae.W_dec, features), arrays)
