"""CPU seconds of one TPP score by the real SAEBench and by our fast code, on the same activations and draws.

    uv run python benchmarks/saebench.py STUDY SUBSTRATE SAE SEED

reads what a run of the study left: the cache of saebench_tpp and the SAE. Imports are not counted, nor is anything that
SAEs share (activations, probes). Both do one SAE, every n of the study, all classes; values must agree.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from sae_assay.lms import model as models
from sae_assay.metrics import probes, saebench, tpp
from sae_assay.metrics.ablation import with_padding
from sae_assay.plan import Plan
from sae_assay.saes import encoder
from sae_assay.steps.saebench_cache import library_job
from sae_assay.study import Study

METRIC, MODE = "saebench_tpp", "library"


def main(study: str, substrate: str, sae_id: str, seed: str) -> None:
    """Print both times, their ratio and the largest difference of a score, as JSON."""
    torch.set_num_threads(1)
    plan = Plan(Study.load(study))
    words = SimpleNamespace(substrate=substrate, sae=sae_id, metric=METRIC, seed=seed)
    params = plan.library_score_settings(words)
    card = Path(plan.sae("cfg.json", sae_id, substrate))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "all")
        saebench.unpack(plan.library_cache(METRIC, seed, substrate), folder)
        theirs, values = _library(plan, params, folder, card, Path(scratch))
        ours, found = _ours(folder, encoder.load(card.parent), params, int(seed))
    largest = max(abs(values[key] - found[key]) for key in values)
    print(json.dumps({"library": theirs, "ours": ours, "ratio": theirs / ours, "largest_difference": largest}))


def _library(
    plan: Plan, params: dict[str, Any], folder: Path, card: Path, scratch: Path
) -> tuple[float, dict[tuple[str, int], float]]:
    model = plan.lm_model(params["substrate"])
    width = models.open_file(model).d_model
    job = {**library_job(folder, params, MODE, model, width, "cpu"), "sae": str(card.parent.absolute())}
    environment = saebench.Environment(Path(params["section"]["environment"]))
    rows = environment.answers([job], scratch)[0]
    spent = json.loads((scratch / "rows_0.json").read_text(encoding="utf-8"))["cpu_seconds"]
    return spent, {(row["component"], row["hp_value"]): row["value"] for row in rows}


def _ours(
    folder: Path, sae: encoder.LightSAE, params: dict[str, Any], seed: int
) -> tuple[float, dict[tuple[str, int], float]]:
    (stored,) = (folder / MODE / "cache").glob("*_activations.pt")
    parts = torch.load(stored)
    train, test = (torch.stack(list(parts[name].values())) for name in ("train", "test"))
    generator = torch.Generator().manual_seed(seed)
    raw = [_mean(tokens) for tokens in (train, test)]
    trained = _trained(*raw, generator)
    ns = params["section"]["n"]
    started = time.process_time()
    latents, ablated = _latents(sae, train)[0], _latents(sae, test)[1]
    scoring = torch.Generator().manual_seed(seed)
    draws = tpp.draw(len(train), train.shape[1], test.shape[1], len(ns), generator, scoring)
    inputs = tpp.TppInput("t", None, latents, ablated, raw[1], sae.W_dec, trained)
    rows = tpp.saebench(inputs, draws, ns)
    return time.process_time() - started, {(r["component"], r["hp_value"]): r["value"] for r in rows}


def _mean(tokens: torch.Tensor) -> torch.Tensor:
    """[classes, rows, d] from [classes, rows, length, d]; masked tokens are all zeros."""
    return tokens.sum(2) / (tokens.sum(-1) != 0).sum(-1, keepdim=True)


@torch.no_grad()
def _latents(sae: encoder.LightSAE, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean latents, and those that an ablation removes, [classes, rows, d_sae] each."""
    counted = (tokens.sum(-1) != 0).float()
    count = counted.sum(-1, keepdim=True)
    flat = sae.encode(tokens.flatten(0, 2)).view(*tokens.shape[:3], -1)
    mean = (flat * counted[..., None]).sum(2) / count
    zero = sae.encode(torch.zeros(1, sae.d_in))[0]
    ratio = (1 - counted).sum(-1) / count[..., 0]
    return mean, with_padding(mean.flatten(0, 1), ratio.flatten(), zero).view_as(mean)


def _trained(train: torch.Tensor, test: torch.Tensor, generator: torch.Generator) -> probes.Probes:
    classes, m, r = len(train), train.shape[1], test.shape[1]
    rows = torch.arange(classes * m).view(classes, m)
    held = classes * m + torch.arange(classes * r).view(classes, r)
    plans = [probes.plan(list(rows), list(held), c, train.shape[2], generator) for c in range(classes)]
    return probes.train(torch.cat([train.flatten(0, 1), test.flatten(0, 1)]), plans)


if __name__ == "__main__":
    main(*sys.argv[1:])
