"""Writes docs/measurements/tamper.md: every mutation and null change against this program and three others.

    uv run python -m tests.tamper.scoreboard [--rows FILE]

Half an hour on two cores; with `--rows`, finished rows are kept in a file, and a run that was cut off goes on there. It needs
the environment of roc-validator (`uv sync --frozen --project envs/rocrate`).
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
from dataclasses import asdict, dataclass
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
    """What came out for a mutation or a null change.

    Attributes:
        name: of the mutation or null change.
        depth: at which this program has findings; None: at none.
        codes: what it found.
        others: whether each of OTHERS notices; None where there was nothing to validate.
    """

    name: str
    depth: int | None
    codes: list[str]
    others: list[bool | None]


class Validator:
    """roc-validator's verdict on crates; those that differ in digests and numbers alone have one in common."""

    def __init__(self, folder: Path) -> None:
        self._crate = folder / "crate"
        self._verdicts: dict[str, bool] = {}

    def notices(self, root: Path) -> bool | None:
        """Whether the crate that is exported from a tree breaks a requirement; None where the export refuses the records."""
        shutil.rmtree(self._crate, ignore_errors=True)
        try:
            export(root, "tiny", "config.yaml", self._crate)
        except AssayError:
            return None
        entities = json.loads((self._crate / METADATA).read_text(encoding="utf-8"))["@graph"]
        shapes = sorted(re.sub(r"[0-9a-f]{12,}|[0-9]+", "0", json.dumps(entity, sort_keys=True)) for entity in entities)
        name = digest(shapes)
        if name not in self._verdicts:
            self._verdicts[name] = self._validate()
        return self._verdicts[name]

    def _validate(self) -> bool:
        command = [str(VALIDATOR / ".venv/bin/python"), str(VALIDATOR / "validate.py"), PROFILE, str(self._crate)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return "REQUIRED" in json.loads(done.stdout)[str(self._crate)]


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
        self._validator = Validator(folder)
        self._replays = Replays()
        self._others = {later: Others(self._forgery(f"clean-{later}", later)) for later in (False, True)}

    def _forgery(self, name: str, later: bool = False) -> Forgery:
        path = self._folder / name
        return Forgery(path, self._recorded, self._recorded.rerun if later else None)

    def mutation(self, one: Mutation) -> Row:
        forgery = self._forgery(one.name, one.later)
        one.change(forgery)
        depth, found = first_depth(forgery, one, self._replays)
        return self._row(forgery, one.name, depth, found, self._others[one.later])

    def null(self, one: NullChange) -> Row:
        forgery = self._forgery(one.name)
        how = one.change(forgery)
        forgery.options |= {"remote": True}
        report = audit(forgery, self._replays, 2) if how is None else command(forgery, how, 2)
        found = codes(report)
        return self._row(forgery, one.name, 2 if found else None, found, self._others[False], how)

    def _row(
        self,
        forgery: Forgery,
        name: str,
        depth: int | None,
        found: set[str],
        others: Others,
        how: Invocation | None = None,
    ) -> Row:
        project = Project(forgery.root)
        project.variables |= how.variables if how else {}
        valid = self._validator.notices(forgery.root)
        row = Row(name, depth, sorted(found), [*others.notice(project), valid])
        shutil.rmtree(forgery.path, ignore_errors=True)
        shutil.rmtree(forgery.outside, ignore_errors=True)
        return row

    def close(self) -> None:
        self._replays.close()


# The page --------------------------------------------------------------------------------------------------------------------
def page(rows: dict[str, Row]) -> str:
    """The scoreboard as Markdown."""
    mutations = {one: rows[one.name] for one in MUTATIONS}
    nulls = {one: rows[one.name] for one in NULL_CHANGES if one.name in rows}
    refused = sum(row.others[-1] is None for row in mutations.values())
    day, cores = datetime.now(UTC).date().isoformat(), os.cpu_count()
    lines = [
        "# Tampering: what is noticed, by whom",
        "",
        f"{len(mutations)} edits of a recorded project (the tiny study, run by Snakemake and recorded), and {len(nulls)} changes "
        "that change nothing, as `tests/tamper` makes them. "
        f"Written by `uv run python -m tests.tamper.scoreboard`, {cores} cores ({cpu_model()}), {day}.",
        "",
        *_totals(list(mutations.values()), list(nulls.values())),
        "",
        "How to read it. `sae-assay verify` ran from an installation outside of the project, and the number is the least depth at "
        "which it had findings. Depth 3 ran a sample of jobs that held the forged one: a sample of a share f of the jobs does so "
        f"with the chance that `verify` prints, {100 * detection(SHARE, 1):.0f} % for one forged job and f = {SHARE}, all for "
        "f = 1. Another tool *notices* an edit if its output or its exit code is another one than on the clean project. `dvc "
        "status` compares files with dvc.lock, and dvc.lock with what the stages declare. `snakemake -n` stands twice: as this "
        "project uses it, where it asks the ledger for what is current, and alone, with Snakemake's own triggers "
        f"({', '.join(TRIGGERS)}; no edit touches the one script that `code` would compare). "
        "roc-validator saw the RO-Crate that `sae-assay export ro-crate` made from the edited project, and noticed if a "
        f"requirement was broken; in {refused} cases the export refused the records (-), which is no merit of the validator's. It "
        "checks a crate's structure, DVC and Snakemake what needs to be computed again: none of the three was made for this.",
    ]
    for kind in dict.fromkeys(one.kind for one in mutations):
        chosen = [(one.changed, _found(row), row) for one, row in mutations.items() if one.kind == kind]
        lines += ["", f"## {kind}", "", *_table(chosen)]
    lines += ["", "## Not found, and why", ""]
    lines += [f"- {one.changed}: {one.limit}." for one, row in mutations.items() if row.depth is None]
    lines += ["", "## Changes that change nothing", "", "What is noticed here is a false alarm.", ""]
    lines += _table([(one.changed, _found(row, "clean"), row) for one, row in nulls.items()])
    return "\n".join(lines) + "\n"


def _totals(mutations: list[Row], nulls: list[Row]) -> list[str]:
    def noticed(rows: list[Row]) -> list[int]:
        return [sum(row.depth is not None for row in rows)] + [
            sum(row.others[place] is True for row in rows) for place in range(len(OTHERS))
        ]

    counts = zip(["`sae-assay verify`", *OTHERS], noticed(mutations), noticed(nulls), strict=True)
    depths = ", ".join(f"{sum(row.depth == depth for row in mutations)} at depth {depth}" for depth in (1, 2, 3))
    header = f"| | edits noticed, of {len(mutations)} | false alarms, of {len(nulls)} |"
    rows = [f"| {name} | {yes} | {no} |" for name, yes, no in counts]
    return [header, "|---|---:|---:|", *rows, "", f"`sae-assay verify` found {depths}."]


def _found(row: Row, nothing: str = "not found") -> str:
    return f"{row.depth}: {', '.join(row.codes)}" if row.depth else nothing


def _table(rows: list[tuple[str, str, Row]]) -> list[str]:
    marks = {True: "yes", False: "no", None: "-"}
    lines = [f"| what was changed | `sae-assay verify` | {' | '.join(OTHERS)} |", f"|---|---|{'---|' * len(OTHERS)}"]
    return lines + [
        f"| {changed} | {found} | {' | '.join(marks[other] for other in row.others)} |" for changed, found, row in rows
    ]


def read(file: Path | None) -> dict[str, Row]:
    """Finished rows, by name."""
    lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
    return {row.name: row for row in (Row(**json.loads(line)) for line in lines)}


def run(file: Path | None) -> dict[str, Row]:
    """Run what has no finished row yet; a null change that is not possible here is left out."""
    rows = read(file)
    left: list[Mutation | NullChange] = [one for one in [*MUTATIONS, *NULL_CHANGES] if one.name not in rows]
    with tempfile.TemporaryDirectory(prefix="sae-assay-tamper-") as folder:
        Path(folder).chmod(0o755)
        board = Board(Path(folder))
        for one in left:
            try:
                row = board.mutation(one) if isinstance(one, Mutation) else board.null(one)
            except pytest.skip.Exception as reason:
                print(f"{one.name}: left out: {reason}", file=sys.stderr)
                continue
            rows[one.name] = row
            text = json.dumps(asdict(row))
            print(text, file=sys.stderr, flush=True)
            if file is not None:
                with file.open("a", encoding="utf-8") as kept:
                    kept.write(text + "\n")
        board.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=Path, metavar="FILE", help="keep finished rows here, and go on where a run stopped"
    )
    TARGET.write_text(page(run(parser.parse_args().rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
