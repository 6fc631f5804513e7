"""Unfinished work that survives a kill: a folder named by everything that decides its bytes.

Outputs of a failed job are removed; shards and checkpoints lie here until their job is done. Another input, setting, module or
library gives another name, so that nothing is continued that would have begun differently.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sae_assay.errors import AssayError

ROOT = Path(".sae-assay/scratch")
JOURNAL = "journal.jsonl"
_BLOCK = 1 << 20


def folder(job: tuple[str, ...], settings: Mapping[str, Any], inputs: Iterable[str | Path], device: str) -> Path:
    """The folder of a job, made if it is not there; what an earlier form of the job left is removed.

    Args:
        job: names it, such as (study, substrate, "shards").
        settings: all that the step sees.
        inputs: files that decide its bytes, read here.
        device: where it computes.
    """
    key = {
        "settings": dict(settings),
        "inputs": [digest(path) for path in inputs],
        "device": device,
        "modules": _modules(),
        "libraries": {name: version(name) for name in ("numpy", "torch", "sae-lens")},
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    home = ROOT.joinpath(*job)
    home.mkdir(parents=True, exist_ok=True)
    for left in home.iterdir():
        if left.name != name:
            shutil.rmtree(left)
    (home / name).mkdir(exist_ok=True)
    return home / name


def digest(path: str | Path) -> str:
    """SHA-256 of a file, read in pieces."""
    found = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def settle(path: Path) -> None:
    """Have the disk hold a file's or folder's content before anything names it as finished."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def note(home: Path, entry: dict[str, Any]) -> None:
    """Add a line to the folder's journal: what is finished."""
    with (home / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(entry) + "\n")


def noted(home: Path) -> list[dict[str, Any]]:
    """The journal's entries, up to a line that a kill has torn."""
    found: list[dict[str, Any]] = []
    journal = home / JOURNAL
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def keep_noted(home: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Cut the journal to these entries; a kill leaves the one that was there."""
    part = home / f".{JOURNAL}"
    part.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    part.replace(home / JOURNAL)


def check_space(home: Path, need: int, key: str, remedy: str) -> None:
    """Refuse a job that the disk has no room for.

    Args:
        need: bytes still to be written.
        key: of the study.
        remedy: beside freeing space.
    """
    free = shutil.disk_usage(home).free
    if need > free:
        problem = f"needs {need / 1e9:.3g} GB more, the disk has {free / 1e9:.3g} GB left"
        raise AssayError(key, problem, f"free space, {remedy}")


def hand_over(source: Path, target: str | Path) -> None:
    """Give a finished file to its job's output; it stays here until the whole folder goes, should the job be killed now."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _modules() -> dict[str, str]:
    """SHA-256 of the package's modules in use."""
    package = str(Path(__file__).parent) + os.sep
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    return {file.removeprefix(package): digest(file) for file in sorted(files) if file.startswith(package)}
