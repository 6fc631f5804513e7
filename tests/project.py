"""A project folder of the tiny study, and the commands that a user runs in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = (
    "Snakefile",
    "rules",
    "profiles",
    "studies",
    "src",
    "uv.lock",
    "pyproject.toml",
    ".gitignore",
    ".dvcignore",
    "tolerances.yaml",
    "CITATION.cff",
    "trusted-keys.yaml",
    ".gitattributes",
)


class Project:
    """A project folder, and the commands that a user runs in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SNAKEMAKE_", "PYTEST_"))}
        self.variables = inherited | {
            "PYTHONPATH": str(path / "src"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command; its output is in `stdout`."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments).stdout

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments).stdout

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        return self.run(sys.executable, "-m", "snakemake", "--cores", "2", "--nocolor", *arguments, check=check).stdout

    def assay(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "sae_assay.cli", *arguments, check=check)

    def record_and_verify(self, study: str = "config.yaml") -> None:
        """Commit, record, commit, and hold all of it to depth 2."""
        self.git("add", "-A")
        self.git("commit", "-qm", "as it is", "--allow-empty")
        self.assay("record", "--study", study)
        self.git("add", "-A")
        self.git("commit", "-qm", "recorded", "--allow-empty")
        done = self.assay("verify", "--study", study, "--depth", "2", "--json", check=False)
        assert done.returncode == 0, json.loads(done.stdout)["findings"]

    def planned(self) -> dict[str, int]:
        """Rules that a dry run plans, with the number of their jobs."""
        text = self.snakemake("-n")
        words = [line.split() for line in text.splitlines()]
        rules = Counter(w[1].rstrip(":") for w in words if len(w) == 2 and w[0] in ("rule", "localrule"))
        del rules["all"]
        assert bool(rules) != ("Nothing to be done" in text)
        return dict(rules)

    def ran(self) -> dict[str, int]:
        """Run the workflow; rules whose jobs computed something, cut-off ones aside."""
        text = self.snakemake()
        done = Counter(re.findall(r"\(Rule: (\w+)\)", text))
        kept = Counter(re.findall(r"sae-assay: (\w+)[^:\n]*: nothing that it depends on", text))
        del done["all"]
        return {rule: count for rule, count in (done - kept).items() if count}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.path / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def flip(self, file: str) -> None:
        """Flip a bit in the middle of a file, and keep its size and modification time."""
        path = self.path / file
        status, data = path.stat(), bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        with path.open("r+b") as opened:
            opened.write(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def kill_during_run(self, until: str) -> None:
        """Start the workflow and kill all its processes with -9 once a file that matches `until` exists."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2"]
        process = subprocess.Popen(
            command,
            cwd=self.path,
            env=self.variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(3000):
            if any(self.path.glob(until)) or process.poll() is not None:
                break
            time.sleep(0.05)
        assert process.poll() is None, "the workflow ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def project_of(path: Path, config: str) -> Project:
    """A project with this repository's code, in git, whose config.yaml is `config`; nothing is computed yet."""
    project = Project(path)
    project.path.mkdir()
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project.path / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, project.path / name)
    for folder in (".", "data/activations"):
        (project.path / folder / ".dvc").mkdir(parents=True)
        for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore"):
            shutil.copy(ROOT / folder / name, project.path / folder / name)
    shutil.copy(ROOT / "data/registry.yaml", project.path / "data/registry.yaml")
    (project.path / "config.yaml").write_text(config, encoding="utf-8")
    project.git("init", "-q")
    project.git("add", "-A")
    project.git("commit", "-qm", "code")
    return project


def pull_away_from(project: Project, path: Path) -> Project:
    """A clone after `dvc pull`, made while the original was out of reach."""
    clone = Project(path)
    project.run("git", "clone", "-q", str(project.path), str(clone.path))
    away = project.path.with_name("away")
    project.path.rename(away)
    try:
        clone.git("remote", "remove", "origin")
        clone.dvc("pull", "-q")
        assert clone.planned() == {}
    finally:
        away.rename(project.path)
    return clone


def recorded_project(path: Path) -> Project:
    """A project that has run the tiny study as its default one and recorded it."""
    project = project_of(path, (ROOT / "studies/tiny.yaml").read_text(encoding="utf-8"))
    project.snakemake()
    project.assay("record", "--push")
    project.git("add", "-A")
    project.git("commit", "-qm", "results")
    return project
