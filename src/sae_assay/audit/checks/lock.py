"""The lock: dvc.lock names, folder by folder, exactly the bytes that the ledger names."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sae_assay.audit import reading
from sae_assay.audit.context import Context
from sae_assay.audit.findings import Finding
from sae_assay.audit.tree import CACHE, REMOTE
from sae_assay.errors import AssayError
from sae_assay.ledger.stages import STAGES

NAME = "lock"
LOCK = "dvc.lock"
REMEDY = "restore dvc.lock and results/ledger from one commit, or run `sae-assay record`"


def check(context: Context) -> list[Finding]:
    """Every output folder of dvc.lock against the artifacts under it."""
    try:
        locked = _folders(reading.read_yaml(context.root, LOCK))
    except reading.Unsafe as error:
        return [Finding("UNSAFE_INPUT", LOCK, None, error.problem, "restore dvc.lock from git")]
    except AssayError:
        context.skipped(NAME, LOCK, "the tree has none: the study is not stored with DVC here")
        return []
    mine = {f"{folder}/{context.study}" for folder, _ in STAGES.values()}
    if not mine & set(locked):
        context.skipped(NAME, LOCK, f"it holds no folder of study {context.study}")
        return []
    found = []
    for folder in sorted(mine):
        members = [r for path, rs in context.evidence.artifacts.items() if path.startswith(folder + "/") for r in rs]
        if folder not in locked and members:
            found.append(Finding("LOCK_LEDGER_DISAGREE", folder, "a stage that has it", "none", REMEDY))
        elif folder in locked:
            problems = _folder(context, folder, locked[folder], members)
            found += problems
        context.fine(NAME, folder, not any(f.item.startswith(folder) for f in found))
    return found


def _folders(lock: Any) -> dict[str, dict[str, Any]]:
    """Output folder -> what dvc.lock says of it."""
    stages = lock.get("stages") if isinstance(lock, dict) else None
    if not isinstance(stages, dict):
        raise reading.Unsafe(LOCK, "holds no stages", "restore it from git")
    found = {}
    for stage in stages.values():
        outs = stage.get("outs", []) if isinstance(stage, dict) else []
        for out in outs if isinstance(outs, list) else []:
            if isinstance(out, dict) and isinstance(out.get("path"), str):
                found[out["path"]] = out
    return found


def listing(folder: str, members: list[dict[str, Any]]) -> list[dict[str, str]]:
    """DVC's list of a folder: sorted `relpath`, `md5`."""
    return sorted(
        ({"md5": r["md5"], "relpath": r["path"].removeprefix(folder + "/")} for r in members),
        key=lambda entry: entry["relpath"],
    )


def _folder(context: Context, folder: str, out: dict[str, Any], members: list[dict[str, Any]]) -> list[Finding]:
    mine = listing(folder, members)
    name = hashlib.md5(json.dumps(mine, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
    sums = {"md5": name, "size": sum(r["size"] for r in members), "nfiles": len(members)}
    differing = {key: value for key, value in sums.items() if out.get(key) != value}
    if not differing:
        return []
    theirs = _object(context, str(out.get("md5")))
    if "md5" in differing and theirs is not None:
        return _members(folder, {e["relpath"]: e["md5"] for e in mine}, theirs)
    return [
        Finding("LOCK_LEDGER_DISAGREE", f"{folder}: {key}", str(value), str(out.get(key)), REMEDY)
        for key, value in differing.items()
    ]


def _members(folder: str, mine: dict[str, str], theirs: dict[str, str]) -> list[Finding]:
    found = []
    for name in sorted({*mine, *theirs}):
        if mine.get(name) != theirs.get(name):
            expected, seen = mine.get(name, "no such file"), theirs.get(name, "no such file")
            item = f"{folder}/{name}"
            found.append(
                Finding("LOCK_LEDGER_DISAGREE", item, f"md5 {expected} (ledger)", f"md5 {seen} (lock)", REMEDY)
            )
    return found


def _object(context: Context, md5: str) -> dict[str, str] | None:
    """The folder list that an md5 names, from the cache or the bundled remote, if it is intact."""
    for cache in (CACHE, REMOTE):
        path = f"{cache}/{md5[:2]}/{md5[2:]}"
        try:
            content = reading.read_bytes(context.root, path, reading.MAX_TEXT)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir" != md5:
                continue
            entries = reading.parse_json(content.decode("utf-8"), path)
            return {str(entry["relpath"]): str(entry["md5"]) for entry in entries}
        except (AssayError, UnicodeDecodeError, TypeError, KeyError):
            continue
    return None
