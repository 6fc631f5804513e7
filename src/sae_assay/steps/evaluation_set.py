"""Draws every task's rows from the pool of one evaluation seed and trains the probes on raw activations."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_assay import modes, numerics
from sae_assay.anatomy import Streams
from sae_assay.errors import AssayError
from sae_assay.evaluation import EvaluationSet, Task, subset
from sae_assay.metrics import probes
from sae_assay.seeds import numpy_generator, torch_generator
from sae_assay.worlds import splits
from sae_assay.worlds.build import read_arrays
from sae_assay.worlds.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sae_assay.modes import Mode

SAMPLE_ROWS = 10_000
"""Rows of the unbiased sample that ground truth is measured on."""


@dataclass(frozen=True)
class _Draft:
    """A task whose arrays still hold rows of the whole pool; `classes` are those its probes are trained on."""

    task: Task
    classes: list[splits.ClassRows]


def run(inputs: Any, outputs: Any, settings: dict[str, Any]) -> None:
    """Write the evaluation set of one world and evaluation seed.

    Args:
        inputs: `tasks` (tasks.json), `pool`, `world` (world.safetensors).
        outputs: `evaluation` (safetensors).
        settings: `study`, `substrate`, `evaluation_seed`, `tasks` (limits), `metrics` (the sections to prepare for).
    """
    numerics.begin(settings)
    pool = Pool.load(inputs.pool, read_arrays(inputs.world))
    if not np.isfinite(pool.hidden).all():
        raise AssayError(str(inputs.pool), "holds activations that are not finite", "rebuild the pool")
    definitions = read_tasks(inputs.tasks)
    purpose = (settings["study"], settings["substrate"], settings["evaluation_seed"])
    built = build(pool, definitions, settings["tasks"], settings["metrics"], purpose)
    replace(built, pool=built.pool.without_rows()).save(outputs.evaluation)


def read_tasks(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """tasks.json: by family, a list of tasks; AssayError where it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AssayError(str(path), f"no readable tasks ({error})", "delete it and run the workflow again") from None


def build(
    pool: Pool,
    definitions: dict[str, list[dict[str, Any]]],
    limits: dict[str, Any],
    metrics: dict[str, Any],
    purpose: tuple[str | int, ...] | Streams,
) -> EvaluationSet:
    """The evaluation set of a pool.

    Args:
        definitions: tasks.json: `sparse_probing`, `tpp`, `scr`, each a list of tasks.
        limits: row limits, sections `sparse_probing`, `tpp`, `scr`.
        metrics: sections of the study's metrics; a family that none of them needs is left out.
        purpose: names the streams of all draws, or those of each source.
    """
    streams = purpose if isinstance(purpose, Streams) else Streams.of(purpose)
    drafts: list[_Draft] = []
    if "sparse_probing" in metrics or "sae_probes" in metrics:
        drafts += [_probing(pool, d, limits["sparse_probing"], streams) for d in definitions.get("sparse_probing", [])]
    for family, draw in (("tpp", _tpp), ("scr", _scr)):
        for mode in modes.sharing_rows(metrics[family]) if family in metrics else ():
            drafts += [draw(pool, d, limits[family], mode, streams) for d in definitions.get(family, [])]
    sample = np.arange(min(SAMPLE_ROWS, len(pool)))
    used = np.unique(np.concatenate([sample, *(rows.ravel() for d in drafts for rows in _rows(d))]))
    drafts = [_moved(draft, used) for draft in drafts]
    kept = subset(pool, used)
    tasks = _with_probes(drafts, torch.from_numpy(kept.hidden), streams.probe)
    return EvaluationSet(kept, np.searchsorted(used, sample).astype(np.int32), tasks, streams.negatives)


def _rows(draft: _Draft) -> list[np.ndarray]:
    stored = [draft.task.arrays[name] for name in ("train", "test") if name in draft.task.arrays]
    return stored + [part for c in draft.classes for part in (c.train, c.select, c.effects, c.test)]


def _moved(draft: _Draft, used: np.ndarray) -> _Draft:
    """The draft with rows of the pool turned into positions among the used ones."""

    def at(rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(used, rows).astype(np.int32)

    arrays = {name: at(a) if name in ("train", "test") else a for name, a in draft.task.arrays.items()}
    classes = [splits.ClassRows(*map(at, (c.train, c.select, c.effects, c.test))) for c in draft.classes]
    return _Draft(replace(draft.task, arrays=arrays), classes)


def _drafted(task: Task, definition: dict[str, Any], draw: Callable[[], _Draft]) -> _Draft:
    """The drawn task, or one with the status that says why there is none."""
    if definition.get("status", "ok") != "ok":
        return _Draft(replace(task, status=definition["status"], reason=definition.get("reason")), [])
    try:
        return draw()
    except splits.TooFewRows as error:
        reason = f"{error}; raise samples.pool_rows, or choose concepts that fire more often"
        return _Draft(replace(task, status="too_few_rows", reason=reason), [])


def _probing(pool: Pool, definition: dict[str, Any], limits: dict[str, Any], streams: Streams) -> _Draft:
    task = Task("probing", definition["id"], definition.get("kind"), None)

    def draw() -> _Draft:
        labels = pool.labels(definition["op"], definition["features"])
        generator = numpy_generator(*streams.split, "split", "sparse_probing", task.id)
        rows = splits.probing(labels, limits["max_train_positives"], limits["max_test"], generator)
        if streams.resample:
            rows = splits.resampled_probing(rows, numpy_generator(*streams.resample, "sparse_probing", task.id))
        arrays = {name: getattr(rows, name) for name in ("train", "test")}
        arrays |= {name: getattr(rows, name).astype(np.int32) for name in ("train_order", "test_order")}
        counts = {"train_positives": rows.train_positives, "test_positives": rows.test_positives}
        return _Draft(replace(task, arrays=arrays, counts=counts), [])

    return _drafted(task, definition, draw)


def _tpp(pool: Pool, definition: dict[str, Any], limits: dict[str, Any], mode: Mode, streams: Streams) -> _Draft:
    task = Task("tpp", definition["id"], definition.get("kind"), mode)

    def draw() -> _Draft:
        labels = np.stack([pool.labels("single", [feature]) for feature in definition["classes"]])
        (rows,) = _perhaps_resampled(
            [splits.tpp(labels, limits["max_rows_per_class"], modes.REPAIRS[mode])], task, streams
        )
        return _Draft(replace(task, arrays={"train": rows.effects, "test": rows.test}), [rows])

    return _drafted(task, definition, draw)


def _scr(pool: Pool, definition: dict[str, Any], limits: dict[str, Any], mode: Mode, streams: Streams) -> _Draft:
    task = Task("scr", definition["id"], definition.get("kind"), mode)

    def draw() -> _Draft:
        concepts = (definition[side] for side in ("target", "spurious"))
        target, spurious = (pool.labels(c["op"], c["features"]) for c in concepts)
        drawn = splits.scr(target, spurious, limits["max_rows_per_class"], modes.REPAIRS[mode])
        classes = _perhaps_resampled(drawn, task, streams)
        arrays = {"train": np.stack([c.effects for c in classes[:2]]), "test": np.stack([c.test for c in classes[:2]])}
        return _Draft(replace(task, arrays=arrays), classes)

    return _drafted(task, definition, draw)


def _perhaps_resampled(classes: Sequence[splits.ClassRows], task: Task, streams: Streams) -> list[splits.ClassRows]:
    if streams.resample is None:
        return list(classes)
    generator = numpy_generator(*streams.resample, task.family, task.id, task.mode or "")
    return [splits.resampled(rows, generator) for rows in classes]


def _with_probes(drafts: list[_Draft], hidden: torch.Tensor, purpose: tuple[str | int, ...]) -> list[Task]:
    """The drafts' tasks with their probes, all trained in one go."""
    plans = [_plans(draft, hidden.shape[1], purpose) for draft in drafts]
    trained = probes.train(hidden, [plan for of_task in plans for plan in of_task])
    tasks, start = [], 0
    for draft, of_task in zip(drafts, plans, strict=True):
        end = start + len(of_task)
        arrays = dict(draft.task.arrays)
        if of_task:
            arrays |= {"weight": trained.weight[start:end].numpy(), "bias": trained.bias[start:end].numpy()}
        tasks.append(replace(draft.task, arrays=arrays))
        start = end
    return tasks


# SAEBench trains six SCR probes in this order of classes (the audit's synthetic code); three of them feed nothing.
_SCR_ORDER = ((1, 0), (1, 1), (0, 0), (0, 1), (2, 0), (2, 1))


def _plans(draft: _Draft, d: int, purpose: tuple[str | int, ...]) -> list[probes.ProbePlan]:
    task = draft.task
    if not draft.classes:
        return []
    generator = torch_generator(*purpose, "probe", task.family, task.id, task.mode or "")
    if task.family == "tpp":
        train, select = (_tensors(rows) for rows in (draft.classes[0].train, draft.classes[0].select))
        return [probes.plan(train, select, c, d, generator) for c in range(len(train))]
    kept = {}
    for data, label in _SCR_ORDER:
        train, select = (_tensors(rows) for rows in (draft.classes[data].train, draft.classes[data].select))
        drawn = probes.plan(train, select, label, d, generator, paired=True)
        if label == 0:
            kept[data] = drawn
    return [kept[data] for data in range(3)]


def _tensors(rows: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(row.astype(np.int64)) for row in rows]
