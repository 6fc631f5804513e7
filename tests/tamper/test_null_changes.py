"""What changes nothing is clean, at depth 2 and with the remote."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tamper.auditing import Replays, audit, codes, command
from tests.tamper.forgery import Forgery, Recorded
from tests.tamper.table import NULL_CHANGES, NullChange

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("null", NULL_CHANGES, ids=lambda null: null.name)
def test_null_change_is_clean(null: NullChange, originals: Recorded, replays: Replays, tmp_path: Path) -> None:
    forgery = Forgery(tmp_path / "project", originals)
    how = null.change(forgery)
    forgery.options |= {"remote": True}
    report = audit(forgery, replays, 2) if how is None else command(forgery, how, 2)
    assert codes(report) == set(), report["findings"]


def test_there_are_enough() -> None:
    assert len(NULL_CHANGES) >= 15
    assert len({null.name for null in NULL_CHANGES}) == len(NULL_CHANGES)
