"""Every mutation is found, with its codes, at its depth and not before; what is not found is said to be so."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tamper.auditing import Replays, first_depth
from tests.tamper.forgery import Forgery, Recorded
from tests.tamper.table import MUTATIONS, Mutation

from sae_assay.audit.findings import CODES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_is_found(mutation: Mutation, originals: Recorded, replays: Replays, tmp_path: Path) -> None:
    forgery = Forgery(tmp_path / "project", originals, originals.rerun if mutation.later else None)
    mutation.change(forgery)
    depth, found = first_depth(forgery, mutation, replays)
    assert (depth, mutation.codes - found) == (mutation.depth, set()), f"found at depth {depth}: {sorted(found)}"


def test_the_table_is_large_and_says_what_it_expects() -> None:
    assert len(MUTATIONS) >= 40
    assert (
        len({mutation.name for mutation in MUTATIONS})
        == len({mutation.changed for mutation in MUTATIONS})
        == len(MUTATIONS)
    )
    for mutation in MUTATIONS:
        assert mutation.codes <= set(CODES), mutation.name
        assert bool(mutation.codes) == (mutation.depth is not None) != bool(mutation.limit), mutation.name
        assert bool(mutation.met) == (mutation.depth == 3), mutation.name
