"""Digests of a small world, a trained SAE and its probes: equal on every x86 CPU, if the portable profile keeps its promise.

    uv run python benchmarks/portability.py                  # this CPU
    uv run python benchmarks/portability.py --cpu EPYC       # another maker's, emulated

Emulation (Debian's qemu-user) takes some 40 times as long. It computes rsqrtps and rcpps exactly, which CPUs do not, so it
shows which code path a library takes and not how a maker rounds; it found the differences that the profile removes.
With `--profile native` the digests differ.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def digest(*arrays: object) -> str:
    import numpy as np

    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="portable", choices=["portable", "native"])
    parser.add_argument("--cpu", help="a model of `qemu-x86_64 -cpu help`")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.inside:
        from harness import restart

        restart(chosen.profile, *(["qemu-x86_64", "-cpu", chosen.cpu] if chosen.cpu else []))
    measure(chosen.profile, chosen.cpu)


def measure(profile: str, cpu: str | None) -> None:
    import torch

    from sae_assay import numerics
    from sae_assay.ledger.environment import cpu_model
    from sae_assay.metrics import logistic
    from sae_assay.saes import train
    from sae_assay.saes.settings import RunSettings
    from sae_assay.study import Study
    from sae_assay.worlds import build, sample
    from sae_assay.worlds.sampler import Sampler

    numerics.begin({})
    print(f"{profile} profile on {cpu or cpu_model()}", flush=True)
    study = Study.load(ROOT / "config.yaml")
    mini = study.substrates["mini"]
    model = build.build(mini.world, "mini")
    generator = model.activation_generator
    print("world      ", digest(model.feature_dict.feature_vectors.detach(), generator.firing_probabilities))
    pool = sample.draw(Sampler(build.arrays_of(model), build.nodes_of(model.hierarchy)), 4096, "portability", "pool")
    print("rows       ", digest(pool.hidden, pool.indices, pool.values))
    rows = torch.from_numpy(pool.hidden)
    for run in (next(r for r in mini.runs if r.arch == arch) for arch in ("batchtopk", "standard", "jumprelu")):
        settings = {**mini.training.model_dump(), "samples": 20 * 1024}
        one = {"id": run.id, "arch": run.arch, "l0": run.l0, "training_seed": 0, "lr": 3e-3, "widths": None}
        found = train.train_run(rows, RunSettings.of(one, settings, 128, ("portability",)), [])
        sae = list(found.values())[-1]
        print(f"{run.arch:<11}", digest(*(sae.tensors[name] for name in sorted(sae.tensors))))
    x = rows[:600].view(3, 200, -1)[..., :32].double()
    y = (x[..., 0] > 0).double()
    print("logistic   ", digest(logistic.fit(x[..., 1:], y, torch.ones_like(y, dtype=torch.bool), torch.ones(3))))


if __name__ == "__main__":
    main()
