"""Modes: one fault each, the rows that they share, and what a study scores."""

from __future__ import annotations

from dataclasses import asdict
from typing import get_args

from sae_assay import modes

SECTION = {
    "n": [1, 10],
    "modes": ["saebench", "strict"],
    "fault_ablation": {"modes": ["fix_epoch", "fix_ties"], "n": [10]},
}


def test_every_single_repair_repairs_what_it_names_and_nothing_else() -> None:
    for mode, repairs in modes.REPAIRS.items():
        done = {fault for fault, repaired in asdict(repairs).items() if repaired}
        if mode.startswith("fix_"):
            assert done == {mode.removeprefix("fix_")}
    assert not any(asdict(modes.REPAIRS["saebench"]).values())
    assert asdict(modes.REPAIRS["strict"]) == {**dict.fromkeys(asdict(modes.Repairs()), True), "direction": False}
    assert [*modes.REPAIRS, *get_args(modes.LibraryMode)] == list(modes.MODES)


def test_modes_that_repair_the_scoring_alone_use_saebenchs_rows() -> None:
    assert modes.sharing_rows(SECTION) == {
        "saebench": ["saebench", "fix_ties"],
        "strict": ["strict"],
        "fix_epoch": ["fix_epoch"],
    }


def test_a_single_repair_is_scored_at_its_own_n() -> None:
    assert modes.scored(SECTION) == {"saebench": [1, 10], "strict": [1, 10], "fix_epoch": [10], "fix_ties": [10]}
    assert modes.scored({"n": [2], "modes": ["strict"]}) == {"strict": [2]}
