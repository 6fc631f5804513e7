"""Digests of files, remembered by their inode's signature, so that ten thousand intact files cost a stat each."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

STATE = Path(".sae-assay")
SIGNATURES = STATE / "signatures.json"
# A file written within the file system's clock tick of its hashing could change again without a new ctime.
SETTLED_NS = 20_000_000
BLOCK = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """A file's identity: SHA-256 (hex), size in bytes, and the MD5 (hex) by which DVC stores it."""

    sha256: str
    size: int
    md5: str


def hash_file(path: str | Path) -> Artifact:
    """Read a file once and digest it.

    Raises:
        OSError: it cannot be read.
    """
    sha, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with open(path, "rb") as file:  # noqa: PTH123 - ten thousand files: Path costs more than the stat
        while block := file.read(BLOCK):
            sha.update(block)
            md5.update(block)
            size += len(block)
    return Artifact(sha.hexdigest(), size, md5.hexdigest())


class Hasher:
    """Digests by path. A signature is (size, mtime, ctime, inode); nobody can set a ctime, so an edit always shows."""

    def __init__(self, store: Path | None = SIGNATURES) -> None:
        self._store = store
        self._known: dict[str, list] = {}
        self._seen: dict[str, Artifact | None] = {}
        if store is not None and store.exists():
            try:
                self._known = json.loads(store.read_text(encoding="utf-8"))
            except ValueError:
                self._known = {}  # a cache: a torn file only costs time

    def artifact(self, path: str) -> Artifact | None:
        """The file's identity as of its first look-up by this object; None where there is no such file."""
        if path not in self._seen:
            self._seen[path] = self._look_up(path)
        return self._seen[path]

    def sha256(self, path: str) -> str | None:
        """The file's SHA-256, None where there is no such file."""
        found = self.artifact(path)
        return found.sha256 if found else None

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        """Give a file a modification time without forgetting its digest."""
        status = _status(path)
        if status.st_mtime_ns == mtime_ns:
            return
        os.utime(path, ns=(mtime_ns, mtime_ns))
        if path in self._known:
            self._known[path][0] = _signature(_status(path))

    def save(self) -> None:
        """Remember the signatures of the files looked up."""
        if self._store is None:
            return
        kept = {path: self._known[path] for path in self._seen if path in self._known}
        self._store.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._store, json.dumps(kept))

    def _look_up(self, path: str) -> Artifact | None:
        try:
            signature = _signature(_status(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        known = self._known.get(path)
        if known is not None and known[0] == signature:
            return Artifact(*known[1:])
        found = hash_file(path)
        if time.time_ns() - signature[2] > SETTLED_NS:
            self._known[path] = [signature, found.sha256, found.size, found.md5]
        else:
            self._known.pop(path, None)
        return found


def _status(path: str) -> os.stat_result:
    return os.stat(path)  # noqa: PTH116 - as above


def _signature(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that readers see the old or the new text, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
