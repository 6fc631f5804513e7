"""The tree under audit: digests of its files, its git history, and the verifier's own package beside it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cached_property
from pathlib import Path

import sae_assay
from sae_assay.audit import reading
from sae_assay.ledger.files import Artifact, hash_file

PACKAGE = "src/sae_assay/"
CACHE, REMOTE = ".dvc/cache/files/md5", "data/remote/files/md5"  # where DVC keeps objects by their MD5
TEXT_SUFFIXES = (".py", ".sql", ".yml", ".yaml", ".toml", ".lock", ".csv", ".css", ".js", ".j2", ".smk", "")
# Nothing that a stranger's .git/config can name is run: no hook, no monitor, no lazy fetch, no transport.
_GIT = (
    *("git", "--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "safe.directory=*", "-c", "log.showSignature=false"),
)
_GIT_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
}


def own_package() -> Path:
    """The verifier's own package folder."""
    return Path(sae_assay.__file__).parent


def package_digest() -> str:
    """SHA-256 over the verifier's files: sorted lines `path sha256`."""
    base = own_package()
    files = sorted(p for p in base.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    lines = [f"{p.relative_to(base).as_posix()} {hashlib.sha256(p.read_bytes()).hexdigest()}\n" for p in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def text_digests(content: bytes) -> set[str]:
    """SHA-256 of a text file's bytes, as they are and with the line endings that git stores (LF)."""
    return {hashlib.sha256(content).hexdigest(), hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()}


class Tree:
    """Files and history of one checkout; every digest is taken from the bytes, once."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._artifacts: dict[str, Artifact | None] = {}
        self._texts: dict[str, set[str]] = {}
        self._own: dict[str, set[str]] = {}

    def artifact(self, path: str) -> Artifact | None:
        """SHA-256, size and MD5 of a file; None where it is missing.

        Raises:
            Unsafe: see `reading.inside`.
        """
        if path not in self._artifacts:
            file = reading.inside(self.root, path)
            self._artifacts[path] = hash_file(file) if file.is_file() else None
        return self._artifacts[path]

    def text(self, path: str) -> set[str]:
        """Acceptable SHA-256 of a text file (see `text_digests`); empty where it is missing."""
        if path not in self._texts:
            file = reading.inside(self.root, path)
            self._texts[path] = text_digests(reading.read_bytes(self.root, path)) if file.is_file() else set()
        return self._texts[path]

    def own(self, path: str) -> set[str]:
        """The same of the verifier's copy of a package file (`src/sae_assay/...`)."""
        if path not in self._own:
            file = own_package() / path.removeprefix(PACKAGE)
            self._own[path] = text_digests(file.read_bytes()) if file.is_file() else set()
        return self._own[path]

    @cached_property
    def history(self) -> History | None:
        """Git's history of the tree; None where the tree is no git repository of its own."""
        history = History(self.root)
        return history if history.head else None


class History:
    """Reads git's objects; never checks out, never runs a filter, and only looks at the repository whose top is `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self.head = self.git("rev-parse", "--verify", "-q", "HEAD^{commit}") or ""

    def _run(self, arguments: tuple[str, ...], given: bytes = b"") -> bytes | None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        variables = kept | _GIT_ENVIRONMENT | {"GIT_DIR": str(self._root / ".git"), "LC_ALL": "C"}
        if not (self._root / ".git").exists():
            return None
        try:
            command = [*_GIT, *arguments]
            done = subprocess.run(command, cwd=self._root, env=variables, input=given, capture_output=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout if done.returncode == 0 else None

    def git(self, *arguments: str) -> str | None:
        """What a git command prints, stripped; None where it fails."""
        found = self._run(arguments)
        return None if found is None else found.decode("utf-8", "replace").strip()

    @cached_property
    def commits(self) -> set[str]:
        """Every commit that HEAD descends from."""
        return set((self.git("rev-list", "HEAD") or "").split())

    @property
    def shallow(self) -> bool:
        return self.git("rev-parse", "--is-shallow-repository") == "true"

    def touching(self, path: str, limit: int = 500) -> list[str]:
        """Commits that changed a path, the newest first."""
        return (self.git("rev-list", f"--max-count={limit}", "HEAD", "--", path) or "").split()

    def files(self, names: list[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """(commit, path) -> content, of those that exist; one git process for all."""
        asked = "".join(f"{commit}:{path}\n" for commit, path in names if "\n" not in path)
        answer = self._run(("cat-file", "--batch"), asked.encode()) or b""
        found: dict[tuple[str, str], bytes] = {}
        position = 0
        for name in (pair for pair in names if "\n" not in pair[1]):
            end = answer.find(b"\n", position)
            header = answer[position:end].split(b" ")
            position = end + 1
            if len(header) == 3 and header[1] == b"blob" and header[2].isdigit():
                size = int(header[2])
                found[name] = answer[position : position + size]
                position += size + 1
            elif len(header) == 3 and header[2].isdigit():
                position += int(header[2]) + 1
        return found
