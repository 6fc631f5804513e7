"""Lets tests import one another's helpers as `tests.<folder>.<module>`; a recorded project, built once a session."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.project import Project, pull_away_from, recorded_project


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has run the tiny study and recorded it; not to be changed."""
    return recorded_project(tmp_path_factory.mktemp("recorded") / "project")


@pytest.fixture(scope="session")
def pulled(recorded: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone of it after `dvc pull`, made while the original was out of reach."""
    return pull_away_from(recorded, tmp_path_factory.mktemp("pulled") / "clone")


@pytest.fixture
def clone(pulled: Project, tmp_path: Path) -> Project:
    """A copy of the clone, free to be changed (its path, inodes and change times are new)."""
    copy = Project(tmp_path / "clone")
    shutil.copytree(pulled.path, copy.path, symlinks=True)
    return copy
