"""The choice of SCR tasks: a target and a spurious concept from different roots, every cell of their table filled."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from sae_assay.seeds import numpy_generator
from sae_assay.study.worlds import ScrTasks
from sae_assay.worlds.concepts import Concept, World, spell

SIDES = (("in", "single"), ("in", "or"), ("out", "or"))  # the audit's three kinds of concepts
IN_OR_SIZE = 2
# The audit tries 15 targets per combination. A small world has few pairs that fill all cells: try longer.
TARGETS, PARTNERS, DRAWS = 60, 20, 100


def choose(world: World, wanted: ScrTasks, *purpose: str | int) -> list[dict[str, Any]]:
    """SCR tasks of all nine ordered combinations, at most `max_tasks`, kinds taking turns; what a
    combination lacks is a row that says so."""
    built: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for target, spurious in product(SIDES, SIDES):
        name = f"{target[0]}_{target[1]}_{spurious[0]}_{spurious[1]}"
        generator = numpy_generator(*purpose, "tasks", "scr", name)
        built[target, spurious] = _of_combination(world, wanted, target, spurious, generator)
    kept = _taking_turns(built, wanted.max_tasks)
    missing = [
        _missing(target, spurious, number, wanted)
        for (target, spurious), tasks in built.items()
        for number in range(len(tasks), wanted.per_combination)
    ]
    return kept + missing


def _taking_turns(built: dict[tuple[Any, Any], list[dict[str, Any]]], limit: int) -> list[dict[str, Any]]:
    """At most `limit` tasks, one per kind and turn, so that the rare kinds with an `out` side are not cut off."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for tasks in built.values():
        for task in tasks:
            kinds.setdefault(task["kind"], []).append(task)
    kept: list[dict[str, Any]] = []
    while any(kinds.values()) and len(kept) < limit:
        for tasks in kinds.values():
            if tasks and len(kept) < limit:
                kept.append(tasks.pop(0))
    return sorted(kept, key=lambda task: task["id"])


def _of_combination(
    world: World, wanted: ScrTasks, target: tuple[str, str], spurious: tuple[str, str], generator: np.random.Generator
) -> list[dict[str, Any]]:
    draw = {side: _Drawer(world, wanted, side, generator) for side in (target, spurious)}
    both_out = target[0] == spurious[0] == "out"
    least = wanted.min_cell_out_out if both_out else wanted.min_cell
    found: dict[str, dict[str, Any]] = {}
    for _ in range(TARGETS):
        if len(found) == wanted.per_combination:
            break
        first = draw[target].concept()
        if first is None:
            break
        second = draw[spurious].partner(first)
        if second is None:
            continue
        cells = _cells(world, first, second)
        if min(cells.values()) >= least:
            task = _row(target, spurious, first, second, cells)
            found.setdefault(task["id"], task)
    return list(found.values())


class _Drawer:
    """Draws concepts of one side; members of an `or` lie under one root."""

    def __init__(self, world: World, wanted: ScrTasks, side: tuple[str, str], generator: np.random.Generator) -> None:
        self.world, self.generator = world, generator
        kind, self.op = side
        self.size = 1 if self.op == "single" else IN_OR_SIZE if kind == "in" else wanted.or_out_size
        self.low, self.high = wanted.in_label_rate if kind == "in" else wanted.out_label_rate
        self.by_root: dict[int, list[int]] = {}
        for feature in world.features(kind, wanted.in_rate if kind == "in" else wanted.out_rate):
            if feature in world.roots:
                self.by_root.setdefault(world.roots[feature], []).append(feature)
        self.eligible = [root for root, features in sorted(self.by_root.items()) if len(features) >= self.size]

    def concept(self) -> Concept | None:
        """A concept whose label rate fits (an `or` may have .1 times the low to twice the high rate), or None."""
        for _ in range(DRAWS if self.eligible else 0):
            if self.op == "single":
                features = [int(self.generator.choice([f for root in self.eligible for f in self.by_root[root]]))]
                low, high = self.low, self.high
            else:
                root = int(self.generator.choice(self.eligible))
                features = sorted(int(f) for f in self.generator.choice(self.by_root[root], self.size, replace=False))
                low, high = 0.1 * self.low, 2 * self.high
            concept = Concept(self.op, tuple(features))
            if low <= self.world.rate(concept) <= high:
                return concept
        return None

    def partner(self, other: Concept) -> Concept | None:
        """A concept under another root than `other`, or None."""
        for _ in range(PARTNERS):
            found = self.concept()
            if found is None:
                return None
            if self.world.roots[found.features[0]] != self.world.roots[other.features[0]]:
                return found
        return None


def _cells(world: World, target: Concept, spurious: Concept) -> dict[str, int]:
    """Rows in each cell of the 2 x 2 table, named by target and spurious: 00, 01, 10, 11."""
    t, s = world.labels(target), world.labels(spurious)
    return {f"{a}{b}": int(((t == bool(a)) & (s == bool(b))).sum()) for a in (0, 1) for b in (0, 1)}


def _row(target: Any, spurious: Any, first: Concept, second: Concept, cells: dict[str, int]) -> dict[str, Any]:
    sides = [{"op": concept.op, "features": list(concept.features)} for concept in (first, second)]
    return {
        "id": f"{target[0]}_{spell(first)}__{spurious[0]}_{spell(second)}",
        "kind": f"{target[0]}-{spurious[0]}",
        "target": sides[0],
        "spurious": sides[1],
        "status": "ok",
        "reason": None,
        "cells": cells,
    }


def _missing(target: tuple[str, str], spurious: tuple[str, str], number: int, wanted: ScrTasks) -> dict[str, Any]:
    least = wanted.min_cell_out_out if target[0] == spurious[0] == "out" else wanted.min_cell
    names = ["_of_".join((op, kind)) for kind, op in (target, spurious)]
    return {
        "id": f"{'_'.join(target)}__{'_'.join(spurious)}_missing_{number}",
        "kind": f"{target[0]}-{spurious[0]}",
        "target": None,
        "spurious": None,
        "status": "too_few_rows",
        "reason": f"no further pair of {names[0]} and {names[1]} features from different roots has {least} rows in every cell",
        "cells": None,
    }
