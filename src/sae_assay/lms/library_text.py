"""A substrate's evaluation text as the real SAEBench reads it: sets in two parts, and prompts in one list.

Rows are those that our own metrics read (no SAE was trained on them). The library samples from the parts itself; which
row lies in which part is drawn here, once and for all, or by the evaluation seed where that is asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_assay import seeds
from sae_assay.study.library import held_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_assay.lms.texts import Drawn


def write_set(drawn: Drawn, path: Path, purpose: Sequence[str | int], *, shuffled: bool) -> None:
    """Write a set as envs/saebench/local_sets.py reads it.

    Args:
        drawn: a set of classes, or a crossing, whose labels are 2 * target + spurious.
        path: a JSON file.
        purpose: names the random stream of the split.
        shuffled: put the rows of each part in random order too; SAEBench's SCR takes the first ones.
    """
    rng = seeds.numpy_generator(*purpose, drawn.source.name)
    labels = drawn.labels.numpy()
    train, test = split(labels, rng)
    parts = {"train": train, "test": test}
    if shuffled:
        parts = {name: rng.permutation(rows) for name, rows in parts.items()}
    crossed = " & " in drawn.source.classes[0] and "__" in drawn.source.name
    content: dict[str, Any] = {name: _part(drawn, labels, rows, crossed) for name, rows in parts.items()}
    content["classes"] = _crossed_classes(drawn.source.classes) if crossed else drawn.source.classes
    path.write_text(json.dumps(content), encoding="utf-8")


def split(labels: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of train and test, a fifth of every class to test, each in the file's order."""
    train, test = [], []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        held = held_out(len(rows))
        test.append(rows[:held])
        train.append(rows[held:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _part(drawn: Drawn, labels: NDArray[np.int64], rows: NDArray[np.int64], crossed: bool) -> dict[str, list[Any]]:
    prompts = drawn.prompts
    found: dict[str, list[Any]] = {"text": [prompts[row] for row in rows], "label": labels[rows].tolist()}
    if crossed:
        found |= {"target": (labels[rows] // 2).tolist(), "spurious": (labels[rows] % 2).tolist()}
    return found


def _crossed_classes(classes: Sequence[str]) -> list[list[str]]:
    """The two classes of target and spurious, from those of the four cells."""
    pairs = [name.split(" & ", 1) for name in classes]
    return [[pairs[0][0], pairs[2][0]], [pairs[0][1], pairs[1][1]]]


def write_text(drawn: Sequence[Drawn], path: Path) -> None:
    """Write every prompt of some sets once, in their order."""
    prompts = dict.fromkeys(prompt for one in drawn for prompt in one.prompts)
    path.write_text(json.dumps(list(prompts)), encoding="utf-8")
