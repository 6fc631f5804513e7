"""Trains a group of SAEs on a world's rows in one process, and writes their snapshots."""

from __future__ import annotations

import sys
from typing import Any

import torch
from tqdm import tqdm

from sae_assay import numerics
from sae_assay.saes.rows import FeatureRows
from sae_assay.saes.settings import RunSettings
from sae_assay.worlds import build, sample


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Train every run of a group.

    Args:
        inputs: `training` (training and calibration rows); `world` (world.safetensors, or empty).
        outputs: `cards` and `weights`: run by run its unfinished snapshots in order, then the finished SAE.
        params: `study`, `substrate`, `kind` (of substrate), `d_sae`, `device`, `training` (the substrate's section), `runs` (each `id`, `arch`,
            `l0`, `training_seed`, `lr`, `widths`, `snapshot_steps`; `recalibrated` where its SAEs come in that form too).
    """
    purpose, device = (params["study"], params["substrate"]), numerics.begin(params)
    rows, calibration = _rows(inputs, params.get("kind"), device)
    # Activations of a language model are a hundred long; sae_lens's initialisation expects them near sqrt(d_in).
    normalisation = "expected_average_only_in" if params.get("kind") == "lm" else "none"
    runs = [
        (
            RunSettings.of(
                one, params["training"], params["d_sae"], purpose, device=device, normalize_activations=normalisation
            ),
            one["snapshot_steps"],
        )
        for one in params["runs"]
    ]
    for settings, steps in runs:  # every run, before sae_lens is imported and the first is trained
        settings.check(rows, steps)
    from sae_assay.saes import recalibration, train

    again = {one["id"] for one in params["runs"] if one.get("recalibrated")}
    places = iter(zip(outputs.cards, outputs.weights, strict=True))
    for settings, steps in tqdm(runs, desc="training runs", disable=None, file=sys.stderr):
        trained = train.train_run(rows, settings, steps)
        for sae in trained.values():
            train.save(sae, settings, bool(steps), calibration, *next(places))
        if settings.id in again:
            for sae in trained.values():
                recalibration.save(sae, settings, calibration, *next(places))


def _rows(inputs: Any, kind: str | None, device: str) -> tuple[torch.Tensor | FeatureRows, torch.Tensor]:
    """Training and calibration rows; a world's training rows are stored as features."""
    if kind != "world":
        found = sample.load_rows(inputs.training)
        return torch.from_numpy(found["rows"]), torch.from_numpy(found["calibration"])
    world, features = build.read_arrays(*inputs.world), sample.load_features(inputs.training)
    calibration = torch.from_numpy(sample.load_calibration(inputs.training))
    return FeatureRows(features, world["feature_vectors"], world["bias"], device), calibration
