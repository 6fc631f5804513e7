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

ROOT = Path(".sae-assay/scratch")
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
