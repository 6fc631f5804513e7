"""Task definitions, fixed per world: chosen once, from rows drawn for that purpose (method.md, Synthetic tasks). Numpy only.

Recipes follow the audit's (Chanin 2026, section 4; `saebench_audit/synthetic/data_gen.py`); rates and counts come from the
study. A task that is wanted but cannot be built is a row with a status and the reason, never left out. `in` means a
feature index below d_sae, `out` one beyond the SAE's dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sae_assay.seeds import numpy_generator
from sae_assay.study.worlds import SparseProbingTasks, Tasks, TppTasks
from sae_assay.worlds import scr
from sae_assay.worlds.concepts import Concept, Range, World, spell
from sae_assay.worlds.pool import Pool

NO_HIERARCHY = "the world has no hierarchy"
# Boolean concepts: kind, op, label-rate bounds, sizes as (in features, out features). Bounds of method.md.
_LEAST_MIXED = 30 / 60_000
BOOLEANS: tuple[tuple[str, str, Range, tuple[tuple[int, int], ...]], ...] = (
    ("in", "and", (0.001, 0.20), ((2, 0), (3, 0))),
    ("in", "or", (0.005, 0.25), ((2, 0), (3, 0))),
    ("out", "or", (0.001, 0.05), ((0, 2), (0, 3), (0, 4))),
    ("mixed", "and", (_LEAST_MIXED, 0.10), ((1, 1), (2, 1), (1, 2))),
    ("mixed", "or", (0.005, 0.25), ((1, 1), (1, 2), (2, 2))),
)
TRIES = 200  # draws of features for one boolean concept, as in the audit


def choose(
    pool: Pool, nodes: list[dict[str, Any]] | None, d_sae: int, wanted: Tasks, *purpose: str | int
) -> dict[str, list[dict[str, Any]]]:
    """Choose a world's tasks.

    Args:
        pool: rows drawn to choose tasks from; evaluation never sees them.
        nodes: the hierarchy (`build.nodes_of`), or None.
        d_sae: latents of the SAEs; splits features into `in` and `out`.
        wanted: how many tasks, and their rates.
        purpose: names the streams.

    Returns:
        `sparse_probing`, `tpp` and `scr`: lists of tasks as tasks.json holds them, each with id, kind, status and reason.
    """
    world = World(pool, nodes or [], d_sae)
    return {
        "sparse_probing": sparse_probing(world, wanted.sparse_probing, *purpose),
        "tpp": tpp(world, wanted.tpp, *purpose) if nodes else [_not_applicable("tpp", {"parent": None, "classes": []})],
        "scr": scr.choose(world, wanted.scr, *purpose)
        if nodes
        else [_not_applicable("scr", {"target": None, "spurious": None, "cells": None})],
    }


def _not_applicable(family: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"{family}_none", "kind": None, "status": "not_applicable", "reason": NO_HIERARCHY, **fields}


# Sparse probing ------------------------------------------------------------------------------------------------------
def sparse_probing(world: World, wanted: SparseProbingTasks, *purpose: str | int) -> list[dict[str, Any]]:
    """Single features and boolean concepts; a concept is used once."""
    rows = []
    for kind, count, rates in (
        ("in", wanted.single_in, wanted.single_in_rate),
        ("out", wanted.single_out, wanted.single_out_rate),
    ):
        found = _singles(world, kind, rates, numpy_generator(*purpose, "tasks", "single", kind))
        concepts = [Concept("single", (feature,)) for feature in found[:count]]
        why = f"{len(found)} {kind} features fire at {rates[0]} to {rates[1]}, {count} are wanted"
        rows += _probing_rows(world, concepts, count, kind, "single", why)
    ranges = {"in": wanted.boolean_in_rate, "out": wanted.boolean_out_rate}
    candidates = {kind: world.features(kind, ranges[kind]) for kind in ("in", "out")}
    for kind, op, bounds, sizes in BOOLEANS:
        for size in sizes:
            generator = numpy_generator(*purpose, "tasks", kind, op, *size)
            concepts = list(_booleans(world, candidates, op, size, bounds, wanted.per_boolean, generator))
            family = f"{op}_{size[0]}in_{size[1]}out"
            why = f"no further {op} of {size[0]} in and {size[1]} out features has a rate of {bounds[0]:.4g} to {bounds[1]}"
            rows += _probing_rows(world, concepts, wanted.per_boolean, kind, family, why)
    return rows


def _singles(world: World, kind: str, rates: Range, generator: np.random.Generator) -> list[int]:
    return [int(feature) for feature in generator.permutation(world.features(kind, rates))]


def _booleans(
    world: World,
    candidates: dict[str, list[int]],
    op: str,
    size: tuple[int, int],
    bounds: Range,
    count: int,
    generator: np.random.Generator,
) -> Iterator[Concept]:
    """Up to `count` different concepts whose label rate lies within the bounds."""
    pools = (candidates["in"], candidates["out"])
    if any(len(pool) < n for pool, n in zip(pools, size, strict=True)):
        return
    seen: set[Concept] = set()
    for _ in range(TRIES * count):
        if len(seen) == count:
            return
        drawn = [generator.choice(pool, n, replace=False) for pool, n in zip(pools, size, strict=True) if n]
        concept = Concept(op, tuple(sorted(int(feature) for feature in np.concatenate(drawn))))
        if concept not in seen and bounds[0] <= world.rate(concept) <= bounds[1]:
            seen.add(concept)
            yield concept


def _probing_rows(
    world: World, concepts: list[Concept], count: int, kind: str, family: str, why: str
) -> list[dict[str, Any]]:
    rows = [
        {
            "id": f"{kind}_{spell(concept)}",
            "op": concept.op,
            "features": list(concept.features),
            "kind": kind,
            "status": "ok",
            "reason": None,
            "rate": world.rate(concept),
        }
        for concept in concepts
    ]
    for number in range(len(concepts), count):
        missing: dict[str, Any] = {"op": family.split("_")[0], "features": [], "kind": kind, "rate": None}
        rows.append({"id": f"{kind}_{family}_missing_{number}", **missing, "status": "too_few_rows", "reason": why})
    return rows


# TPP -----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Group:
    parent: int
    classes: list[int]


def tpp(world: World, wanted: TppTasks, *purpose: str | int) -> list[dict[str, Any]]:
    """Groups of mutually exclusive siblings at the deepest level, all of them `in` or all `out`."""
    rows = []
    for kind, count in (("in", wanted.in_), ("out", wanted.out)):
        groups = [group for group in _sibling_groups(world) if all(world.kind(f) == kind for f in group.classes)]
        firing = [group for group in groups if min(world.pool.rates[group.classes]) >= wanted.min_rate]
        order = numpy_generator(*purpose, "tasks", "tpp", kind).permutation(len(firing))[:count]
        rows += [
            _tpp_row(f"{kind}_parent_{firing[i].parent}", kind, firing[i].parent, firing[i].classes) for i in order
        ]
        why = f"of {len(groups)} {kind} sibling groups {len(firing)} fire at {wanted.min_rate} or more each, {count} are wanted"
        status = "too_few_rows" if len(groups) >= count else "not_applicable"
        for number in range(len(order), count):
            rows.append(_tpp_row(f"{kind}_missing_{number}", kind, None, [], status, why))
    return rows


def _tpp_row(
    name: str, kind: str, parent: int | None, classes: list[int], status: str = "ok", reason: str | None = None
) -> dict[str, Any]:
    return {"id": name, "kind": kind, "parent": parent, "classes": classes, "status": status, "reason": reason}


def _sibling_groups(world: World) -> list[_Group]:
    """Complete groups of mutually exclusive leaves under one parent at the deepest level, by parent."""
    children: dict[int, list[int]] = {}
    deepest = max(node["depth"] for node in world.nodes)
    for node in world.nodes:
        if node["parent"] is not None and node["depth"] == deepest:
            children.setdefault(node["parent"], []).append(node["feature"])
    full = max((len(group) for group in children.values()), default=0)
    exclusive = {node["feature"] for node in world.nodes if node["exclusive_children"]}
    return [
        _Group(parent, sorted(group))
        for parent, group in sorted(children.items())
        if parent in exclusive and len(group) == full and full > 1
    ]
