"""How a metric is scored: TPP and SCR with SAEBench's faults or without, the real library as it is or reseeded. Light.

A mode is a set of repairs. `saebench` has none and `strict` all but the fixed direction; each `fix_` mode is `saebench`
with one repair, so that the report can say what each fault costs (method.md, Metrics; lab/speed.md, Faults found).
`library` and `reseeded` are the real SAEBench (envs/saebench), which has no repairs: docs/saebench.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

WholeMode = Literal["saebench", "strict"]
TppRepair = Literal["fix_epoch", "fix_negatives", "fix_ties"]
ScrRepair = Literal["fix_epoch", "fix_overlap", "fix_cells", "fix_direction"]
LibraryMode = Literal["library", "reseeded"]
Mode = Literal[
    "saebench",
    "strict",
    "fix_epoch",
    "fix_overlap",
    "fix_cells",
    "fix_negatives",
    "fix_ties",
    "fix_direction",
    "library",
    "reseeded",
]
MODES: tuple[Mode, ...] = get_args(Mode)
BASELINE: Mode = "saebench"


@dataclass(frozen=True)
class Repairs:
    """One switch a fault; False keeps it.

    Attributes:
        epoch: a probe's epoch is chosen on validation rows, a fifth of its training rows, and not on the test rows.
        overlap: a row serves one purpose. SCR: no test row trains a probe, of whatever class. TPP: no row of two
            classes. Both: rows that chose an epoch do not count towards the latents' effects.
        cells: SCR: classes of the target and the spurious concept hold as many rows of either cell of T x S (SAEBench),
            not the cells' natural rates (the audit's synthetic code). Language models are balanced in every mode.
        negatives: TPP: every row of the other classes counts, clean and ablated alike, instead of a new draw each time.
        ties: TPP: only latents of positive effect are ablated. SCR's effects are never negative.
        direction: SCR: both directions count, whatever their accuracies, instead of the one of lower `original`.
    """

    epoch: bool = False
    overlap: bool = False
    cells: bool = False
    negatives: bool = False
    ties: bool = False
    direction: bool = False

    @property
    def rows(self) -> tuple[bool, bool, bool]:
        """The repairs that move rows or probes; modes that agree in them share both."""
        return self.epoch, self.overlap, self.cells


REPAIRS: dict[Mode, Repairs] = {
    "saebench": Repairs(),
    "strict": Repairs(epoch=True, overlap=True, cells=True, negatives=True, ties=True),
    "fix_epoch": Repairs(epoch=True),
    "fix_overlap": Repairs(overlap=True),
    "fix_cells": Repairs(cells=True),
    "fix_negatives": Repairs(negatives=True),
    "fix_ties": Repairs(ties=True),
    "fix_direction": Repairs(direction=True),
}


def scored(section: Mapping[str, Any]) -> dict[Mode, list[int]]:
    """The n values of every mode that a study's section (`tpp` or `scr`) scores."""
    found = {mode: list(section["n"]) for mode in section["modes"]}
    extra = section.get("fault_ablation") or {"modes": [], "n": []}
    return found | {mode: list(extra["n"]) for mode in extra["modes"]}


def sharing_rows(section: Mapping[str, Any]) -> dict[Mode, list[Mode]]:
    """Scored modes by the mode that names their rows and probes: `saebench` where only the scoring is repaired."""
    groups: dict[Mode, list[Mode]] = {}
    for mode in scored(section):
        owner = BASELINE if REPAIRS[mode].rows == REPAIRS[BASELINE].rows else mode
        groups.setdefault(owner, []).append(mode)
    return groups


def components(mode: str | None, all_of_them: tuple[str, ...]) -> tuple[str, ...]:
    """What a mode records: every component, or the score alone where one fault is repaired."""
    return all_of_them if mode in get_args(WholeMode) else ("score",)
