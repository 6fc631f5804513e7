"""The public scoreboard is that of the table: it names every mutation and null change, and says of each what the table says."""

from __future__ import annotations

import re

import pytest
from tests.project import ROOT
from tests.tamper.table import MUTATIONS, NULL_CHANGES

AGAIN = "run `uv run python -m tests.tamper.scoreboard`"


@pytest.fixture(scope="module")
def board() -> str:
    return (ROOT / "docs/measurements/tamper.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows(board: str) -> dict[str, str]:
    """What was changed -> what `verify` found."""
    return dict(re.findall(r"^\| (.+?) \| (.+?) \|", board, re.M))


def test_every_mutation_is_on_it_with_its_depth_and_codes(board: str, rows: dict[str, str]) -> None:
    for mutation in MUTATIONS:
        found = rows.get(mutation.changed)
        assert found is not None, f"{mutation.name} is not on the scoreboard; {AGAIN}"
        depth, _, codes = found.partition(": ")
        assert depth == ("not found" if mutation.depth is None else str(mutation.depth)), (mutation.name, found)
        assert mutation.codes <= set(codes.split(", ")), (mutation.name, found)
        assert (mutation.limit or mutation.changed) in board, mutation.name


def test_every_null_change_is_on_it_and_clean(rows: dict[str, str]) -> None:
    assert {null.changed: rows.get(null.changed) for null in NULL_CHANGES} == {
        null.changed: "clean" for null in NULL_CHANGES
    }


def test_the_auditors_page_repeats_its_totals(board: str) -> None:
    totals = re.search(r"^\| `sae-assay verify` \| (\d+) \| (\d+) \|$", board, re.M)
    assert totals is not None
    page = (ROOT / "docs/auditors.md").read_text(encoding="utf-8")
    said = f"{totals[1]} of {len(MUTATIONS)} edits and {totals[2]} false alarms"
    assert said in page, f"say in docs/auditors.md: {said}"
