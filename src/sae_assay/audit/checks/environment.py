"""Environment: what was installed is what was locked, and the lock is the one in the tree."""

from __future__ import annotations

import tomllib

from sae_assay.audit import reading
from sae_assay.audit.context import Context
from sae_assay.audit.findings import Finding
from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import canonical, digest
from sae_assay.ledger.environment import reachable

NAME = "environment"
LOCK = "uv.lock"


def check(context: Context) -> list[Finding]:
    """Each environment record, and each run's lock digest."""
    found, locked = _lock(context)
    for record in context.evidence.of_type("environment"):
        item = f"environment {record['id'][:12]} ({record['group']})"
        problems = []
        for name, versions in sorted(record["differing"].items()):
            seen = f"{name}: locked, installed {canonical(versions)[:120]}"
            problems.append(Finding("ENV_MISMATCH", item, "installed as locked", seen, "run `uv sync`, then run again"))
        if locked:
            problems += _installed(item, record["installed"], locked[record["group"]])
            problems += _digest(item, record["lock_digest"], record["group"], locked)
        context.fine(NAME, item, not problems)
        found += problems
    return found + _runs(context)


def _lock(context: Context) -> tuple[list[Finding], dict[str, dict[str, str]]]:
    """The tree's locked packages by group; empty where the lock cannot be read."""
    try:
        return [], reachable(tomllib.loads(reading.read_text(context.root, LOCK).replace("\r\n", "\n")))
    except (AssayError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        context.judged(NAME, LOCK, "DIFFERS")
        problem = str(error) or type(error).__name__
        return [Finding("ENV_MISMATCH", LOCK, "a lock that can be read", problem[:200], "restore uv.lock from git")], {}


def _installed(item: str, installed: dict[str, str], locked: dict[str, str]) -> list[Finding]:
    """Installed versions that the lock does not name, whatever the record says of differences."""
    found = []
    for name, version in sorted(installed.items()):
        if version not in locked.get(name, "").split(","):
            expected = locked.get(name, "not locked")
            found.append(Finding("ENV_MISMATCH", f"{item}: {name}", expected, version, "run `uv sync`, then run again"))
    return found


def _digest(item: str, recorded: str, group: str, locked: dict[str, dict[str, str]]) -> list[Finding]:
    now = digest(locked[group])
    if recorded == now:
        return []
    remedy = "restore uv.lock from git, or run the jobs again under the new lock"
    return [Finding("ENV_MISMATCH", f"{item}: uv.lock", recorded, now, remedy)]


def _runs(context: Context) -> list[Finding]:
    """A run's lock digest and group are those of its environment record."""
    found = []
    for run in context.evidence.runs:
        environment = context.evidence.records.get(run.raw["environment"], {})
        for name in ("lock_digest", "group"):
            if environment and run.raw[name] != environment.get(name):
                item, remedy = f"{run.label}: {name}", "restore results/ledger from git"
                found.append(Finding("ENV_MISMATCH", item, str(environment.get(name)), str(run.raw[name]), remedy))
        numpy, torch = (run.raw["numeric_profile"].get(name) for name in ("numpy", "torch"))
        for name, version in (("numpy", numpy), ("torch", torch)):
            known = environment.get("installed", {}).get(name)
            if known and version and known != version:
                item, remedy = f"{run.label}: {name}", "restore results/ledger from git"
                found.append(Finding("ENV_MISMATCH", item, known, str(version), remedy))
    return found
