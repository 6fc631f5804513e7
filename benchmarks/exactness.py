"""By how much a score moves when nothing but an SAE's bookkeeping does: the order of its latents, dead ones, their scale.

`uv run python benchmarks/exactness.py [--root .] [--seed 42]`, on one evaluation set of the default study's world
(`uv run snakemake --cores 2 data/activations/default/mini/evaluation_42.safetensors`; SAEs from `dvc pull`).
Prints a row a metric, mode and change: the largest and the mean absolute difference over SAEs, tasks and n or k_probe;
for TPP in mode saebench a row an n too.
Ranks of latents are what SAEBench's ties depend on; decoder norms are folded into encoders before scoring, so `rescaled`
is what would happen if they were not.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sae_assay import numerics
from sae_assay.evaluation import EvaluationSet
from sae_assay.metrics import world
from sae_assay.metrics.ground_truth import Match
from sae_assay.saes import encoder
from sae_assay.seeds import torch_generator

SAES = [f"{arch}_l0_08_seed_0" for arch in ("batchtopk", "matryoshka", "matching_pursuit", "standard", "jumprelu")]
NS = [1, 2, 5, 10, 20, 50, 100]
ABLATED = {"n": NS, "modes": ["saebench", "strict"]}
PROBED = {"k_probe": [1, 2, 5, 10, 16, 32, 64]}
METRICS: dict[str, Any] = {"tpp": ABLATED, "scr": ABLATED, "sparse_probing": PROBED, "sae_probes": PROBED}
DEAD = 32


@dataclass(frozen=True)
class Moved:
    """An SAE with its latents in another order, times `scale` (their decoder rows divided by it), after dead ones."""

    sae: world.Sae
    order: Tensor
    scale: Tensor
    dead: int = 0

    @property
    def W_dec(self) -> Tensor:
        rows = (self.sae.W_dec / self.scale[:, None])[self.order]
        return torch.cat([torch.nn.functional.normalize(torch.ones(self.dead, rows.shape[1]), dim=1), rows])

    def encode(self, x: Tensor) -> Tensor:
        f = (self.sae.encode(x) * self.scale)[:, self.order]
        return torch.cat([f.new_zeros(len(f), self.dead), f], 1)

    def decode(self, f: Tensor, x: Tensor | None = None) -> Tensor:
        return self.sae.decode(f[:, self.dead :][:, self.order.argsort()] / self.scale, x)


def changes(sae: world.Sae) -> dict[str, Moved]:
    """The SAE as it is, and each change; draws come from named streams."""
    width = len(sae.W_dec)
    same, ones = torch.arange(width), torch.ones(width)
    order = torch.randperm(width, generator=torch_generator("exactness", "order", width))
    scale = 4.0 ** (torch.rand(width, generator=torch_generator("exactness", "scale", width)) - 0.5)
    return {
        "unchanged": Moved(sae, same, ones),
        "permuted": Moved(sae, order, ones),
        f"{DEAD} dead latents": Moved(sae, same, ones, DEAD),
        "rescaled": Moved(sae, same, scale),
    }


def scores(sae: Moved, evaluation: EvaluationSet) -> dict[tuple[Any, ...], float | None]:
    """Every score of one SAE, by metric, mode and the rest of its key."""
    with torch.no_grad():
        latents = world.sae_latents(evaluation, sae)
    nothing = Match(0.0, 0.0, torch.zeros(0, dtype=torch.long))
    draws = world.draw(evaluation, METRICS)
    subject = world.Subject(sae, latents, evaluation, draws, nothing, "mini", "moved", evaluation.purpose[-1])  # type: ignore[arg-type]
    keys = ("metric", "mode", "component", "hp_value", "task", "direction")
    return {tuple(r[k] for k in keys): r["value"] for r in world.score(subject, METRICS)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    numerics.begin({})
    evaluation = EvaluationSet.load(
        options.root / f"data/activations/default/mini/evaluation_{options.seed}.safetensors"
    )
    evaluation = replace(evaluation, tasks=[t for t in evaluation.tasks if t.mode in (None, *ABLATED["modes"])])
    gaps: dict[tuple[str, str, str], list[float]] = {}
    for name in SAES:
        moved = changes(encoder.load(options.root / f"data/saes/default/mini/{name}"))
        before = scores(moved.pop("unchanged"), evaluation)
        for change, sae in moved.items():
            after = scores(sae, evaluation)
            for key, value in before.items():
                if value is not None and key[2] in ("score", "accuracy", "auc"):
                    gap = abs(value - after[key]) if after[key] is not None else float("inf")  # type: ignore[operator]
                    gaps.setdefault((*key[:2], change), []).append(gap)
                    if key[:2] == ("tpp", "saebench"):
                        gaps.setdefault((f"tpp, n = {key[3]:>3}", key[1], change), []).append(gap)
    print(f"{'metric':<16}{'mode':<10}{'change':<18}{'largest':>10}{'mean':>10}{'moved':>8}")
    for (metric, mode, change), found in sorted(gaps.items()):
        x = np.array(found)
        print(f"{metric:<16}{mode:<10}{change:<18}{x.max():>10.2g}{x.mean():>10.2g}{(x > 1e-6).mean():>8.1%}")


if __name__ == "__main__":
    main()
