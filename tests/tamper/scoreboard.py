"""Writes docs/measurements/tamper.md: every mutation and null change against this program and three others.

    uv run python -m tests.tamper.scoreboard [--only NAME ...]

Some twenty minutes on two cores. It needs the environment of roc-validator
(`uv sync --frozen --project envs/rocrate`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.project import ROOT, Project
from tests.tamper.auditing import SHARE, Replays, audit, codes, command, first_depth
from tests.tamper.forgery import Forgery, Recorded
from tests.tamper.mutation import Invocation, Mutation, NullChange
from tests.tamper.table import MUTATIONS, NULL_CHANGES

from sae_assay.audit.checks.recompute import detection
from sae_assay.audit.rocrate import METADATA, export
from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import digest
from sae_assay.ledger.environment import cpu_model

TARGET = ROOT / "docs/measurements/tamper.md"
VALIDATOR = ROOT / "envs/rocrate"
PROFILE = "provenance-run-crate-0.5"
TRIGGERS = ("mtime", "params", "input", "software-env")
OTHERS = ("`dvc status`", "`snakemake -n` with the ledger", "`snakemake -n` alone", "roc-validator")


@dataclass(frozen=True)
class Row:
    """A line of the scoreboard.

    Attributes:
        depth: at which this program has findings; None: at none.
        codes: what it found.
        others: whether each of OTHERS notices; None where there was nothing to validate.
        crate: the crate that was made from it; None where the export refused the records.
    """

    changed: str
    kind: str
    depth: int | None
    codes: tuple[str, ...]
    others: tuple[bool | None, ...]
    crate: str | None
    limit: str = ""


class Validator:
    """roc-validator's verdict on crates; those that differ in digests and numbers alone have one in common."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.verdicts: dict[str, bool] = {}

    def add(self, root: Path) -> str | None:
        """Export a tree as a crate, and keep it for `run`; returns its name, None where the export refuses the records."""
        made = self._folder / "made"
        shutil.rmtree(made, ignore_errors=True)
        try:
            export(root, "tiny", "config.yaml", made)
        except AssayError:
            return None
        entities = json.loads((made / METADATA).read_text(encoding="utf-8"))["@graph"]
        shapes = sorted(re.sub(r"[0-9a-f]{12,}|[0-9]+", "0", json.dumps(entity, sort_keys=True)) for entity in entities)
        name = digest(shapes)[:16]
        if not (self._folder / name).exists():
            made.rename(self._folder / name)
        return name

    def run(self) -> None:
        """Validate what was added: has a crate a violation of a requirement?"""
        crates = [str(path) for path in sorted(self._folder.iterdir()) if path.name != "made"]
        command = [str(VALIDATOR / ".venv/bin/python"), str(VALIDATOR / "validate.py"), PROFILE, *crates]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.verdicts = {Path(crate).name: "REQUIRED" in found for crate, found in json.loads(done.stdout).items()}


class Others:
    """What `dvc status` and `snakemake -n` say of a tree."""

    def __init__(self, clean: Project) -> None:
        self._clean = self._say(clean)

    def notice(self, project: Project) -> tuple[bool, ...]:
        """For each, whether it says something else, or ends otherwise, than on the clean project."""
        return tuple(now != before for now, before in zip(self._say(project), self._clean, strict=True))

    def _say(self, project: Project) -> tuple[tuple[int, str], ...]:
        dvc = project.run(sys.executable, "-m", "dvc", "status", check=False)
        alone = self._planned(project, without_ledger(project), "--rerun-triggers", *TRIGGERS, "--")
        return (dvc.returncode, dvc.stdout), self._planned(project, "Snakefile"), alone

    @staticmethod
    def _planned(project: Project, snakefile: str, *options: str) -> tuple[int, str]:
        """Exit code, and the names of the planned rules."""
        snakemake = [sys.executable, "-m", "snakemake", "-n", "--nocolor", "--cores", "2", "-s", snakefile]
        done = project.run(*snakemake, *options, check=False)
        lines = [line.split() for line in done.stdout.splitlines()]
        rules = sorted(words[1] for words in lines if len(words) == 2 and words[0] in ("rule", "localrule"))
        return done.returncode, " ".join(rules)


def without_ledger(project: Project) -> str:
    """A Snakefile that does not ask the ledger what is current."""
    name = "Snakefile.alone"
    text = (project.path / "Snakefile").read_text(encoding="utf-8")
    (project.path / name).write_text(text.replace("    restore.sync(", "    (lambda *_: None)("), encoding="utf-8")
    return name


class Board:
    """Runs the table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._recorded = Recorded(folder)
        (folder / "crates").mkdir(exist_ok=True)
        self.validator = Validator(folder / "crates")
        self._replays = Replays()
        self._others = {later: Others(self._forgery(f"clean-{later}", later)) for later in (False, True)}

    def _forgery(self, name: str, later: bool = False) -> Forgery:
        path = self._folder / name
        return Forgery(path, self._recorded, self._recorded.rerun if later else None)

    def mutation(self, one: Mutation) -> Row:
        forgery = self._forgery(one.name, one.later)
        one.change(forgery)
        depth, found = first_depth(forgery, one, self._replays)
        return self._row(forgery, one.changed, one.kind, depth, found, one.later, one.limit)

    def null(self, one: NullChange) -> Row:
        forgery = self._forgery(one.name)
        how = one.change(forgery)
        forgery.options |= {"remote": True}
        report = audit(forgery, self._replays, 2) if how is None else command(forgery, how, 2)
        found = codes(report)
        return self._row(forgery, one.changed, "null", 2 if found else None, found, False, "", how)

    def _row(
        self,
        forgery: Forgery,
        changed: str,
        kind: str,
        depth: int | None,
        found: set[str],
        later: bool,
        limit: str,
        how: Invocation | None = None,
    ) -> Row:
        project = Project(forgery.root)
        project.variables |= how.variables if how else {}
        crate = self.validator.add(forgery.root)
        noticed = self._others[later].notice(project)
        shutil.rmtree(forgery.path, ignore_errors=True)
        shutil.rmtree(forgery.outside, ignore_errors=True)
        return Row(changed, kind, depth, tuple(sorted(found)), noticed, crate, limit)

    def validated(self, rows: Iterable[Row]) -> list[Row]:
        """The rows with roc-validator's verdicts."""
        self.validator.run()
        self._replays.close()
        verdicts = self.validator.verdicts | {None: None}
        return [replace(row, others=(*row.others, verdicts[row.crate])) for row in rows]


# The page --------------------------------------------------------------------------------------------------------------------
def page(mutations: list[Row], nulls: list[Row]) -> str:
    """The scoreboard as Markdown."""
    day, cores = datetime.now(UTC).date().isoformat(), os.cpu_count()
    refused = sum(row.crate is None for row in mutations)
    lines = [
        "# Tampering: what is noticed, by whom",
        "",
        f"{len(mutations)} edits of a recorded project (the tiny study, run by Snakemake and recorded), and {len(nulls)} changes "
        "that change nothing, as `tests/tamper` makes them. "
        f"Written by `uv run python -m tests.tamper.scoreboard`, {cores} cores ({cpu_model()}), {day}.",
        "",
        *_totals(mutations, nulls),
        "",
        "How to read it. `sae-assay verify` ran from an installation outside of the project, and the number is the least depth at "
        "which it had findings. Depth 3 ran a sample of jobs that held the forged one: a sample of a share f of the jobs does so "
        f"with the chance that `verify` prints, {100 * detection(SHARE, 1):.0f} % for one forged job and f = {SHARE}, all for "
        "f = 1. Another tool *notices* an edit if its output or its exit code is another one than on the clean project. `dvc "
        "status` compares files with dvc.lock, and dvc.lock with what the stages declare. `snakemake -n` stands twice: as this "
        f"project uses it, where it asks the ledger for what is current, and alone, with Snakemake's own triggers "
        f"({', '.join(TRIGGERS)}; no edit touches the one script that `code` would compare). "
        "roc-validator saw the RO-Crate that `sae-assay export ro-crate` made from the edited project, and noticed if a "
        f"requirement was broken; in {refused} cases the export refused the records (-), which is no merit of the validator's. It "
        "checks a crate's structure, DVC and Snakemake what needs to be computed again: none of the three was made for this.",
    ]
    for kind in dict.fromkeys(row.kind for row in mutations):
        lines += ["", f"## {kind}", "", *_table([row for row in mutations if row.kind == kind])]
    lines += ["", "## Not found", ""]
    lines += [f"- {row.changed}: {row.limit}." for row in mutations if row.depth is None]
    lines += ["", "## Changes that change nothing", ""]
    lines += ["Found here means a false alarm.", "", *_table(nulls)]
    return "\n".join(lines) + "\n"


def _totals(mutations: list[Row], nulls: list[Row]) -> list[str]:
    names = ["`sae-assay verify`", *OTHERS]
    found = [sum(row.depth is not None for row in mutations)]
    alarms = [sum(row.depth is not None for row in nulls)]
    for place in range(len(OTHERS)):
        found.append(sum(row.others[place] is True for row in mutations))
        alarms.append(sum(row.others[place] is True for row in nulls))
    depths = ", ".join(f"{sum(row.depth == depth for row in mutations)} at depth {depth}" for depth in (1, 2, 3))
    header = f"| | edits noticed, of {len(mutations)} | false alarms, of {len(nulls)} |"
    rows = [f"| {name} | {yes} | {no} |" for name, yes, no in zip(names, found, alarms, strict=True)]
    return [header, "|---|---:|---:|", *rows, "", f"`sae-assay verify` found {depths}."]


def _table(rows: list[Row]) -> list[str]:
    marks = {True: "yes", False: "no", None: "-"}
    lines = [
        f"| what was changed | `sae-assay verify` | {' | '.join(OTHERS)} |",
        f"|---|---|{'---|' * len(OTHERS)}",
    ]
    for row in rows:
        found = (
            f"{row.depth}: {', '.join(row.codes)}" if row.depth else ("clean" if row.kind == "null" else "not found")
        )
        lines.append(f"| {row.changed} | {found} | {' | '.join(marks[other] for other in row.others)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="print these alone, and write nothing")
    chosen = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="sae-assay-tamper-") as folder:
        Path(folder).chmod(0o755)
        board = Board(Path(folder))
        rows = []
        for one in [*MUTATIONS, *NULL_CHANGES]:
            if chosen and one.name not in chosen:
                continue
            try:
                rows.append(board.mutation(one) if isinstance(one, Mutation) else board.null(one))
            except pytest.skip.Exception as reason:
                print(f"{one.name}: left out: {reason}", file=sys.stderr)
                continue
            print(f"{one.name}: {rows[-1].depth} {rows[-1].codes} {rows[-1].others}", file=sys.stderr, flush=True)
        rows = board.validated(rows)
    text = page([row for row in rows if row.kind != "null"], [row for row in rows if row.kind == "null"])
    if chosen:
        print(text)
    else:
        TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
