"""A recorded miniature project, built once a session; every test changes a copy of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sae_assay.audit import verify
from sae_assay.audit.context import Context, Options
from sae_assay.audit.evidence import true_id
from sae_assay.audit.findings import Finding
from sae_assay.audit.replay import Replay
from sae_assay.ledger.canonical import canonical
from sae_assay.ledger.environment import process_environment

HERE = Path(__file__).parent
SOURCE = HERE.parents[2] / "src"
LEDGER = Path("results/ledger/tiny")
SCORE = "results/scores/tiny/toy/toy_l0_02_seed_0/42.parquet"
OTHER = "results/scores/tiny/toy/toy_l0_03_seed_0/42.parquet"
Audit = Callable[..., list[Finding]]


class Tree:
    """A copy of the recorded project, and ways to tamper with it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def records(self, kind: str) -> list[dict[str, Any]]:
        """A ledger file's records (`runs`, `artifacts`, `blobs`, ...)."""
        return [json.loads(line) for line in (self.root / LEDGER / f"{kind}.jsonl").read_text().splitlines()]

    def write(self, kind: str, records: list[dict[str, Any]], seal: bool = False) -> None:
        """Write a ledger file; with `seal`, give every record its true id again."""
        if seal:
            records = [{**record, "id": true_id(record)} for record in records]
        text = "".join(sorted(canonical(record) + "\n" for record in records))
        (self.root / LEDGER / f"{kind}.jsonl").write_text(text)

    def edit(self, kind: str, change: Callable[[dict[str, Any]], None], seal: bool = False) -> None:
        """Change every record of a file by a function."""
        records = self.records(kind)
        for record in records:
            change(record)
        self.write(kind, records, seal)

    def path(self, name: str) -> Path:
        return self.root / name

    def git(self, *arguments: str) -> str:
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run([*git, *arguments], cwd=self.root, check=True, capture_output=True, text=True).stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "later")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it was recorded; not to be changed."""
    target = tmp_path_factory.mktemp("audit") / "tree"
    variables = process_environment("portable", 1) | {"PYTHONPATH": str(SOURCE), "GIT_CONFIG_GLOBAL": os.devnull}
    command = [sys.executable, str(HERE / "build_tree.py"), str(target)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def tree(recorded: Path, tmp_path: Path) -> Tree:
    """A copy, free to be changed."""
    copy = tmp_path / "tree"
    shutil.copytree(recorded, copy)
    return Tree(copy)


@pytest.fixture(scope="session")
def replayed(recorded: Path) -> Iterator[tuple[Replay, Replay]]:
    """Statistics, and charts and page, made again from the intact tables, once for all tests that leave these alone."""
    context = verify.open_tree(recorded, "config.yaml", Options(depth=2))
    with context.replay as replay, context.drawing as drawing:
        yield replay, drawing


@pytest.fixture
def audit(replayed: tuple[Replay, Replay]) -> Callable[..., list[Finding]]:
    """Runs some checks on a tree whose tables are intact: `audit(tree, graph, plan, depth=2)`."""

    def run(tree: Tree, *checks: Any, depth: int = 1, remote: bool = False) -> list[Finding]:
        context = opened(tree, depth, remote)
        context._replay, context._drawing = replayed
        return [finding for check in checks for finding in check.check(context)]

    return run


def opened(tree: Tree, depth: int = 1, remote: bool = False) -> Context:
    """The context of an audit."""
    return verify.open_tree(tree.root, "config.yaml", Options(depth=depth, remote=remote))


def seen(findings: list[Finding]) -> set[tuple[str, str]]:
    """(code, item) of the findings that are no notes."""
    return {(finding.code, finding.item) for finding in findings if not finding.note}


def codes(findings: list[Finding]) -> set[str]:
    """Codes of the findings that are no notes."""
    return {finding.code for finding in findings if not finding.note}
