"""Bundles: one hash over all records of a study's ledger, chained to the bundle before it.

results/ledger/STUDY/bundles/NNNN.json is canonical JSON on one line, `id` = SHA-256 of the rest. What it says depends on
the records alone, not on their order or on line endings: its Merkle leaves are the sorted record ids, its file digests
those of the files as `record` writes them. Ids are recomputed from what the records say, never taken from them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_assay.audit import merkle
from sae_assay.audit.evidence import true_id
from sae_assay.audit.findings import Finding
from sae_assay.audit.reading import parse_json
from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import digest
from sae_assay.ledger.records import LEDGER, line, with_id

SCHEMA = 1
NAMES = "[0-9][0-9][0-9][0-9].json"
LOCK = "dvc.lock"
MAX_BYTES = 1 << 28
REQUIRED = {"type": str, "schema": int, "study": str, "number": int, "merkle_root": str, "records": dict}


@dataclass(frozen=True)
class Contents:
    """What a study's ledger holds now.

    Attributes:
        ids: id -> type of every record, computed from its content; a doubled record is in `doubled`.
        files: path -> SHA-256 of the file as `record` would write these records.
        plan: id of the plan record, None where there is none.
        findings: records whose stored id is not that of their content.
    """

    ids: tuple[tuple[str, str], ...]
    files: dict[str, str]
    plan: str | None
    findings: tuple[Finding, ...]

    @property
    def leaves(self) -> list[bytes]:
        """The Merkle leaves: record ids as bytes, sorted; a doubled record has two."""
        return sorted(bytes.fromhex(name) for name, _ in self.ids)

    @property
    def counts(self) -> dict[str, int]:
        """Number of records per type."""
        return dict(sorted(Counter(kind for _, kind in self.ids).items()))


def read_text(path: Path) -> str:
    """A text file of bounded size that is no link.

    Raises:
        AssayError: it is a link, too large, missing, or not UTF-8.
    """
    try:
        if path.is_symlink() or path.stat().st_size > MAX_BYTES:
            raise AssayError(str(path), f"is a link, or larger than {MAX_BYTES} bytes", "restore it from git")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AssayError(str(path), f"cannot be read: {error}", "restore it from git") from None


def folder_of(root: Path, study: str) -> Path:
    """Where a study's bundles are."""
    return root / LEDGER / study / "bundles"


def read_records(root: Path, study: str) -> list[tuple[str, dict[str, Any]]]:
    """Every record of git's ledger of a study with where it stands (`runs.jsonl:3`, blank lines not counted).

    Raises:
        AssayError: there is no ledger, or a line is no record.
    """
    found = []
    for path in sorted((root / LEDGER / study).glob("*.jsonl")):
        name = path.relative_to(root).as_posix()
        for number, text in enumerate(filter(str.strip, read_text(path).split("\n")), 1):
            record = parse_json(text, f"{name}:{number}")
            if not isinstance(record, dict) or not isinstance(record.get("type"), str):
                raise AssayError(f"{name}:{number}", "is no ledger record", "restore it from git")
            found.append((f"{name}:{number}", record))
    if not found:
        raise AssayError(str(root / LEDGER / study), "holds no records", "run `sae-assay record` first")
    return found


def read_contents(root: Path, study: str) -> Contents:
    """Read git's ledger of a study and compute every id again.

    Raises:
        AssayError: there is no ledger, or a line is no record.
    """
    ids, plans, findings = [], [], []
    lines: dict[str, list[str]] = {}
    for item, record in read_records(root, study):
        record_id = true_id(record)
        ids.append((record_id, record["type"]))
        lines.setdefault(item.rpartition(":")[0], []).append(line({**record, "id": record_id}))
        plans += [record_id] if record["type"] == "plan" else []
        if record.get("id") != record_id:
            remedy = "restore the record from git; whoever edited it must run the job again"
            findings.append(Finding("RECORD_ID_MISMATCH", item, record_id, ascii(record.get("id"))[:100], remedy))
    files = {name: hashlib.sha256("".join(sorted(texts)).encode()).hexdigest() for name, texts in lines.items()}
    return Contents(tuple(ids), files, plans[0] if len(plans) == 1 else None, tuple(findings))


def lock_digest(root: Path) -> str | None:
    """SHA-256 of dvc.lock with git's own line endings, None where there is none."""
    if not (root / LOCK).exists():
        return None
    return hashlib.sha256(read_text(root / LOCK).replace("\r\n", "\n").encode()).hexdigest()


def make_bundle(root: Path, study: str, commit: str, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    """The bundle over the ledger as it is now, which follows `earlier`."""
    contents = read_contents(root, study)
    lock = lock_digest(root)
    return with_id(
        {
            "type": "bundle",
            "schema": SCHEMA,
            "study": study,
            "number": len(earlier) + 1,
            "previous": earlier[-1]["id"] if earlier else None,
            "merkle_root": merkle.root(contents.leaves),
            "records": contents.counts,
            "plan": contents.plan,
            "commit": commit,
            "files": contents.files | ({LOCK: lock} if lock else {}),
        }
    )


def read_bundles(root: Path, study: str) -> list[dict[str, Any]]:
    """A study's bundles, the oldest first; empty where there are none.

    Raises:
        AssayError: a file is no bundle, or was written by a later version.
    """
    return [_read_bundle(path) for path in sorted(folder_of(root, study).glob(NAMES))]


def _read_bundle(path: Path) -> dict[str, Any]:
    bundle = parse_json(read_text(path), str(path))
    if not _is_bundle(bundle):
        raise AssayError(str(path), "is no bundle", "restore it from git")
    if bundle["schema"] > SCHEMA:
        raise AssayError(str(path), f"has schema {bundle['schema']}; known here: {SCHEMA}", "update sae-assay")
    return bundle


def _is_bundle(value: Any) -> bool:
    """Whether a JSON value has a bundle's shape: fields of a later or an earlier version may stand beside."""
    if not isinstance(value, dict) or not all(isinstance(value.get(k), kind) for k, kind in REQUIRED.items()):
        return False
    files = value.get("files", {})
    shapes = (
        all(type(count) is int for count in value["records"].values()),
        isinstance(files, dict) and all(isinstance(sha, str) for sha in files.values()),
        all(isinstance(value.get(name), str | None) for name in ("id", "previous", "commit", "plan")),
    )
    try:
        digest(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return all(shapes)


def check_chain(bundles: Iterable[dict[str, Any]], study: str) -> list[Finding]:
    """Whether each bundle is what its id says, of this study, and follows the one before it."""
    findings, before = [], None
    remedy = "restore the bundles from git"
    for number, bundle in enumerate(bundles, 1):
        item = f"bundle {number:04d}"
        bundle_id = true_id(bundle)
        if bundle.get("id") != bundle_id:
            findings.append(Finding("RECORD_ID_MISMATCH", item, bundle_id, str(bundle.get("id")), remedy))
        expected = {"number": number, "previous": before, "study": study}
        found = {name: bundle.get(name) for name in expected}
        if found != expected:
            findings.append(Finding("GRAPH_INVALID", item, _show(expected), _show(found), remedy))
        before = bundle_id
    return findings


def check_current(bundle: dict[str, Any], root: Path, contents: Contents) -> list[Finding]:
    """Whether the last bundle is over the records and the dvc.lock that are here now."""
    item, remedy = f"bundle {bundle['number']:04d}", "compare with git's history; if it is meant, sign a new bundle"
    findings = []
    now = merkle.root(contents.leaves)
    if bundle["merkle_root"] != now or bundle["records"] != contents.counts:
        expected = f"root {bundle['merkle_root'][:12]} over {_show(bundle['records'])}"
        found = f"root {now[:12]} over {_show(contents.counts)}"
        findings.append(Finding("STALE_BUNDLE", item, expected, found, remedy))
    files = bundle.get("files", {})
    if LOCK in files and files[LOCK] != lock_digest(root):
        findings.append(Finding("STALE_BUNDLE", f"{item}: {LOCK}", files[LOCK], lock_digest(root), remedy))
    return findings


def is_current(bundle: dict[str, Any], root: Path, contents: Contents) -> bool:
    """Whether a new bundle would say nothing new."""
    return not check_current(bundle, root, contents)


def prove(record_id: str, contents: Contents) -> merkle.Proof:
    """The proof that a record is in the ledger that a bundle is over.

    Raises:
        AssayError: the ledger has no such record.
    """
    leaves = contents.leaves
    try:
        return merkle.prove(leaves, leaves.index(bytes.fromhex(record_id)))
    except ValueError:
        raise AssayError(record_id, "is no record of this ledger", "name the id of a ledger record") from None


def check_proof(record_id: str, proof: merkle.Proof, bundle: dict[str, Any]) -> bool:
    """Whether a proof leads from a record to the bundle's root, over as many records as it counts."""
    return proof.size == sum(bundle["records"].values()) and merkle.check(
        bytes.fromhex(record_id), proof, bundle["merkle_root"]
    )


def _show(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()))
