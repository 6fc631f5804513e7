"""Concepts: what a task's label says about features; and a world as the choice of tasks sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_assay.worlds.pool import Pool

Range = tuple[float, float]


class Concept(NamedTuple):
    """`single`, `and` or `or` of features."""

    op: str
    features: tuple[int, ...]


@dataclass(frozen=True)
class World:
    """Rows, hierarchy and dictionary size: all that choosing tasks needs.

    Attributes:
        pool: rows drawn to choose tasks from.
        nodes: the hierarchy (`build.nodes_of`); empty where there is none.
        d_sae: features below it are `in`, others `out`.
    """

    pool: Pool
    nodes: list[dict[str, Any]]
    d_sae: int

    def kind(self, feature: int) -> str:
        return "in" if feature < self.d_sae else "out"

    def features(self, kind: str, rates: Range) -> list[int]:
        """Features of a kind that fire at a rate within the bounds, ascending."""
        fitting = np.flatnonzero((self.pool.rates >= rates[0]) & (self.pool.rates <= rates[1]))
        return [int(feature) for feature in fitting if self.kind(int(feature)) == kind]

    @cached_property
    def roots(self) -> dict[int, int]:
        """The root above each feature of the hierarchy."""
        return {node["feature"]: node["root"] for node in self.nodes}

    def labels(self, concept: Concept) -> NDArray[np.bool_]:
        return self.pool.labels(concept.op, list(concept.features))  # type: ignore[arg-type]

    def rate(self, concept: Concept) -> float:
        return float(self.labels(concept).mean())


def spell(concept: Concept) -> str:
    """A concept in a task's id: `or_12_40`."""
    return "_".join([concept.op, *(str(feature) for feature in concept.features)])
