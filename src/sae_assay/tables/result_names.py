"""Whose scores a result file holds, and at which evaluation seed: what the file says, else the folders above it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

UNKNOWN_SEED = "the evaluation seed is unknown: "
_SNAPSHOT = re.compile(r"[/_.-]?\bstep[-_](\d+)(?:[-_]tokens[-_](\d+))?|_step_(\d+)")
_SEED_FOLDER = re.compile(r"seed[-_]?(\d+)")
_DRIVER = re.compile(r"saebench_\w+")  # an evaluation's name that the audit's driver gives in place of a release


class Unusable(ValueError):
    """Why a file cannot be imported, in words that follow its name."""


@dataclass(frozen=True)
class Options:
    """What the study says of the files.

    Attributes:
        training_tokens: a snapshot that has seen so many tokens is its run's finished SAE; None: none is.
        seeds_from_folders: a file without a seed takes it from a folder `seed_42` above it.
    """

    training_tokens: int | None = None
    seeds_from_folders: bool = False


def seed(stated: Any, missing: str, path: PurePosixPath, options: Options) -> tuple[int | None, str | None]:
    """The evaluation seed, or None and why."""
    if stated is not None and (type(stated) is not int or not 0 <= stated < 2**63):
        raise Unusable(f"eval_config.random_seed is {stated!r}, no seed")
    named = [int(match[1]) for part in path.parts[:-1] if (match := _SEED_FOLDER.fullmatch(part))]
    if stated is not None and named and named[-1] != stated:
        raise Unusable(f"eval_config.random_seed is {stated}, and it lies in the folder of seed {named[-1]}")
    if stated is None and options.seeds_from_folders and named:
        return named[-1], None
    return stated, None if stated is not None else UNKNOWN_SEED + missing


_LAYOUT = {  # folders of the library and of the audit's driver, which name no SAE
    "snapshots",
    "eval_results",
    "core",
    "sparse_probing",
    "sparse_probing_sae_probes",
    "sae_probes",
    "normal_setting",
    "tpp",
    "scr",
    "absorption",
    "absorption_first_letter",
    "ravel",
    "autointerp",
}


def sae_name(release: str | None, sae_id: str | None, path: PurePosixPath) -> str:
    """`release/id` as SAELens knows it; a custom SAE's own name; else the folder that holds the file."""
    if sae_id and sae_id != "custom_sae":
        return f"{release}/{sae_id}" if release else sae_id
    if release and not _DRIVER.fullmatch(release):
        return release
    parts = [
        part
        for part in path.parts[1:-1]
        if part not in _LAYOUT and not _SEED_FOLDER.fullmatch(part) and not part.startswith("sae_probes_")
    ]
    return "/".join(parts) or path.parts[0]


def described(name: str, config: Any, path: PurePosixPath, options: Options) -> dict[str, Any]:
    """The SAE's columns; `RUN.step_0002441` names a snapshot, as everywhere."""
    if not isinstance(config, dict):
        raise Unusable("sae_cfg_dict is no object")
    match = _SNAPSHOT.search(name)
    step = int(match[1] or match[3]) if match else None
    tokens = int(match[2]) if match and match[2] else None
    run = (name[: match.start()] + name[match.end() :] if match else name) or path.parts[0]
    if any(ord(letter) < 32 for letter in run):
        raise Unusable(f"names its SAE {name!r}")
    finished = step is None or (options.training_tokens is not None and (tokens or 0) >= options.training_tokens)
    k, arch, seed = config.get("k"), config.get("architecture"), config.get("seed")
    return {
        "panel": "panel" if finished else "trajectory",
        "sae_id": run if finished else f"{run}.step_{step:07d}",
        "arch": arch if isinstance(arch, str) else None,
        "target_l0": float(k) if isinstance(k, int | float) and not isinstance(k, bool) else None,
        "training_seed": seed if type(seed) is int else None,
        "step": step,
        "tokens": tokens or None,  # the audit's code calls the first step's tokens 0
        "is_final": finished,
    }
