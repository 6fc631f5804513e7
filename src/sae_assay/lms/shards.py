"""Cached activations: shards (safetensors, `rows` [n, d_model]) and a manifest that names each with its SHA-256.

Shards are written one after the other into a scratch folder, each under its name only when it is whole, with a line in a
journal. A restart keeps those that the journal names and whose bytes match, and goes on behind the last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save_file
from tqdm import tqdm

from sae_assay import scratch
from sae_assay.errors import AssayError
from sae_assay.lms.stream import DTYPES, Position, TokenRows

if TYPE_CHECKING:
    from torch import Tensor

PART = "part"
_REMEDY = "delete the folder of shards and run the workflow again; it rebuilds them"


def build(
    rows: TokenRows, sizes: Sequence[int], dtype: str, folder: Path, there: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Write every shard that is not there yet.

    Args:
        rows: the text's rows.
        sizes: rows of every shard.
        dtype: a key of `DTYPES`.
        folder: keeps what is finished.
        there: what is, from `finished`.

    Returns:
        Per shard `file`, `rows`, `sha256` and `end`, the position in the text behind it.
    """
    done = list(there)
    for size in tqdm(sizes[len(done) :], desc="shards", initial=len(done), total=len(sizes), disable=None):
        start = Position(*done[-1]["end"]) if done else Position()
        tensor, end = rows.take(size, start, DTYPES[dtype])
        done.append(_write(folder, len(done), tensor, end))
    return done


def finished(folder: Path, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The shards, from the first on, that the journal names and whose bytes are theirs; later lines are dropped."""
    kept: list[dict[str, Any]] = []
    for entry, size in zip(scratch.noted(folder), sizes, strict=False):
        file = folder / entry.get("file", PART)
        if entry.get("rows") != size or not file.is_file() or scratch.digest(file) != entry["sha256"]:
            break
        kept.append(entry)
    scratch.keep_noted(folder, kept)
    return kept


def _write(folder: Path, number: int, rows: Tensor, end: Position) -> dict[str, Any]:
    part, final = folder / PART, folder / f"{number:05d}.safetensors"
    try:
        save_file({"rows": rows.cpu()}, part)
        scratch.settle(part)
    except (OSError, SafetensorError) as error:
        raise AssayError(
            str(part), f"cannot be written: {error}", "free disk space; finished shards are kept"
        ) from error
    part.chmod(0o644)  # safetensors lets nobody but the owner read it
    entry = {"file": final.name, "rows": len(rows), "sha256": scratch.digest(part), "end": list(end)}
    part.replace(final)
    scratch.note(folder, entry)
    return entry


class Shards:
    """Shards to read, in the order of the manifest; each is held to its digest when it is first read.

    A shard is read in one sequential pass, and in a thread of its own while the one before it is used: two are in memory.

    Args:
        manifest: the file.
        files: the shards' paths.
        wanted: `hook`, `d_model` and `dtype` that the study means.

    Raises:
        AssayError: the manifest is not whole, names other shards, or activations of another hook, width or type.
    """

    def __init__(self, manifest: str | Path, files: Sequence[str | Path], wanted: dict[str, Any]) -> None:
        try:
            about = json.loads(Path(manifest).read_text(encoding="utf-8"))
            self._entries = about["shards"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AssayError(str(manifest), f"no whole manifest ({error})", _REMEDY) from None
        for name, value in wanted.items():
            if about.get(name) != value:
                problem = f"the cached activations are of {name} {about.get(name)}, the study's of {value}"
                raise AssayError(str(manifest), problem, _REMEDY)
        if [Path(file).name for file in files] != [entry["file"] for entry in self._entries]:
            raise AssayError(str(manifest), "names other shards than the study", _REMEDY)
        self.about, self._files = about, [Path(file) for file in files]
        self.sizes = [int(entry["rows"]) for entry in self._entries]
        self._seen: set[int] = set()
        self._ahead: dict[int, Future[Tensor]] = {}
        self._thread = ThreadPoolExecutor(1)

    def read(self, block: int, then: int | None = None) -> Tensor:
        """Rows [sizes[block], d_model] as stored; AssayError for a shard that is not the manifest's."""
        coming = self._ahead.pop(block, None)
        found = coming.result() if coming else self._load(block)
        if then is not None:
            self._ahead = {then: self._thread.submit(self._load, then)}
        return found

    def _load(self, block: int) -> Tensor:
        file, entry = self._files[block], self._entries[block]
        try:
            content = file.read_bytes()
            if block not in self._seen and hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise AssayError(str(file), "has other bytes than its manifest says", _REMEDY)
            self._seen.add(block)
            return load_bytes(content)["rows"]
        except (OSError, SafetensorError, KeyError) as error:
            raise AssayError(str(file), f"no whole shard ({error})", _REMEDY) from None
