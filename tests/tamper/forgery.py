"""A recorded project in the hands of somebody who edits it, and reseals what was edited as well as the ledger's own functions can."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from tests.project import Project, recorded_project

from sae_assay.audit import bundle, signing
from sae_assay.audit.evidence import FOLDED, true_id
from sae_assay.audit.schemas import RUN_ID_FIELDS
from sae_assay.ledger import records
from sae_assay.ledger.canonical import canonical, digest
from sae_assay.ledger.files import hash_file
from sae_assay.tables import scores

STUDY = "tiny"
LEDGER = f"results/ledger/{STUDY}"
SAE, OTHER = "toy_l0_02_seed_0", "toy_l0_04_seed_0"
TABLE = f"results/table/{STUDY}/scores.parquet"
PAGE, CELLS = (f"results/report/{STUDY}/{name}" for name in ("report.html", "cells.json"))
Record = dict[str, Any]
Frame = Callable[[pl.DataFrame], pl.DataFrame]


def score_file(sae: str = SAE, seed: int = 42) -> str:
    """Where the scores of an SAE at an evaluation seed are."""
    return f"results/scores/{STUDY}/toy/{sae}/{seed}.parquet"


def statistic(name: str) -> str:
    return f"results/statistics/{STUDY}/{name}.parquet"


def chart(name: str, suffix: str = "json") -> str:
    return f"results/charts/{STUDY}/{name}.{suffix}"


class Recorded:
    """The projects that are tampered with, each made when it is first asked for.

    Attributes:
        project: the tiny study, run and recorded.
    """

    def __init__(self, folder: Path, project: Project | None = None) -> None:
        self._folder = folder
        self.project = project or recorded_project(folder / "recorded")
        self._rerun: Project | None = None

    @property
    def rerun(self) -> Project:
        """The same project, whose world was then drawn with another seed, run again and recorded in a later commit."""
        if self._rerun is None:
            project = Project(self._folder / "rerun")
            copy(self.project.path, project.path)
            project.edit("config.yaml", "hidden_dim: 24, seed: 42", "hidden_dim: 24, seed: 7")
            project.git("commit", "-qam", "another world")
            project.snakemake()
            project.assay("record", "--push")
            project.git("add", "-A")
            project.git("commit", "-qm", "its results")
            self._rerun = project
        return self._rerun


def copy(source: Path, target: Path) -> None:
    """A copy of a project, links and times kept."""
    shutil.copytree(source, target, symlinks=True)


class Forgery(Project):
    """A copy of a recorded project, free to be changed.

    Attributes:
        recorded: what it was copied from.
        root: what the auditor looks at; the copy, unless a change says otherwise.
        options: what the auditor asks for, besides the depth (`verify.Options`).
        package: the installation that the auditor uses; None: this repository's.
        outside: a folder beside the project, for keys and the like.
    """

    def __init__(self, path: Path, recorded: Recorded, source: Project | None = None) -> None:
        copy((source or recorded.project).path, path)
        super().__init__(path)
        self.recorded = recorded
        self.root = path
        self.options: dict[str, Any] = {}
        self.package: Path | None = None
        self.outside = path.with_name(f"{path.name}-outside")
        self.outside.mkdir()

    # Files -----------------------------------------------------------------------------------------------------------------
    def file(self, name: str) -> Path:
        return self.path / name

    def write(self, name: str, content: str | bytes) -> None:
        """Replace a file's content."""
        self.file(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def replace(self, name: str, old: str, new: str, count: int = 1) -> None:
        """Replace the first occurrences of a text; it must occur."""
        text = self.file(name).read_text(encoding="utf-8")
        assert old in text, f"{old!r} does not occur in {name}"
        self.write(name, text.replace(old, new, count))

    def rewrite(self, name: str, change: Frame) -> None:
        """Change a table."""
        file = self.file(name)
        if name.startswith("results/scores/"):
            scores.write(change(scores.read(file)), file)
        else:
            scores.write_pinned(change(pl.read_parquet(file)), file)

    def exchange(self, first: str, second: str) -> None:
        """Let two files exchange their contents."""
        one, two = (self.file(name).read_bytes() for name in (first, second))
        self.write(first, two)
        self.write(second, one)

    def cells(self) -> list[Record]:
        return json.loads(self.file(CELLS).read_text(encoding="utf-8"))["cells"]

    # Records ---------------------------------------------------------------------------------------------------------------
    def records(self, kind: str) -> list[Record]:
        """The records of a type."""
        file = self.file(f"{LEDGER}/{records.FILES[kind]}")
        return list(map(json.loads, file.read_text(encoding="utf-8").splitlines())) if file.exists() else []

    def write_records(self, kind: str, found: list[Record]) -> None:
        """Write the records of a type as `record` does."""
        self.write(f"{LEDGER}/{records.FILES[kind]}", "".join(sorted({records.line(record) for record in found})))

    def edit_records(self, kind: str, change: Callable[[Record], None], seal: bool = True) -> None:
        """Change every record of a type; with `seal`, give it the id of its new content."""
        found = self.records(kind)
        for record in found:
            change(record)
        self.write_records(kind, [{**record, "id": true_id(record)} for record in found] if seal else found)

    def runs(self) -> list[Record]:
        """The run records, their blobs resolved."""
        blobs = {record["id"]: record["value"] for record in self.records("blob")}
        found = self.records("run")
        for run in found:
            run |= {name: blobs[run[name]["blob"]] for name in FOLDED if set(run[name]) == {"blob"}}
        return found

    def write_runs(self, runs: list[Record]) -> None:
        """Write run records with every digest in them true again: of parameters, of the run, of blobs, of the record."""
        short, blobs = [], []
        for run in runs:
            run["params_digest"] = digest(run["params"])
            run["run_id"] = digest({name: run[name] for name in RUN_ID_FIELDS[run["schema"]]})
            folded, more = records.fold({k: v for k, v in run.items() if k != "id"}, FOLDED)
            short.append(records.with_id(folded))
            blobs += more
        self.write_records("run", short)
        self.write_records("blob", blobs)

    def edit_runs(self, change: Callable[[Record], None], rule: str = "", **wildcards: str) -> None:
        """Change the runs of a rule (of every rule), and reseal them."""
        runs = self.runs()
        chosen = [r for r in runs if r["rule"].startswith(rule) and wildcards.items() <= r["wildcards"].items()]
        assert chosen, f"there is no run of {rule} {wildcards}"
        for run in chosen:
            change(run)
        self.write_runs(runs)

    def reseal(self, *paths: str, readers: bool = True) -> None:
        """Let the records say of these files what they are now: in artifacts, in the run that made them, in those that read them.

        Without `readers`, the jobs that read them are out of date, and Snakemake runs them again.
        """
        now = {path: hash_file(self.file(path)) for path in paths}

        def artifact(record: Record) -> None:
            if record["path"] in now:
                new = now[record["path"]]
                record.update(sha256=new.sha256, size=new.size, md5=new.md5)

        def run(record: Record) -> None:
            for side in ("outputs", "inputs") if readers else ("outputs",):
                record[side] = {path: now[path].sha256 if path in now else sha for path, sha in record[side].items()}

        self.edit_records("artifact", artifact)
        self.edit_runs(run)

    # Commits, and the project's own tools ------------------------------------------------------------------------------------
    def commit(self) -> None:
        """Tell DVC and git that all of this is as it should be."""
        self.dvc("commit", "-f", "-q")
        self.git("add", "-A")
        self.git("commit", "-qm", "results")

    def forget(self) -> None:
        """Take the recorded results out of git's history, as before they were ever committed; the files stay."""
        self.git("reset", "-q", "--soft", "HEAD~1")

    def rerun(self) -> None:
        """Run what is out of date with the project's own tools, record it and commit."""
        self.snakemake()
        self.assay("record", "--prune")
        self.git("add", "-A")
        self.git("commit", "-qm", "results")

    def pass_off(self, *paths: str) -> None:
        """Pass these files off as what their jobs made, before anything was published: everything behind them is honest work."""
        self.forget()
        self.reseal(*paths, readers=False)
        self.rerun()

    # Signatures --------------------------------------------------------------------------------------------------------------
    def key(self, name: str) -> Path:
        """A new private key, outside the project."""
        path = self.outside / f"{name}.pem"
        signing.generate_key(path)
        return path

    def trust(self, *keys: Path, file: Path | None = None) -> Path:
        """A list of trusted keys: the auditor's own, unless a file is named."""
        loaded = [(key.stem, signing.load_key(key).public_key) for key in keys]
        entries = [{"name": name, "keyid": key.keyid, "public": key.keyval["public"]} for name, key in loaded]
        file = file or self.outside / "trusted.yaml"
        file.write_text(canonical({"ed25519": entries}))
        return file

    def sign(self, key: Path) -> None:
        """Bundle the committed records and sign them, whatever they say."""
        earlier = bundle.read_bundles(self.path, STUDY)
        made = bundle.make_bundle(self.path, STUDY, self.git("rev-parse", "HEAD").strip(), earlier)
        file = bundle.folder_of(self.path, STUDY) / f"{made['number']:04d}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(records.line(made), encoding="utf-8")
        signing.sign(made, file, key)
        self.git("add", "-A")
        self.git("commit", "-qm", "bundle")


def owned_by(path: Path, user: int) -> None:
    """Give a tree to another user."""
    for file in [path, *path.rglob("*")]:
        os.chown(file, user, user, follow_symlinks=False)


def permit(path: Path, files: int, folders: int) -> None:
    """Set the permission bits of a tree."""
    for file in [path, *path.rglob("*")]:
        if not file.is_symlink():
            file.chmod(folders if stat.S_ISDIR(file.stat().st_mode) else files)
