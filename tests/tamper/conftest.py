"""The recorded projects that are tampered with, and recomputations that audits of equal files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.project import Project
from tests.tamper.auditing import Replays
from tests.tamper.forgery import Recorded


@pytest.fixture(scope="session")
def originals(recorded: Project, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("tamper"), recorded)


@pytest.fixture(scope="session")
def replays() -> Iterator[Replays]:
    kept = Replays()
    yield kept
    kept.close()
