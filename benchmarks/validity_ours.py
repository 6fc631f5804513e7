"""Our side of `benchmarks/validity.py`: the pipeline's own steps on the reference's rows, tasks, splits and draws.

    python benchmarks/validity_ours.py prepare CACHE
    python benchmarks/validity_ours.py score CACHE ARCH

`prepare` does what is done once per evaluation seed: the sample for ground truth, rows and probes of all tasks. `score`
does what is done per SAE. Both go through the functions of the workflow; what those draw from named streams is
replaced by the reference's draws, replayed from the states that it noted. An evaluation set stores features alone;
instead of making rows of them, a file of the reference's rows, whose bits are others, is mapped.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import validity_inputs
from harness import Clock
from scipy.sparse import csr_array

from sae_assay import numerics
from sae_assay.evaluation import EvaluationSet
from sae_assay.metrics import ground_truth, logistic, probing, world
from sae_assay.metrics.latents import SparseLatents
from sae_assay.metrics.records import Record
from sae_assay.saes import encoder, factored, formats, pursuit
from sae_assay.steps import evaluation_set
from sae_assay.study.worlds import Tasks
from sae_assay.worlds import build, sample, splits
from sae_assay.worlds import tasks as choose_tasks
from sae_assay.worlds.pool import Pool

KS, NS = [1, 2, 4, 8, 16, 32, 64], [1, 2, 5, 10, 20, 50, 100, 500]
METRICS: dict[str, Any] = {
    "ground_truth": {},
    "sparse_probing": {"k_probe": KS, "selection": "normalised"},
    "sae_probes": {"k_probe": KS},
    "tpp": {"n": NS, "modes": ["saebench"]},
    "scr": {"n": NS, "modes": ["saebench"]},
}
LIMITS = Tasks().model_dump()
GROUND_TRUTH_ROWS, GROUND_TRUTH_BATCH, POOL_ROWS = 100_000, 4096, 60_000  # the reference's
PURPOSE = ("benchmark", "synth16k", 1234)


def pool_of(cache: Path) -> Pool:
    """The reference's pool, kept sparse."""
    path = cache / "pool.safetensors"
    if not path.exists():
        hidden = torch.load(cache / "data" / "hidden.pt", mmap=True)
        features = torch.load(cache / "data" / "features.pt", mmap=True)
        parts = zip(hidden.split(4096), features.split(4096), strict=True)
        Pool.concatenate([Pool.from_dense(h.numpy(), f.numpy()) for h, f in parts]).save(path)
    return Pool.load(path)


def definitions(cache: Path, pool: Pool) -> dict[str, list[dict[str, Any]]]:
    """The reference's tasks as tasks.json holds them. It drops TPP classes of under 25 rows; so they are left out here."""
    read = {name: json.loads((cache / "data" / f"{name}_tasks.json").read_text()) for name in ("sp", "tpp", "scr")}
    tpp = []
    for task in read["tpp"]:
        classes = [f for f in task["sibling_feats"] if len(pool.rows_of(f)) >= splits.FEWEST_TPP]
        status = "ok" if len(classes) > 1 else "too_few_rows"
        tpp.append({"id": task["name"], "kind": task["category"], "classes": classes, "status": status})
    return {
        "sparse_probing": [
            {"id": str(t["id"]), "op": t["op"], "features": t["feats"], "kind": t["type"]} for t in read["sp"]
        ],
        "tpp": tpp,
        "scr": [
            {
                "id": t["name"],
                "kind": f"{t['t_cat']}-{t['s_cat']}",
                "target": {"op": t["t_op"], "features": t["t_feats"]},
                "spurious": {"op": t["s_op"], "features": t["s_feats"]},
            }
            for t in read["scr"]
        ],
    }


class Replay:
    """Streams by the names that the pipeline asks for: one generator per task, at the reference's state, and its splits."""

    def __init__(self, notes: Any, tasks: dict[str, list[dict[str, Any]]]) -> None:
        self.notes, self.generators = notes, {}
        for family in ("tpp", "scr"):
            for i, task in enumerate(tasks[family]):
                generator = torch.Generator()
                generator.set_state(torch.from_numpy(notes[f"{family}.{i:03d}"]))
                self.generators[family, task["id"]] = generator

    def torch_generator(self, *purpose: str | int) -> torch.Generator:
        found = [self.generators[key] for key in pairwise(purpose) if key in self.generators]
        return found[0] if found else torch.Generator()

    def split(self, labels: np.ndarray, _train: int, _test: int, task: str) -> splits.ProbingRows:
        sides = []
        for side in ("train", "test"):
            rows = self.notes[f"{side}.{int(task):03d}"]
            if not len(rows):
                raise splits.TooFewRows("the reference's split has too few rows")
            stored = np.concatenate([rows[labels[rows]], rows[~labels[rows]]])
            place = np.empty(len(labels), np.int64)
            place[stored] = np.arange(len(stored))
            sides.append((stored, int(labels[rows].sum()), place[rows]))
        (train, p, order), (test, q, test_order) = sides
        return splits.ProbingRows(train, test, p, q, order, test_order)


def prepare(cache: Path) -> dict[str, float]:
    """CACHE/ours/evaluation.safetensors and rows.npy, the generators after the probes' draws, and seconds per stage.

    Our own sampling is timed (`sampling`, and `data_generation` for a pool and its tasks) and thrown away: scores are
    compared on the reference's rows.
    """
    clock, folder = Clock(), cache / "ours"
    world_sampler = validity_inputs.sampler(cache)
    world_sampler.draw(1, np.random.default_rng(0))  # compiles its loop
    with clock("sampling"):
        sample.draw(world_sampler, GROUND_TRUTH_ROWS, *PURPOSE, "ground truth")
    with clock("data_generation"):
        drawn = sample.draw(world_sampler, POOL_ROWS, *PURPOSE, "pool")
        nodes = build.read_json(cache / "world" / "world.json")["hierarchy"]
        choose_tasks.choose(drawn, nodes, validity_inputs.D_SAE, Tasks(), *PURPOSE)
    pool, truth = pool_of(cache), ground_truth_rows(cache)
    tasks = definitions(cache, pool)
    replay = Replay(np.load(next((cache / "peer").glob("*.npz"))), tasks)
    with (
        patch.object(evaluation_set, "torch_generator", replay.torch_generator),
        patch.object(evaluation_set, "numpy_generator", lambda *purpose: purpose[-1]),
        patch.object(evaluation_set.splits, "probing", replay.split),
        patch.object(evaluation_set, "SAMPLE_ROWS", 0),
        patch.object(evaluation_set.probes, "train", clock.wrapped("probes", evaluation_set.probes.train)),
        clock("rows"),
    ):
        built = evaluation_set.build(pool, tasks, LIMITS, METRICS, PURPOSE)
    clock.seconds["rows"] -= clock.seconds["probes"]
    with clock("files"):
        rows = np.arange(len(truth)) + len(built.pool)
        both = Pool.concatenate([built.pool.without_rows(), truth.without_rows()])
        replace(built, pool=both, sample=rows.astype(np.int32)).save(folder / "evaluation.safetensors")
        with (folder / "rows.npy").open("wb") as file:
            shape = (len(both), truth.hidden.shape[1])
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for part in (built.pool, truth):
                part.hidden.tofile(file)
        states = {f"{f}.{i}": g.get_state().numpy() for (f, i), g in replay.generators.items()}
        np.savez(folder / "states.npz", **states)
    return {**clock.seconds, "peak_mib": _peak()}


def ground_truth_rows(cache: Path) -> Pool:
    """The rows that the reference draws for ground truth, at every SAE and seed the same: its seed, batches and sampler."""
    path = cache / "ours" / "ground_truth.safetensors"
    if path.exists():
        return Pool.load(path)
    from sae_lens.synthetic import SyntheticModel

    model = SyntheticModel.load_from_disk(cache / "world" / "library")
    parts = []
    torch.manual_seed(0)
    with torch.no_grad():
        for start in range(0, GROUND_TRUTH_ROWS, GROUND_TRUTH_BATCH):
            acts = model.activation_generator.sample(min(GROUND_TRUTH_BATCH, GROUND_TRUTH_ROWS - start))
            parts.append(Pool.from_dense(model.feature_dict(acts).numpy(), acts.numpy()))
    pool = Pool.concatenate(parts)
    pool.save(path)
    return pool


def score(cache: Path, arch: str) -> dict[str, Any]:
    """CACHE/ours/ARCH.json (records) and seconds per stage."""
    clock = Clock()
    with clock("files"):
        arrays = build.read_arrays(cache / "world" / "world.safetensors")
        rows = np.load(cache / "ours" / "rows.npy", mmap_mode="c")  # torch wants arrays that can be written
        with patch.object(Pool, "in_world", lambda pool, _world, _where: replace(pool, hidden=np.asarray(rows))):
            evaluation = EvaluationSet.load(cache / "ours" / "evaluation.safetensors", arrays)
        features = torch.from_numpy(arrays["feature_vectors"])
        sae = encoder.load(cache / "saes" / arch)
    replay = Replay.__new__(Replay)
    replay.generators = _generators(cache / "ours" / "states.npz")
    with patch.object(world, "torch_generator", replay.torch_generator), clock("draws"):
        draws = world.draw(evaluation, METRICS)
    for task in evaluation.tasks:  # the reference does not draw negatives anew
        if task.id in draws.probing:
            p, q = (torch.arange(task.counts[f"{s}_positives"]) for s in ("train", "test"))
            draws.probing[task.id].train[:] = [p + len(p)] * len(KS)
            draws.probing[task.id].test[:] = [q + len(q)] * len(KS)
    with torch.no_grad():
        with clock("matching"):
            matched = ground_truth.match(sae.W_dec, features)
        with clock("encode"):
            latents = world.sae_latents(evaluation, sae, arrays)
        subject = world.Subject(sae, latents, evaluation, draws, matched, "synth16k", arch, 1234)
        records = []
        for metric, section in METRICS.items():
            with clock(metric):
                records += world.score(subject, {metric: section})
        matched_records = with_their_choices(subject, np.load(cache / "peer" / f"{arch}.npz"))
    (cache / "ours" / f"{arch}.json").write_text(json.dumps(records))
    (cache / "ours" / f"{arch}.their_choices.json").write_text(json.dumps(matched_records))
    return {**clock.seconds, "rows": len(evaluation.pool), "sample": len(evaluation.sample), "peak_mib": _peak()}


def with_their_choices(subject: world.Subject, notes: Any) -> list[Record]:
    """Both probing procedures with the latents and, in sae-probes, the C that the reference chose.

    It ranks in float32, where many latents tie that fire in one training row, so that rounding decides among them; and
    scikit-learn's fits stop early, so that near ties among C fall either way.
    """
    tasks = [task for task in subject.evaluation.tasks if task.family == "probing" and task.status == "ok"]
    inputs = [world._probing_input(subject, task) for task in tasks]
    problems = []
    for task, ranking in zip(inputs, torch.from_numpy(notes["ranking"]), strict=True):
        problems.append(probing._chosen(probing._fixed(task), lambda _, found=ranking: found, max(KS)))
    records = []
    for j, k in enumerate(KS):
        for group in probing._of_similar_size(list(range(len(tasks))), problems):
            chosen, C = [problems[t] for t in group], torch.from_numpy(notes["C"][group, j])
            batch = probing._Batch(chosen, k)
            data = (batch.x, batch.y, batch.counts)
            fitted = logistic.fit(*data, torch.ones(len(group)))
            found = {"sparse_probing": {"accuracy": batch.test_accuracy(fitted)}}
            found["sae_probes"] = batch.test_scores(logistic.fit(*data, C, fitted))
            for metric, scores in found.items():
                records += probing._records([inputs[t] for t in group], chosen, scores, metric, k)
    return records


def _generators(path: Path) -> dict[tuple[str, str], torch.Generator]:
    found = {}
    for name, state in np.load(path).items():
        generator = torch.Generator()
        generator.set_state(torch.from_numpy(state))
        found[tuple(name.split(".", 1))] = generator
    return found  # type: ignore[return-value]


def _compile() -> None:
    """Compiles the loops, or reads what is compiled: once a checkout and a process, as imports are."""
    rows, labels = torch.eye(2)[None], torch.tensor([[0.0, 1.0]])
    logistic.fit(rows, labels, torch.ones(1, 2, dtype=torch.bool), torch.ones(1))
    features = Pool.of_features(csr_array(np.eye(2, dtype=np.float32)))
    features.in_world({"feature_vectors": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}, "here")
    counts = ground_truth._Counts(torch.zeros(1, dtype=torch.long), 2)
    counts.add(SparseLatents.of(torch.ones(1, 1)), csr_array(np.ones((1, 2), np.float32)))
    factored._sparse([(np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.float32))], 1, 1)
    config = {"architecture": "matching_pursuit"}
    arrays: dict[str, Any] = {"W_dec": np.eye(2, dtype=np.float32), "b_dec": np.zeros(2, np.float32)}
    sae = encoder.from_file(formats.SaeFile(config, arrays, {}), "here")
    pursuit.Pursuit(sae).pursue(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    what, cache, *arch = sys.argv[1:]
    if what == "prepare":
        ground_truth_rows(Path(cache))  # in torch's own arithmetic, the reference's
    numerics.begin({})
    _compile()
    folder = Path(cache)
    print(json.dumps(prepare(folder) if what == "prepare" else score(folder, *arch)))


if __name__ == "__main__":
    main()
