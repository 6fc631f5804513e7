"""The jobs that `benchmarks/scale.py` measures: the workflow's own functions at given sizes, each job in a process of its own.

Worlds are the library's, with its hierarchy, rates and correlations, but their directions are not made orthogonal. SAEs are
stand-ins: decoder rows are noisy copies of features (cosine about .7), encoders their transpose, one threshold for all
latents so that about `L0` are active in a row. They are work to be scored, and no score of theirs is kept.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from harness import Clock

from sae_assay import numerics, seeds
from sae_assay.evaluation import EvaluationSet
from sae_assay.metrics import ground_truth, world
from sae_assay.saes.encoder import LightSAE
from sae_assay.steps import evaluation_set
from sae_assay.study.worlds import ScrTasks, Tasks, WorldConfig
from sae_assay.worlds import build, sample, tasks
from sae_assay.worlds.pool import Pool
from sae_assay.worlds.sampler import Sampler

L0 = 25
TASK_ROWS = 60_000
FEATURES_PER_ROOT = 128  # SynthSAEBench-16k's
IN_SHARE = 4  # tasks tell the first quarter of features from the rest, as in SynthSAEBench-16k
FAMILIES = {"sparse_probing": 24, "tpp": 8, "scr": 6}
"""Tasks of each family in 38: about the proportions of a full study."""
METRICS: dict[str, Any] = {
    "ground_truth": {},
    "sparse_probing": {"k_probe": [1, 2, 5, 10, 16, 32, 64]},
    "sae_probes": {"k_probe": [1, 2, 5, 10, 16, 32, 64]},
    "tpp": {"n": [1, 2, 5, 10, 20, 50, 100], "modes": ["saebench", "strict"]},
    "scr": {"n": [1, 2, 5, 10, 20, 50, 100], "modes": ["saebench", "strict"]},
}
# Small worlds and pools fill fewer cells than the study's.
RECIPES = Tasks(scr=ScrTasks(per_combination=9, max_tasks=81, min_cell=60, min_cell_out_out=30))
LIMITS = RECIPES.model_dump()
PURPOSE = ("benchmark", "scale")


@dataclass(frozen=True)
class Sizes:
    """One point: features of the world, latents of the SAE, width of a row, pool rows, tasks, evaluation seeds."""

    features: int = 4096
    latents: int = 1024
    d_in: int = 256
    rows: int = 40_000
    tasks: int = 38
    seeds: int = 1

    def world(self, folder: Path) -> tuple[Path, Path]:
        name = f"world_{self.features}_{self.d_in}"
        return folder / f"{name}.safetensors", folder / f"{name}.json"

    def file(self, folder: Path, name: str) -> Path:
        """A file of this point, the same for every SAE."""
        return folder / f"{name}_{self.features}_{self.d_in}_{self.rows}_{self.tasks}_{self.seeds}"


def alone(job: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """A job's result from a process forked for it, with `peak_mib`, its peak memory beyond the imports'."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_inside, args=(theirs, job, args))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        raise SystemExit(f"{job.__name__} of {args} ended without a result; its error stands above") from None
    process.join()
    return found


def _inside(pipe: Any, job: Callable[..., dict[str, Any]], args: tuple[Any, ...]) -> None:
    numerics.begin({})
    before = _peak_mib()
    found = job(*args)
    pipe.send({**found, "peak_mib": _peak_mib() - before})


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# Before an evaluation seed ------------------------------------------------------------------------------------------
def build_worlds(points: list[Sizes], folder: Path) -> dict[str, Any]:
    """Write every world that the points need; seconds without orthogonalisation by (features, d_in)."""
    import sae_lens.synthetic  # noqa: F401  (its import is not the world's cost)

    clock = Clock()
    for point in {(p.features, p.d_in): p for p in points}.values():
        roots = max(1, point.features // FEATURES_PER_ROOT)
        config = {"num_features": point.features, "hidden_dim": point.d_in, "hierarchy": {"roots": roots}}
        settings = WorldConfig.model_validate(config | {"orthogonalization": None})
        with clock(f"{point.features} {point.d_in}"):
            model = build.build(settings, "benchmark")
        build.save_world(model, settings, *point.world(folder))
    return {"seconds": clock.seconds}


def orthogonalise(features: list[int], d_in: int, steps: int) -> dict[str, Any]:
    """Seconds of one step of the library's orthogonalisation of random directions, by their number."""
    from sae_lens.synthetic.feature_dictionary import orthogonalize_embeddings

    clock = Clock()
    for n in features:
        rows = torch.randn(n, d_in, generator=torch.Generator().manual_seed(0))
        with clock(str(n)):
            orthogonalize_embeddings(rows, steps, 3e-4)
    return {"seconds": {n: seconds / steps for n, seconds in clock.seconds.items()}}


# An evaluation seed -------------------------------------------------------------------------------------------------
def draw(point: Sizes, folder: Path) -> dict[str, Any]:
    """A pool per seed, features alone, as `steps/samples.py` writes it; and the tasks."""
    clock, arrays_path, card = Clock(), *point.world(folder)
    with clock("world read"):
        nodes = build.read_json(card)["hierarchy"]
        sampler = Sampler(build.read_arrays(arrays_path), nodes)
    for seed in range(point.seeds):
        with clock("sampling"):
            pool = Pool.of_features(sample.draw_features(sampler, point.rows, *PURPOSE, "pool", seed))
            pool.save(point.file(folder, f"pool_{seed}"))
    wanted = Pool.of_features(sample.draw_features(sampler, TASK_ROWS, *PURPOSE, "tasks"))
    with clock("choosing tasks"):
        found = tasks.choose(wanted, nodes, point.features // IN_SHARE, RECIPES, *PURPOSE)
    chosen = {family: _some(found[family], count * point.tasks // 38) for family, count in FAMILIES.items()}
    (point.file(folder, "tasks")).write_text(json.dumps(chosen))
    counts = {"active_features": len(pool.indices) / len(pool)}
    return {"seconds": clock.seconds, "bytes": {"pool": _size(point.file(folder, "pool_0"))}, "counts": counts}


def _some(found: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` tasks, or all that could be built, spread over the kinds."""
    usable = [task for task in found if task["status"] == "ok"]
    places = np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int)
    return [usable[i] for i in places]


def prepare(point: Sizes, folder: Path) -> dict[str, Any]:
    """The evaluation set of every seed, as `steps/evaluation_set.py` builds it."""
    clock, arrays = Clock(), build.read_arrays(point.world(folder)[0])
    definitions = json.loads((point.file(folder, "tasks")).read_text())
    timed = patch.object(evaluation_set.probes, "train", clock.wrapped("probes", evaluation_set.probes.train))
    for seed in range(point.seeds):
        with clock("rows of the pool"):
            pool = Pool.load(point.file(folder, f"pool_{seed}"), arrays)
        with clock("labels and splits"), timed:
            built = evaluation_set.build(pool, definitions, LIMITS, METRICS, (*PURPOSE, seed))
        replace(built, pool=built.pool.without_rows()).save(point.file(folder, f"evaluation_{seed}"))
    clock.seconds["labels and splits"] -= clock.seconds["probes"]
    usable = {(task.family, task.id) for task in built.tasks if task.status == "ok"}
    counts = {family: sum(key[0] == family for key in usable) for family in ("probing", "tpp", "scr")}
    counts["rows_kept"] = len(built.pool)
    return {
        "seconds": clock.seconds,
        "bytes": {"evaluation set": _size(point.file(folder, "evaluation_0"))},
        "counts": counts,
    }


def score(point: Sizes, folder: Path) -> dict[str, Any]:
    """One SAE on every seed's evaluation set, as `steps/score.py` scores it, metric by metric."""
    clock, arrays = Clock(), build.read_arrays(point.world(folder)[0])
    features, sae = torch.from_numpy(arrays["feature_vectors"]), None
    for seed in range(point.seeds):
        with clock("evaluation set read"):
            evaluation = EvaluationSet.load(point.file(folder, f"evaluation_{seed}"), arrays)
        if sae is None:
            sae = stand_in(arrays["feature_vectors"], evaluation.pool.hidden[:512], point.latents)
            with clock("matching"):
                matched = ground_truth.match(sae.W_dec, features)
        with clock("draws"):
            draws = world.draw(evaluation, METRICS)
        with clock("encode"), torch.no_grad():
            latents = world.sae_latents(evaluation, sae, arrays)
        subject = world.Subject(sae, latents, evaluation, draws, matched, "benchmark", "stand_in", seed)
        for metric, section in METRICS.items():
            with clock(metric):
                world.score(subject, {metric: section})
    active = latents.take(torch.arange(len(evaluation.pool)))
    return {"seconds": clock.seconds, "counts": {"l0": len(active.values) / len(active)}}


def stand_in(directions: np.ndarray, rows: np.ndarray, latents: int) -> LightSAE:
    """A JumpReLU SAE [latents, d_in] for rows of a world; see the head of this file."""
    generator = seeds.numpy_generator(*PURPOSE, "sae", latents)
    noise = generator.standard_normal((latents, directions.shape[1]), np.float32) / np.sqrt(directions.shape[1])
    decoder = directions[np.arange(latents) % len(directions)] + noise.astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    centre = rows.mean(0)
    before = ((rows - centre) @ decoder.T).ravel()
    active = L0 * len(rows)
    threshold = np.partition(before, len(before) - active)[len(before) - active]
    level = torch.full((latents,), float(threshold))
    W_dec = torch.from_numpy(decoder)
    config = {"architecture": "jumprelu", "apply_b_dec_to_input": True}
    return LightSAE(
        "jumprelu", W_dec.T.contiguous(), torch.zeros(latents), W_dec, torch.from_numpy(centre), level, config, {}
    )


def match_random(latents: int, d_in: int) -> dict[str, Any]:
    """Matching of as many latents as features, directions that have nothing in common (as the control `random_init`)."""
    clock, generator = Clock(), torch.Generator().manual_seed(0)
    sides = [torch.randn(latents, d_in, generator=generator) for _ in range(2)]
    with clock("matching"):
        ground_truth.match(*sides)
    return {"seconds": clock.seconds}


def _size(path: Path) -> int:
    return path.stat().st_size


def say(text: str) -> None:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in spent)
    print(f"[{seconds:5.0f} CPU s] {text}", file=sys.stderr, flush=True)
