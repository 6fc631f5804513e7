"""What changes nothing is clean, at depth 2 and with the remote."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tamper.auditing import Replays, audit, codes, command
from tests.tamper.forgery import Forgery, Recorded
from tests.tamper.table import NULL_CHANGES, NullChange

pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("null", NULL_CHANGES, ids=lambda null: null.name)
def test_null_change_is_clean(null: NullChange, originals: Recorded, replays: Replays, folder: Path) -> None:
    forgery = Forgery(folder / "project", originals)
    how = null.change(forgery)
    forgery.options |= {"remote": True}
    report = audit(forgery, replays, 2) if how is None else command(forgery, how, 2)
    assert codes(report) == set(), report["findings"]


def test_there_are_enough() -> None:
    assert len(NULL_CHANGES) >= 15
    assert len({null.name for null in NULL_CHANGES}) == len(NULL_CHANGES)
