"""Bytes: SHA-256 and MD5 of every artifact on disk, in the DVC cache and, on request, in the bundled remote."""

from __future__ import annotations

import os
from pathlib import Path

from sae_assay.audit import reading
from sae_assay.audit.context import Context
from sae_assay.audit.findings import Finding
from sae_assay.audit.tree import CACHE, REMOTE
from sae_assay.ledger.files import Artifact, hash_file

NAME = "bytes"
OUTPUTS = ("results/statistics/", "results/charts/", "results/report/")
RESULTS = "results/"
PULL = "run `dvc pull --force`, or run the job again"


def check(context: Context) -> list[Finding]:
    """Depth 1: the files under results/. Depth 2: every file, and the cache (and remote) objects too."""
    recorded = _recorded(context)
    found = _on_disk(context, recorded)
    found += _extra(context, set(recorded))
    if context.options.depth >= 2:
        stores = [CACHE, *([REMOTE] if context.options.remote else [])]
        for store in stores:
            found += _store(context, store, recorded)
        if not context.options.remote:
            context.skipped(NAME, REMOTE, "not asked for (--remote)")
    else:
        context.skipped(NAME, "data/ and the DVC cache", "hashed at depth 2")
    return found


def _recorded(context: Context) -> dict[str, Artifact]:
    """Path -> identity of what the recorded runs made."""
    found = {}
    for path, sha in context.evidence.outputs.items():
        record = next((r for r in context.evidence.artifacts.get(path, []) if r["sha256"] == sha), None)
        if record is not None and reading.safe_path(path) is None:
            found[path] = Artifact(sha, record["size"], record["md5"])
    return found


def _on_disk(context: Context, recorded: dict[str, Artifact]) -> list[Finding]:
    targets = set(context.plan.targets())
    found: list[Finding] = []
    wrong: dict[str, str] = {}
    for number, (path, wanted) in enumerate(sorted(recorded.items())):
        if context.options.depth < 2 and not path.startswith(RESULTS):
            continue
        if number % 50 == 0:
            context.progress(f"bytes: {path}")
        try:
            now = context.tree.artifact(path)
        except reading.Unsafe as error:
            context.fine(NAME, path, False)
            found.append(Finding("UNSAFE_INPUT", path, "a file in the tree", error.problem, PULL))
            continue
        if now is None and path in targets:
            context.fine(NAME, path, False)
            found.append(Finding("COVERAGE_GAP", path, wanted.sha256, "no such file", PULL))
        elif now is None:
            context.skipped(NAME, path, "it is not here (too heavy for the bundled remote); its digest is recorded")
        else:
            context.fine(NAME, path, now == wanted)
            if now.sha256 != wanted.sha256:
                wrong[path] = now.sha256
            elif now != wanted:
                seen = f"size {now.size}, md5 {now.md5}"
                expected = f"size {wanted.size}, md5 {wanted.md5}"
                found.append(Finding("ARTIFACT_HASH_MISMATCH", path, expected, seen, "restore results/ledger from git"))
    return found + _wrong(wrong, recorded)


def _wrong(wrong: dict[str, str], recorded: dict[str, Artifact]) -> list[Finding]:
    """Files with other bytes; two that have each other's are one finding each, SWAPPED."""
    found = []
    for path, now in sorted(wrong.items()):
        expected = recorded[path].sha256
        partner = next(
            (p for p, sha in wrong.items() if p != path and (sha, recorded[p].sha256) == (expected, now)), None
        )
        code = "OUTPUT_HASH_MISMATCH" if path.startswith(OUTPUTS) else "ARTIFACT_HASH_MISMATCH"
        if partner:
            found.append(Finding("SWAPPED", path, expected, f"{now}, which is {partner}", PULL))
        else:
            found.append(Finding(code, path, expected, now, PULL))
    return found


def _extra(context: Context, recorded: set[str]) -> list[Finding]:
    """Files in the study's folders that no record names."""
    folders = [f for f in context.plan.folders if context.options.depth >= 2 or f.as_posix().startswith(RESULTS)]
    found = []
    for path in _files(context.root, folders):
        if path not in recorded:
            context.fine(NAME, path, False)
            remedy = "delete it, or record it (`sae-assay record`)"
            found.append(Finding("MISSING_PRODUCER", path, "a record", "a file that no record names", remedy))
    return found


def _files(root: Path, folders: list[Path]) -> list[str]:
    found = []
    for folder in folders:
        for base, names, files in os.walk(root / folder, followlinks=False):
            names[:] = sorted(name for name in names if not name.startswith("."))
            where = Path(base).relative_to(root).as_posix()
            links = [name for name in names if (Path(base) / name).is_symlink()]
            found += [f"{where}/{name}" for name in [*sorted(files), *links] if not name.startswith(".")]
    return found


def _store(context: Context, store: str, recorded: dict[str, Artifact]) -> list[Finding]:
    """Objects of a DVC store, by the MD5 that names them. A missing one is not checked: `dvc pull` brings it."""
    found = []
    if not (context.root / store).is_dir():
        context.skipped(NAME, store, "there is no such store here")
        return []
    missing = 0
    for number, (path, wanted) in enumerate(sorted(recorded.items())):
        name = f"{store}/{wanted.md5[:2]}/{wanted.md5[2:]}"
        if number % 50 == 0:
            context.progress(f"bytes: {name}")
        try:
            file = reading.inside(context.root, name)
        except reading.Unsafe as error:
            found.append(Finding("UNSAFE_INPUT", name, "a file in the tree", error.problem, PULL))
            continue
        if not file.is_file():
            missing += 1
            continue
        now = hash_file(file)
        context.fine(NAME, name, now == wanted)
        if now != wanted:
            seen = f"{now.sha256} (it stores {path})"
            remedy = "delete this object and run `dvc pull`, or restore data/remote from git"
            found.append(Finding("ARTIFACT_HASH_MISMATCH", name, wanted.sha256, seen, remedy))
    if missing:
        context.skipped(NAME, f"{store}: {missing} objects", "they are not in this store")
    return found
