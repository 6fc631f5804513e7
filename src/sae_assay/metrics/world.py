"""All cheap metrics of one SAE on one world's evaluation set, from one encode pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from scipy.sparse import csr_array

from sae_assay import modes
from sae_assay.metrics import ground_truth, positive_controls, probing, scr, tpp
from sae_assay.metrics.latents import SparseLatents
from sae_assay.metrics.probes import Probes
from sae_assay.metrics.records import Record
from sae_assay.saes import factored
from sae_assay.saes.encoder import OnDevice
from sae_assay.seeds import torch_generator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from sae_assay.evaluation import EvaluationSet, Task

SAMPLE_CHUNK = 512
"""Rows of the unbiased sample that ground truth looks at together: they stay in the processor's cache."""


class Sae(Protocol):
    """What scoring asks of an SAE: decoder rows of norm 1 (norms folded into the encoder) and its two maps."""

    @property
    def W_dec(self) -> Tensor: ...

    def encode(self, x: Tensor) -> Tensor: ...

    def decode(self, f: Any, x: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Draws:
    """Negatives of the mode `saebench` by task id: the same for every SAE scored on an evaluation set."""

    probing: dict[str, probing.ProbingDraws]
    tpp: dict[str, tpp.TppDraws]


def draw(evaluation: EvaluationSet, metrics: dict[str, Any]) -> Draws:
    """All draws of scoring, each task's from a stream of its own."""
    drawn = Draws({}, {})
    n_ks = len(metrics.get("sparse_probing", {}).get("k_probe", []))
    n_ns = len(metrics.get("tpp", {}).get("n", []))
    for task in evaluation.tasks:
        if task.status != "ok":
            continue
        name = (*evaluation.purpose, "negatives", task.family, task.id)
        if task.family == "probing" and n_ks:
            sides = [(task.counts[f"{s}_positives"], len(task.arrays[s])) for s in ("train", "test")]
            train, test = ((positives, rows - positives) for positives, rows in sides)
            drawn.probing[task.id] = probing.draw(train, test, n_ks, torch_generator(*name))
        if task.family == "tpp" and task.mode == modes.BASELINE:
            (classes, m), r = task.arrays["train"].shape, task.arrays["test"].shape[1]
            streams = (torch_generator(*name, part) for part in ("clean", "scoring"))
            drawn.tpp[task.id] = tpp.draw(classes, m, r, n_ns, *streams)
    return drawn


class Latents:
    """An SAE's latents on all of an evaluation set's rows."""

    def __init__(self, latents: SparseLatents) -> None:
        self._all = latents

    def take(self, rows: Tensor) -> SparseLatents:
        """The latents of positions [n]."""
        return self._all.take(rows)

    def at(self, rows: Tensor) -> Tensor:
        """Dense [*rows.shape, d_sae]"""
        return self._all.take(rows.flatten()).dense().view(*rows.shape, -1)

    def finite(self) -> bool:
        """False if a latent is not finite."""
        return bool(np.isfinite(self._all.values).all())


def oracle_latents(evaluation: EvaluationSet, d_sae: int) -> Latents:
    """The true activations of the first d_sae features."""
    pool = evaluation.pool

    def activations(rows: Tensor) -> Tensor:
        return torch.from_numpy(pool.activations(rows.numpy(), d_sae))

    return Latents(SparseLatents.encoded(activations, len(pool), d_sae))


def sae_latents(evaluation: EvaluationSet, sae: Sae, world: Mapping[str, NDArray[np.float32]] | None = None) -> Latents:
    """What the SAE's encoder makes of the evaluation set's rows, encoded once.

    Args:
        world: arrays of world.safetensors, which spare much of the work for a wide SAE (`saes.factored`).
    """
    pool, width = evaluation.pool, len(sae.W_dec)
    reader = None if world is None else factored.factored(sae, pool, world)
    if reader is not None:
        return Latents(reader.encode(pool))
    hidden = torch.from_numpy(pool.hidden)
    if isinstance(sae, OnDevice):
        moved, there = sae.moved, sae.moved.W_dec.device
        return Latents(
            SparseLatents.encoded(
                lambda rows: SparseLatents.of(moved.encode(hidden[rows].to(there))),
                len(hidden),
                width,
                sae.rows_together,
            )
        )
    return Latents(SparseLatents.encoded(lambda rows: sae.encode(hidden[rows]), len(hidden), width))


@dataclass(frozen=True)
class Subject:
    """One SAE on one evaluation set. `matched` compares its decoder with the world's features, the same at every seed."""

    sae: Sae
    latents: Latents
    evaluation: EvaluationSet
    draws: Draws
    matched: ground_truth.Match
    substrate: str
    sae_id: str
    evaluation_seed: int


@torch.no_grad()
def score(subject: Subject, metrics: dict[str, Any]) -> list[Record]:
    """Records of every metric in `metrics` (the study's sections)."""
    if not subject.latents.finite():
        raise ArithmeticError(f"{subject.sae_id} has latents that are not finite at seed {subject.evaluation_seed}")
    records = _truth(subject, metrics)
    tasks = subject.evaluation.tasks
    if "sparse_probing" in metrics or "sae_probes" in metrics:
        records += _probing(subject, [t for t in tasks if t.family == "probing"], metrics)
    for task in tasks:
        if task.family == "tpp" and "tpp" in metrics:
            records += _tpp(subject, task, metrics["tpp"])
        if task.family == "scr" and "scr" in metrics:
            records += _scr(subject, task, metrics["scr"])
    return records


def _truth(subject: Subject, metrics: dict[str, Any]) -> list[Record]:
    records = _ground_truth(subject) if "ground_truth" in metrics else []
    name = (subject.substrate, subject.sae_id, subject.evaluation_seed)
    if "known_validity" in metrics:
        tau = metrics["known_validity"]["tau"]
        records.append(positive_controls.known_validity(subject.matched.mcc, tau, *name))
    if "pure_noise" in metrics:
        records.append(positive_controls.pure_noise(metrics["pure_noise"]["tau"], *name))
    return records


def _ground_truth(subject: Subject) -> list[Record]:
    pool = subject.evaluation.pool
    activations = csr_array((pool.values, pool.indices, pool.indptr), shape=(len(pool), pool.num_features))
    found = ground_truth.GroundTruth(subject.matched, pool.num_features)
    for rows in torch.from_numpy(subject.evaluation.sample).long().split(SAMPLE_CHUNK):
        latents, hidden = subject.latents.take(rows), torch.from_numpy(pool.hidden)[rows]
        found.add(latents, subject.sae.decode(latents, hidden), hidden, activations[rows.numpy()])
    return found.records()


def _probing(subject: Subject, tasks: Sequence[Task], metrics: dict[str, Any]) -> list[Record]:
    inputs = [_probing_input(subject, task) for task in tasks if task.status == "ok"]
    records: list[Record] = []
    for metric in ("sparse_probing", "sae_probes"):
        if metric not in metrics:
            continue
        ks = metrics[metric]["k_probe"]
        for task in tasks:
            if task.status != "ok":
                records += probing.unavailable(task.id, task.kind, ks, metric, task.status, task.reason or "")
        if not inputs:
            continue
        if metric == "sparse_probing":
            draws = [subject.draws.probing[i.task] for i in inputs]
            records += probing.sparse_probing(inputs, draws, ks, metrics[metric].get("selection", "raw"))
        else:
            records += probing.sae_probes(inputs, ks)
    return records


def _probing_input(subject: Subject, task: Task) -> probing.ProbingInput:
    return probing.ProbingInput(
        task.id,
        task.kind,
        subject.latents.take(_positions(task, "train")),
        subject.latents.take(_positions(task, "test")),
        task.counts["train_positives"],
        task.counts["test_positives"],
        _positions(task, "train_order"),
        _positions(task, "test_order"),
    )


def _positions(task: Task, name: str) -> Tensor:
    return torch.from_numpy(task.arrays[name]).long()


def _probes(task: Task) -> Probes:
    weight, bias = (torch.from_numpy(task.arrays[name]) for name in ("weight", "bias"))
    return Probes(weight, bias, torch.zeros(len(bias), dtype=torch.long), torch.zeros(len(bias)))


def _parts(subject: Subject, task: Task) -> dict[str, Any]:
    """What TPP and SCR ask of a task on an SAE."""
    test = _positions(task, "test")
    return {
        "task": task.id,
        "task_kind": task.kind,
        "train_latents": subject.latents.at(_positions(task, "train")),
        "test_latents": subject.latents.at(test),
        "test_hidden": torch.from_numpy(subject.evaluation.pool.hidden)[test],
        "W_dec": subject.sae.W_dec,
        "probes": _probes(task),
    }


def _scored(task: Task, section: dict[str, Any]) -> list[tuple[modes.Mode, list[int]]]:
    """Modes that score this task's rows and probes, with their n values; none where the section leaves them out."""
    ns = modes.scored(section)
    return [(mode, ns[mode]) for mode in modes.sharing_rows(section).get(task.mode, [])]  # type: ignore[call-overload]


def _tpp(subject: Subject, task: Task, section: dict[str, Any]) -> list[Record]:
    wanted = _scored(task, section)
    if not wanted or task.status != "ok":
        why = (task.status, task.reason or "")
        return [row for mode, ns in wanted for row in tpp.unavailable(task.id, task.kind, ns, mode, *why)]
    inputs, draws, records = tpp.TppInput(**_parts(subject, task)), subject.draws.tpp.get(task.id), []
    for mode, ns in wanted:
        at = [section["n"].index(n) for n in ns]
        records += tpp.tpp(inputs, ns, mode, draws and draws.at(at))
    return records


def _scr(subject: Subject, task: Task, section: dict[str, Any]) -> list[Record]:
    wanted = _scored(task, section)
    if not wanted or task.status != "ok":
        why = (task.status, task.reason or "")
        return [row for mode, ns in wanted for row in scr.unavailable(task.id, task.kind, ns, mode, *why)]
    inputs = scr.ScrInput(**_parts(subject, task))
    return [row for mode, ns in wanted for row in scr.scr(inputs, ns, mode)]
