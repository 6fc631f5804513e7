"""How a tampered project is audited: by `sae-assay verify`, in this process or as the command that an auditor types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.tamper.forgery import STUDY, Forgery
from tests.tamper.mutation import Invocation, Mutation

from sae_assay.audit import context, verify
from sae_assay.audit.checks import recompute
from sae_assay.audit.replay import Replay
from sae_assay.ledger.canonical import digest
from sae_assay.ledger.files import hash_file

CORES = 2
SHARE = 0.05  # of the jobs, at depth 3
SEEDS = 10_000


class Kept(Replay):
    """A recomputation that outlives its audit, for others of the same files."""

    def __exit__(self, *_: object) -> None:
        pass


class Replays:
    """Statistics, charts and page made again, once for equal inputs: they depend on nothing else, and take most of the time."""

    def __init__(self) -> None:
        self._made: dict[str, Kept] = {}

    def __call__(self, job: dict[str, Any]) -> Replay:
        name = self._name(job)
        if name is None:
            return Replay(job)
        if name not in self._made:
            self._made[name] = Kept(job)
        return self._made[name]

    @staticmethod
    def _name(job: dict[str, Any]) -> str | None:
        """A digest of the job and of every file that it reads; None where one is missing or a link."""
        charts = [path for files in job.get("charts", {}).values() for path in files.values()]
        groups = (job.get("tables", {}).values(), job.get("marts", {}).values(), job.get("shown", []), charts)
        root = Path(job["root"])
        files = {path: root / path for group in groups for path in group}
        if any(file.is_symlink() or not file.is_file() for file in files.values()):
            return None
        digests = {path: hash_file(file).sha256 for path, file in files.items()}
        return digest([{name: value for name, value in job.items() if name != "root"}, digests])

    @contextmanager
    def used(self) -> Iterator[None]:
        """Audits in this block share them."""
        with mock.patch.object(context, "Replay", self):
            yield

    def close(self) -> None:
        for made in self._made.values():
            Replay.__exit__(made)


def audit(forgery: Forgery, replays: Replays, depth: int, met: str = "") -> dict[str, Any]:
    """What `verify --json` says at a depth; depth 3 runs a sample of jobs that holds `met`."""
    if forgery.package is not None:
        return command(forgery, Invocation({"PYTHONPATH": str(forgery.package)}), depth, met)
    options = context.Options(depth=depth, cores=CORES, sample=SHARE, seed=seed_of(forgery, met), **forgery.options)
    with replays.used():
        return verify.verify(forgery.root, options=options).as_dict()


def seed_of(forgery: Forgery, met: str) -> int:
    """The first `--seed` whose sample holds a job: the chance that a seed of the auditor's does so is printed by `verify`."""
    if not met:
        return 0
    evidence = verify.open_tree(forgery.root, "config.yaml").evidence
    seeds = (s for s in range(SEEDS) if met in sampled(evidence, s))
    return next(seeds)


def sampled(evidence: Any, seed: int) -> set[str]:
    """Labels of the jobs that a seed chooses."""
    return {run.label for run in recompute.sample(evidence, context.Options(sample=SHARE, seed=seed))}


def command(forgery: Forgery, how: Invocation, depth: int, met: str = "") -> dict[str, Any]:
    """The same from the command line, in a process of its own; its exit code must say the same."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SNAKEMAKE_"))}
    options = [
        "--depth",
        str(depth),
        "--cores",
        str(CORES),
        "--sample",
        str(SHARE),
        "--seed",
        str(seed_of(forgery, met)),
    ]
    for name, value in forgery.options.items():
        flag = f"--{name.replace('_', '-')}"
        options += [flag] if value is True else [flag, str(value)]
    words = [
        *how.before,
        sys.executable,
        "-m",
        "sae_assay.cli",
        "verify",
        "--root",
        str(forgery.root),
        "--json",
        *options,
    ]
    done = subprocess.run(
        words, cwd=how.cwd, env=inherited | how.variables, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), f"{done.returncode}: {done.stdout[-1000:]} {done.stderr[-2000:]}"
    report = json.loads(done.stdout)
    assert report["study"] == STUDY and (done.returncode == 1) == bool(codes(report)), done.stdout[-2000:]
    return report


def codes(report: dict[str, Any], note: bool = False) -> set[str]:
    """Finding codes of a report, notes aside (or only they)."""
    return {finding["code"] for finding in report["findings"] if finding["note"] == note}


def first_depth(forgery: Forgery, mutation: Mutation, replays: Replays) -> tuple[int | None, set[str]]:
    """The least depth at which there are findings, and their codes; None where depth 3 has none either.

    A greater depth checks all that a lesser one does: where little is expected, it comes first.
    """
    for depth in {None: (3,), 3: (2, 3)}.get(mutation.depth, (1, 2, 3)):
        found = codes(audit(forgery, replays, depth, mutation.met if depth == 3 else ""))
        if found:
            return depth, found
    return None, set()
