"""A training text too large for memory: documents of .jsonl.zst files, as token windows on disk.

A document is cut into windows of at most `context` tokens, so that none holds two documents; each begins with the model's
token for that, where it has one, as all windows do (`tokens.py`). Documents are taken in the order of the files, from the
first on, until their tokens are enough; the windows are read in a random order, because those of a long document are alike.

Windows lie end to end in one array, their lengths in another. Both grow in a scratch folder, with a line in a journal after
every batch of documents; a restart goes on behind the last line.
"""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from sae_assay import scratch, seeds
from sae_assay.errors import AssayError
from sae_assay.lms.texts import FEWEST_TOKENS
from sae_assay.lms.tokens import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from sae_assay.lms.hub_model import HubTokenizer

SUFFIX = ".jsonl.zst"
TOKENS, LENGTHS = "tokens.npy", "lengths.npy"
TOGETHER = 1000
"""Documents that are tokenised together; what is read again after a restart."""
_TYPE = np.dtype("<i4")
_REMEDY = "delete the file and run the workflow again; it rebuilds what is missing"


@dataclass(frozen=True)
class Place:
    """How far a text has been taken: the file, and the documents (lines) of each file so far; what they gave."""

    documents: tuple[int, ...] = (0,)
    windows: int = 0
    tokens: int = 0

    @property
    def counted(self) -> int:
        """Tokens that count: all but each window's first."""
        return self.tokens - self.windows


def lines(path: str | Path, start: int = 0) -> Iterator[str]:
    """The `text` of every line from `start` on (0: the first), one line at a time.

    Raises:
        AssayError: the file cannot be read or is cut off; a line is no JSON object or has no text; names file and line.
    """
    try:
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "zstd") as stream:
            for number, line in enumerate(io.BufferedReader(stream)):
                if number >= start:
                    yield _text(f"{path}, line {number + 1}", line)
    except (OSError, pa.ArrowException) as error:
        raise AssayError(str(path), f"cannot be read ({' '.join(str(error).split())})", "fetch it again") from None


def _text(where: str, line: bytes) -> str:
    remedy = "fetch the file again, or take it out of data/registry.yaml"
    try:
        found = json.loads(line)
    except ValueError as error:
        raise AssayError(where, f"is no JSON ({error})", remedy) from None
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise AssayError(where, "has no `text`", remedy)
    return text


def context_of(lm: Mapping[str, Any]) -> int:
    """Tokens of a training text's longest window, by the settings of its substrate."""
    return int(lm.get("training_context") or lm["context"])


def cut(tokenizer: Tokenizer | HubTokenizer, documents: Sequence[str], context: int) -> list[list[list[int]]]:
    """Each document's windows, those of a single token left out."""
    bos = [] if (first := getattr(tokenizer, "bos", None)) is None else [first]
    room = context - len(bos)
    encoded = [e.ids for e in tokenizer.encode_batch(documents, add_special_tokens=False)]
    every = [[bos + ids[i : i + room] for i in range(0, len(ids), room)] for ids in encoded]
    return [[window for window in windows if len(window) >= FEWEST_TOKENS] for windows in every]


def build(
    files: Sequence[Callable[[], Path]],
    tokenizer: Tokenizer | HubTokenizer,
    context: int,
    wanted: int,
    folder: Path,
) -> Place:
    """Write TOKENS and LENGTHS into a folder that keeps what is finished.

    Args:
        files: each gives its path when it is needed, and not before: it may have to be fetched.
        wanted: tokens that count; the document that reaches them is the last.

    Returns:
        What was taken; fewer tokens than `wanted` where the files hold no more.

    Raises:
        AssayError: see `lines`.
    """
    place = _resume(folder)
    done, bar = len(place.documents) - 1, tqdm(desc="training text", unit="token", total=wanted, disable=None)
    with (folder / TOKENS).open("r+b") as tokens, (folder / LENGTHS).open("r+b") as lengths, bar:
        for number in range(done, len(files)):
            if place.counted >= wanted:
                break
            if number > done:
                place = replace(place, documents=(*place.documents, 0))
            found = lines(files[number](), place.documents[-1])
            while place.counted < wanted and (batch := list(itertools.islice(found, TOGETHER))):
                place = _add(tokens, lengths, place, cut(tokenizer, batch, context), wanted)
                scratch.note(folder, asdict(place))
                bar.update(place.counted - bar.n)
        for file, count in ((tokens, place.tokens), (lengths, place.windows)):
            file.seek(0)
            file.write(_header(count))
    return place


def _add(tokens: IO[bytes], lengths: IO[bytes], place: Place, documents: list[list[list[int]]], wanted: int) -> Place:
    """Append documents until there are enough tokens."""
    short = np.array([sum(len(window) - 1 for window in windows) for windows in documents]).cumsum()
    taken = min(len(documents), int(np.searchsorted(short, wanted - place.counted)) + 1)
    windows = [window for document in documents[:taken] for window in document]
    sizes = [len(window) for window in windows]
    flat = np.fromiter(itertools.chain.from_iterable(windows), _TYPE, sum(sizes))
    for file, values, before in ((tokens, flat, place.tokens), (lengths, np.array(sizes, _TYPE), place.windows)):
        file.seek(len(_header(0)) + before * _TYPE.itemsize)
        file.write(values.tobytes())
        file.flush()
        os.fsync(file.fileno())
    count = (*place.documents[:-1], place.documents[-1] + taken)
    return Place(count, place.windows + len(windows), place.tokens + len(flat))


def _header(count: int) -> bytes:
    """An .npy file's beginning, of one size whatever the count: numpy leaves room for an array that grows."""
    found = io.BytesIO()
    about = {"descr": _TYPE.str, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(found, about)
    return found.getvalue()


def _resume(folder: Path) -> Place:
    """The last whole line of the journal whose windows are there; the files are cut to it."""
    place = Place()
    for found in scratch.noted(folder)[-1:]:
        place = Place(tuple(found["documents"]), found["windows"], found["tokens"])
    sizes = {TOKENS: place.tokens, LENGTHS: place.windows}
    ends = {name: len(_header(0)) + count * _TYPE.itemsize for name, count in sizes.items()}
    if any(not (folder / name).exists() or (folder / name).stat().st_size < end for name, end in ends.items()):
        place, ends = Place(), dict.fromkeys(ends, len(_header(0)))
    for name, end in ends.items():
        with (folder / name).open("ab") as file:
            file.truncate(end)
    scratch.keep_noted(folder, [] if place == Place() else [asdict(place)])
    return place


class Corpus:
    """Windows on disk, in an order of their own; few are in memory at a time. Stands in for `Windows`.

    Args:
        tokens: the file.
        lengths: the file.
        context: tokens of the longest window.
        purpose: names the order's random stream.

    Raises:
        AssayError: a file is missing, not whole, or of another text than the other.
    """

    def __init__(self, tokens: str | Path, lengths: str | Path, context: int, purpose: Sequence[str | int]) -> None:
        try:
            self._tokens: NDArray[np.int32] = np.load(tokens, mmap_mode="r")
            self._lengths: NDArray[np.int32] = np.load(lengths)
        except (OSError, ValueError) as error:
            where = getattr(error, "filename", None) or str(tokens)
            raise AssayError(where, f"no whole file ({error})", _REMEDY) from None
        self._ends = np.cumsum(self._lengths, dtype=np.int64)
        if (self._ends[-1] if len(self._ends) else 0) != len(self._tokens):
            raise AssayError(str(tokens), f"is not the text that {lengths} measures", _REMEDY)
        self._context = context
        self._order = seeds.numpy_generator(*purpose).permutation(len(self._lengths))

    def __len__(self) -> int:
        return len(self._lengths)

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> Windows:
        chosen = self._order[np.asarray(rows, dtype=np.int64)]
        lengths = self._lengths[chosen].astype(np.int64)
        tokens = np.zeros((len(chosen), self._context), np.int64)
        for row, end, length in zip(range(len(chosen)), self._ends[chosen], lengths, strict=True):
            tokens[row, :length] = self._tokens[end - length : end]
        return Windows(tokens, lengths)

    def check(self, vocabulary: int) -> None:
        """As `Windows.check`, a part at a time."""
        for start in range(0, len(self._tokens), 1 << 24):
            part = self._tokens[start : start + (1 << 24)].astype(np.int64)
            Windows(part, np.ones(1, np.int64)).check(vocabulary)
