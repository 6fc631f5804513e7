"""What a number depends on beside code and data: locked packages, the instruction set, the thread count."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Literal

from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import digest
from sae_assay.ledger.files import STATE, hash_file, write_atomically

Group = Literal["light", "compute"]
PROJECT = "sae-assay"
# Direct dependencies that run, move, sign or show things and change no number.
TOOLS = (
    "dvc",
    "in-toto-attestation",
    "platformdirs",
    "psutil",
    "rich",
    "rocrate",
    "securesystemslib",
    "snakemake",
    "sqlglot",
    "typer",
)
LOCK = Path("uv.lock")
PROFILES: dict[str, dict[str, str]] = {
    # One path through ATen, oneDNN, MKL, OpenBLAS and numpy on every x86 CPU with AVX2, whoever made it
    # (docs/decisions.md). MKL's square root still differs: see numerics.py.
    "portable": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    },
    "native": {},
}
PROFILE_VARIABLES = tuple(PROFILES["portable"])
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def process_environment(profile: str, threads: int) -> dict[str, str]:
    """The environment variables that a step's process must start with; libraries read them when they load."""
    inherited = {key: value for key, value in os.environ.items() if key not in PROFILE_VARIABLES}
    fixed = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONPATH": str(Path("src").resolve())}
    fixed |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    fixed |= {"POLARS_MAX_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    # numba would find no place for compiled loops where source and home are read-only.
    fixed["NUMBA_CACHE_DIR"] = inherited.get("NUMBA_CACHE_DIR") or str((STATE / "numba").resolve())
    return inherited | fixed | PROFILES[profile]


@functools.cache
def locked_packages(group: Group) -> dict[str, str]:
    """Packages of uv.lock that a group of rules can reach: `name` -> version (several, comma-separated, where forked)."""
    return _locked_groups()[group]


@functools.cache
def lock_digest(group: Group) -> str:
    """Digest of a group's locked versions: a new development tool changes no number, so it changes no digest."""
    return digest(locked_packages(group))


def _locked_groups() -> dict[str, dict[str, str]]:
    try:
        key = hash_file(LOCK).sha256
    except FileNotFoundError:
        raise AssayError(str(LOCK), "is missing", "restore it from git, or run `uv lock`") from None
    cache = STATE / "locks" / f"{digest([key, TOOLS])}.json"
    if cache.exists():
        return json.loads(cache.read_text(encoding="utf-8"))
    groups = reachable(tomllib.loads(LOCK.read_text(encoding="utf-8")))
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(cache, json.dumps(groups))
    return groups


def reachable(lock: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Packages reachable from the project's dependencies, tools aside (light), and from its compute group too (compute)."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for package in lock["package"]:
        by_name.setdefault(package["name"], []).append(package)
    project = by_name[PROJECT][0]
    light = [need for need in project.get("dependencies", []) if need["name"] not in TOOLS]
    compute = light + project.get("dev-dependencies", {}).get("compute", [])
    return {"light": _closure(light, by_name), "compute": _closure(compute, by_name)}


def _closure(wanted: list[dict[str, Any]], by_name: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    queue, seen = list(wanted), set()
    found: dict[str, set[str]] = {}
    while queue:
        need = queue.pop()
        mark = (need["name"], need.get("version"), tuple(need.get("extra", ())))
        if mark in seen:
            continue
        seen.add(mark)
        for package in by_name.get(need["name"], []):
            if need.get("version") in (None, package.get("version")):
                found.setdefault(package["name"], set()).add(package.get("version", "local"))
                queue += package.get("dependencies", [])
                extras = package.get("optional-dependencies", {})
                queue += [more for extra in need.get("extra", ()) for more in extras.get(extra, [])]
    return {name: ",".join(sorted(versions)) for name, versions in sorted(found.items())}


@functools.cache
def environment_record(group: Group) -> dict[str, Any]:
    """The environment as locked and as installed; `differing` lists name: [locked, installed]."""
    locked = locked_packages(group)
    installed = {name: _installed(name) for name in locked}
    differing = {n: [locked[n], v] for n, v in installed.items() if v and v not in locked[n].split(",")}
    content = {
        "type": "environment",
        "schema": 1,
        "group": group,
        "lock_digest": lock_digest(group),
        "python": platform.python_version(),
        "installed": {name: version for name, version in installed.items() if version},
        "differing": differing,
    }
    return {"id": digest(content), **content}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None  # behind a marker that this platform does not meet


@functools.cache
def numeric_profile(profile: str) -> dict[str, Any]:
    """What decides the last bits of a floating-point sum here, known before anything is imported."""
    return {
        "profile": profile,
        "variables": PROFILES[profile],
        "machine": platform.machine(),
        "instruction_set": _instruction_set(profile),
        "torch": _installed("torch"),
        "numpy": _installed("numpy"),
    }


def cpu_model() -> str:
    """The processor's name, such as `AMD EPYC 9B14`; empty where the system does not say."""
    match = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.M)
    return match[1].strip() if match else platform.processor()


def _instruction_set(profile: str) -> str:
    """The widest that libraries take; where bfloat16 is fast, `native` takes other paths (`numerics.fast_bfloat16`)."""
    flags, wide = _flags(), [("avx512", "avx512f"), ("avx2", "avx2")]
    fast = [("amx", "amx_bf16"), ("avx512_bf16", "avx512_bf16")] if profile == "native" else []
    return next((name for name, flag in fast + wide if flag in flags), "other")


def _flags() -> set[str]:
    return set(re.findall(r"\w+", next(iter(re.findall(r"^flags\s*:.*$", _cpuinfo(), re.M)), "")))


@functools.cache
def _cpuinfo() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8") if file.exists() else ""


def source_state(paths: list[str]) -> dict[str, Any]:
    """The git commit, and whether any of these files differs from it (None and None outside git)."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    changed = _git("status", "--porcelain", "--", *paths)
    return {"commit": commit, "dirty": bool(changed)}


def _git(*arguments: str) -> str | None:
    try:
        run = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None
