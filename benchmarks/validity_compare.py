"""The largest differences between the reference's scores and ours, from the files that both sides left in the cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from validity_inputs import D_SAE

Cell = tuple[str, str, str, str, Any]  # metric, SAE, component, task, n or k_probe
Scores = dict[Cell, Any]
METRICS = ("ground_truth", "sparse_probing", "sae_probes", "tpp", "scr")
TRUTHS = ("mcc", "f1", "precision", "recall", "uniqueness", "explained_variance")
PROBING = {
    "sparse_probing": {"accuracy": "test_acc"},
    "sae_probes": {"auc": "test_auc", "f1": "test_f1", "accuracy": "test_acc"},
}
TPP = {"score": "total_metric", "intended": "intended_diff_only", "unintended": "unintended_diff_only"}


def differences(cache: Path, archs: list[str]) -> dict[str, Any]:
    """`max_abs_diff` per metric over all SAEs, tasks and n, and what else tells the sides apart.

    Probing is compared on the latents and the C that the reference chose (`validity_ours.with_their_choices`) with the
    optimum of its fits (`validity_peer.converged`). `as_run` holds the same against its fits as its solver leaves them,
    `own_choices` that with our own choice of latents and C. A cell that only one side has, or a status of ours where the
    reference puts a number, is counted, not compared.
    """
    theirs: Scores = {}
    optimum, ours, matched = dict(theirs), dict(theirs), dict(theirs)
    for arch in archs:
        record = json.loads((cache / "peer" / f"{arch}.json").read_text())
        theirs |= dict(_theirs(arch, record))
        for metric in PROBING:
            optimum |= dict(_probing(arch, metric, {t: modes[metric] for t, modes in record["converged"].items()}))
        ours |= dict(_ours(arch, json.loads((cache / "ours" / f"{arch}.json").read_text())))
        matched |= dict(_ours(arch, json.loads((cache / "ours" / f"{arch}.their_choices.json").read_text())))
    cells = {metric: _compared(theirs | optimum, ours | matched, metric) for metric in METRICS}
    return {
        "max_abs_diff": {metric: found["max"] for metric, found in cells.items()},
        "cells": cells,
        "as_run": {metric: _compared(theirs, matched, metric) for metric in PROBING},
        "own_choices": {metric: _compared(theirs, ours, metric) for metric in PROBING},
    }


def _compared(theirs: Scores, ours: Scores, metric: str) -> dict[str, Any]:
    cells = [cell for cell in theirs if cell[0] == metric]
    both = {cell: abs(ours[cell] - theirs[cell]) for cell in cells if ours.get(cell) is not None}
    return {
        "max": max(both.values()),
        "compared": len(both),
        "different": sum(gap > 1e-9 for gap in both.values()),
        "above_1e-3": sum(gap > 1e-3 for gap in both.values()),
        "no_score_here": sum(cell in ours and ours[cell] is None for cell in cells),
        "not_here": sum(cell not in ours for cell in cells),
        "largest": [[*cell, ours[cell], theirs[cell]] for cell in sorted(both, key=both.__getitem__)[-3:]],
        "mean_scores": _of_means(both, ours, theirs),
    }


def _of_means(both: dict[Cell, float], ours: Scores, theirs: Scores) -> float:
    """The largest difference of a mean over tasks, the number that a table of scores shows."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in both:
        groups.setdefault((cell[1], cell[2], cell[4]), []).append(cell)
    return max(abs(sum(ours[c] - theirs[c] for c in cells) / len(cells)) for cells in groups.values())


def _theirs(arch: str, record: dict[str, Any]) -> Iterator[tuple[Cell, float]]:
    truth = record["ground_truth"]
    for name in TRUTHS:
        yield ("ground_truth", arch, name, "", None), truth[name]
    yield ("ground_truth", arch, "l0 / d_sae", "", None), truth["sae_l0"] / D_SAE
    yield ("ground_truth", arch, "dead_latents / d_sae", "", None), truth["dead_latents"] / D_SAE
    for metric in PROBING:
        yield from _probing(arch, metric, record[metric])
    for task, found in record["tpp"].items():
        for key, value in found["result"]["overall"].items():
            _, _, n, name = key.split("_", 3)
            part = next(p for p, theirs in TPP.items() if theirs == name)
            yield ("tpp", arch, part, task, int(n)), value
    for task, found in record["scr"].items():
        for key, value in found["result"]["metrics"].items():
            if key.startswith(("scr_dir", "scr_metric")):
                name, n = key.removeprefix("scr_").split("_threshold_")
                part = {"dir1": "direction_1", "dir2": "direction_2", "metric": "compatible"}[name]
                yield ("scr", arch, part, task, int(n)), value


def _probing(arch: str, metric: str, tasks: dict[str, Any]) -> Iterator[tuple[Cell, float]]:
    for task, by_k in tasks.items():
        for k, scores in by_k.items():
            for part, name in PROBING[metric].items():
                yield (metric, arch, part, task, int(k)), scores[name]


def _ours(arch: str, records: list[dict[str, Any]]) -> Iterator[tuple[Cell, float | None]]:
    for row in records:
        task = "" if row["metric"] == "ground_truth" else row["task"]
        value = row["value"]
        if row["status"] == "undefined_denominator" and row["component"].startswith("direction"):
            value = 0.0  # what the reference puts there
        name = row["component"]
        if name in ("l0", "dead_latents"):
            name, value = f"{name} / d_sae", value / D_SAE
        yield (row["metric"], arch, name, task, row["hp_value"]), value
