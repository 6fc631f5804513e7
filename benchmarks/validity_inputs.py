"""The world and the five SAEs of `benchmarks/validity.py`, built once and kept in its cache folder; nothing here is timed.

SynthSAEBench-16k from its configuration; its dictionary is made orthogonal with the library's loss and optimiser in closed
form: the squared inner products of all pairs need the d x d matrix E'E alone, where the library forms all n x n of them
(minutes instead of half an hour). The SAEs are trained for seconds: they are work to be scored, never a result.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from sae_assay import numerics
from sae_assay.saes.settings import RunSettings
from sae_assay.study.worlds import Hierarchy, WorldConfig
from sae_assay.worlds import build, sample
from sae_assay.worlds.sampler import Sampler

WORLD = WorldConfig(num_features=16_384, hidden_dim=768, hierarchy=Hierarchy(roots=128), seed=42)
D_SAE, L0 = 4096, 25
# The panel's lowest: the reference multiplies with the whole decoder for every active latent, in every encoding.
PURSUIT_L0 = 15
ARCHITECTURES = ("batchtopk", "matryoshka", "standard", "jumprelu", "matching_pursuit")
STEPS = {"matching_pursuit": 80}  # its encoder takes a step per active latent
OTHER_STEPS = 250
BATCH, LR, TRAINING_ROWS = 128, 3e-3, 16_384
PURPOSE = ("benchmark", "synth16k")


def orthogonalize(embeddings: Tensor, steps: int, lr: float) -> Tensor:
    """`sae_lens.synthetic.feature_dictionary.orthogonalize_embeddings` with its gradient in closed form.

    Args:
        embeddings: [n, d] rows; loss = sum over pairs of (e_i.e_j)^2 + n * sum over rows of (e_i.e_i - 1)^2.
        steps, lr: of Adam.
    """
    rows = torch.nn.Parameter(embeddings / embeddings.norm(dim=1, keepdim=True).clamp(min=1e-8))
    optimizer = torch.optim.Adam([rows], lr=lr)
    for _ in range(steps):
        with torch.no_grad():
            squared = rows.square().sum(1, keepdim=True)
            pairs = rows @ (rows.T @ rows) - squared * rows
            rows.grad = 4 * pairs + 4 * len(rows) * (squared - 1) * rows
        optimizer.step()
    return (rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8)).detach()


def check_orthogonalize() -> None:
    """Hold `orthogonalize` to the library's function on a small dictionary."""
    from sae_lens.synthetic.feature_dictionary import orthogonalize_embeddings

    rows = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    gap = (orthogonalize(rows, 100, 3e-4) - orthogonalize_embeddings(rows, 100, 3e-4, chunk_size=64)).abs().max()
    if gap > 1e-5:
        raise SystemExit(f"the dictionary would differ from the library's by {gap:.1e}: mend `orthogonalize`")


def prepare(cache: Path) -> None:
    """Build what the cache lacks: `world/` (both projects' forms) and `saes/ARCH/` in SAELens's."""
    numerics.begin({})
    if not (cache / "world" / "done").exists():
        _say("building the world")
        check_orthogonalize()
        _build_world(cache / "world")
    missing = [arch for arch in ARCHITECTURES if not (cache / "saes" / arch / "cfg.json").exists()]
    if not missing:
        return
    _say("drawing training rows")
    rows = torch.from_numpy(sample.draw_hidden(sampler(cache), TRAINING_ROWS, *PURPOSE, "training"))
    for arch in missing:
        _say(f"training {arch}")
        _train(arch, rows, cache / "saes" / arch)


def sampler(cache: Path) -> Sampler:
    """The cached world's sampler."""
    nodes = build.read_json(cache / "world" / "world.json")["hierarchy"]
    return Sampler(build.read_arrays(cache / "world" / "world.safetensors"), nodes)


def _build_world(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = build.build(WORLD.model_copy(update={"orthogonalization": None}), "benchmark")
    steps = WORLD.orthogonalization
    assert steps is not None
    model.feature_dict.feature_vectors.data = orthogonalize(
        model.feature_dict.feature_vectors.detach(), steps.steps, steps.lr
    )
    model.cfg = build.library_config(WORLD)
    model.save(folder / "library")
    build.save_world(model, WORLD, folder / "world.safetensors", folder / "world.json")
    (folder / "done").touch()


def _train(arch: str, rows: Tensor, folder: Path) -> None:
    from sae_assay.saes import train

    folder.mkdir(parents=True, exist_ok=True)
    steps = STEPS.get(arch, OTHER_STEPS)
    run = RunSettings(
        id=f"{arch}_benchmark",
        arch=arch,
        target_l0=PURSUIT_L0 if arch == "matching_pursuit" else L0,
        training_seed=0,
        purpose=PURPOSE,
        d_sae=D_SAE,
        samples=steps * BATCH,
        batch_size=BATCH,
        lr=LR,
        dead_feature_window=50,
    )
    trained = train.train_run(rows, run)[steps]
    paths = (folder / "cfg.json", folder / "sae_weights.safetensors")
    stored = train.save(trained, run, False, rows[:2048], *paths, dtype="float32")
    _say(json.dumps({k: stored.card[k] for k in ("arch", "l0", "explained_variance", "dead_latents")}))


def _say(text: str) -> None:
    print(f"[{time.process_time():6.0f} CPU s] {text}", file=sys.stderr)


if __name__ == "__main__":
    prepare(Path(sys.argv[2]))
    print("{}")
