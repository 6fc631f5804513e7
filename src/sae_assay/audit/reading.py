"""Reads a stranger's files: with limits, as data, never through a link that leaves the tree.

Everything that an audit opens goes through here. What breaks a limit is refused as `Unsafe` before it is decoded: a path
out of the tree, a link to the outside, a file, line or table that is too large, JSON or YAML that nests too deep, names a
key twice, holds NaN, or (YAML) repeats a part by alias. Nothing is executed, and no pickle is read.
"""

from __future__ import annotations

import base64
import json
import math
import re
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import yaml

from sae_assay.errors import AssayError
from sae_assay.tables import scores

MAX_FILE = 512 << 20
MAX_LINE = 8 << 20
MAX_TEXT = 64 << 20
MAX_YAML = 4 << 20
MAX_LINES = 2_000_000
MAX_DEPTH = 40
MAX_TABLE_ROWS = 50_000_000
MAX_TABLE_COLUMNS = 256
MAX_TABLE_BYTES = 8 << 30  # uncompressed, as the footer declares it
MAX_TABLE_FILE = 2 << 30

_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")
_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unsafe(AssayError):
    """A file that was refused before it was read."""


def _refuse(where: str, problem: str) -> Unsafe:
    return Unsafe(where, problem, "restore it from git or `dvc pull`; do not open it with other tools")


# Paths -------------------------------------------------------------------------------------------------------------------
def deceptive(text: str) -> str | None:
    """Why a name could be taken for another one (invisible, compatibility or mixed-script characters); None if it cannot."""
    if text.isascii():
        return "holds a control character" if any(ord(c) < 32 or ord(c) == 127 for c in text) else None
    for c in text:
        if not c.isascii() and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp", "Nd", "Pd"):
            return f"holds U+{ord(c):04X}, which cannot be told from another character by eye"
    if unicodedata.normalize("NFKC", text) != text:
        return "is not in normal form (NFKC), so that another name can look the same"
    for word in re.findall(r"[^\W\d_]+", text):
        scripts = {s for c in word if (s := unicodedata.name(c, "").split(" ")[0]) in _SCRIPTS}
        if len(scripts) > 1:
            return f"mixes {' and '.join(sorted(scripts))} letters in one word"
    return None


def safe_path(path: str) -> str | None:
    """Why a recorded path may not be used; None if it is a plain relative path that stays inside."""
    if not path or len(path) > 4096 or "\x00" in path:
        return "is no path"
    if path.startswith(("/", "~")) or "\\" in path or re.match(r"^[A-Za-z]:", path):
        return "is not relative to the tree"
    if ".." in PurePosixPath(path).parts or PurePosixPath(path).as_posix() != path:
        return "climbs out of its folder, or is not in plain form"
    return deceptive(path)


def inside(root: Path, path: str) -> Path:
    """The file of a recorded path.

    Raises:
        Unsafe: the path is absolute, climbs, deceives, or passes a link that leaves the tree.
    """
    problem = safe_path(path)
    if problem:
        raise _refuse(repr(path), problem)
    base = root.resolve()
    full = base / path
    try:
        real = full.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise _refuse(path, f"cannot be resolved: {error}") from None
    if not real.is_relative_to(base):
        raise _refuse(path, "is a link that leaves the tree")
    if full.exists() and not full.is_file() and not full.is_dir():
        raise _refuse(path, "is no regular file")
    return full


# Bytes and text ----------------------------------------------------------------------------------------------------------
def read_bytes(root: Path, path: str, limit: int = MAX_FILE) -> bytes:
    """A file's bytes.

    Raises:
        Unsafe: see `inside`; or it is larger than the limit.
        AssayError: it is missing or cannot be read.
    """
    file = inside(root, path)
    try:
        with file.open("rb") as opened:
            found = opened.read(limit + 1)
    except FileNotFoundError:
        raise AssayError(path, "is missing", "run `dvc pull`, or restore it from git") from None
    except OSError as error:
        raise AssayError(path, f"cannot be read: {error.strerror}", "check its permissions") from None
    if len(found) > limit:
        raise _refuse(path, f"is larger than {limit >> 20} MiB")
    return found


def read_text(root: Path, path: str, limit: int = MAX_TEXT) -> str:
    """A file's text (UTF-8)."""
    try:
        return read_bytes(root, path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(path, f"is not UTF-8 (byte {error.start})") from None


def unpacked(text: str, where: str, limit: int = MAX_TEXT) -> str:
    """What the page's scripts hold deflated, in base64; at most `limit` bytes of it.

    Raises:
        Unsafe: it is damaged, or grows beyond the limit.
    """
    opened = zlib.decompressobj()
    try:
        found = opened.decompress(base64.b64decode(text.strip(), validate=True), limit + 1)
        if len(found) > limit:
            raise _refuse(where, f"unpacks to more than {limit >> 20} MiB")
        if not opened.eof or opened.unused_data:
            raise _refuse(where, "is cut off, or has a tail")
        return found.decode("utf-8")
    except (ValueError, zlib.error) as error:
        raise _refuse(where, f"cannot be unpacked: {error}") from None


# JSON --------------------------------------------------------------------------------------------------------------------
def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("names a key twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"holds {text[:20]}, which no float can hold")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"holds {text}")


def parse_json(text: str, where: str, limit: int = MAX_TEXT) -> Any:
    """A JSON value.

    Raises:
        Unsafe: too long or too deep, a key twice, NaN or Infinity, half a surrogate pair, or no JSON at all.
    """
    if len(text) > limit:
        raise _refuse(where, f"is longer than {limit >> 20} MiB")
    try:
        value = json.loads(text, object_pairs_hook=_no_repeats, parse_float=_finite, parse_constant=_no_constant)
    except RecursionError:
        raise _refuse(where, "nests too deep") from None
    except ValueError as error:
        raise _refuse(where, f"is no JSON to rely on: it {error}"[:200]) from None
    _check_shape(value, where)
    return value


def _check_shape(value: Any, where: str) -> None:
    """Refuse deep nesting and strings that no text file can hold."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _refuse(where, f"nests deeper than {MAX_DEPTH}")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii() and re.search("[\ud800-\udfff]", item):
                raise _refuse(where, "holds half a surrogate pair")
        level = below


def read_json(root: Path, path: str, limit: int = MAX_TEXT) -> Any:
    """A JSON file; see `parse_json`."""
    return parse_json(read_text(root, path, limit), path, limit)


def json_lines(root: Path, path: str) -> Iterator[tuple[int, str, Any]]:
    """Line number, text and value of every line of a file; a line that is refused gives its `Unsafe` as value."""
    lines = read_text(root, path, MAX_FILE).replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    if len(lines) > MAX_LINES:
        raise _refuse(path, f"has more than {MAX_LINES:,} lines")
    for number, text in enumerate(lines, 1):
        try:
            yield number, text, parse_json(text, f"{path}:{number}", MAX_LINE)
        except Unsafe as error:
            yield number, text, error


# YAML --------------------------------------------------------------------------------------------------------------------
class _UniqueKeys(_YAML_LOADER):
    """A safe loader that refuses a key given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        plain = [key for key in keys if isinstance(key, str | int | float | bool | None)]
        if len(plain) != len(keys):
            raise yaml.YAMLError("a key is no plain value")
        if len(set(map(repr, plain))) != len(plain):
            raise yaml.YAMLError("names a key twice")
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> Any:
    """A YAML value.

    Raises:
        Unsafe: too long or too deep, an alias, a key twice, a tag of another language, or no YAML at all.
    """
    if len(text) > MAX_YAML:
        raise _refuse(where, f"is longer than {MAX_YAML >> 20} MiB")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_YAML_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise _refuse(where, "repeats a part by alias (*name)")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise _refuse(where, f"nests deeper than {MAX_DEPTH}")
        value = yaml.load(text, Loader=_UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise _refuse(where, f"is no YAML to rely on: {' '.join(str(error).split())}"[:300]) from None
    return value


def read_yaml(root: Path, path: str) -> Any:
    """A YAML file; see `parse_yaml`."""
    return parse_yaml(read_text(root, path, MAX_YAML), path)


# Tables ------------------------------------------------------------------------------------------------------------------
UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)
"""What pyarrow raises over a damaged file."""


def check_table(root: Path, path: str) -> pyarrow.parquet.FileMetaData:
    """Refuse a parquet file whose footer declares more than fits, or nested columns, before a page of it is decoded.

    Returns:
        The footer.

    Raises:
        Unsafe: see above.
        AssayError: it is missing or cannot be read.
    """
    file = inside(root, path)
    if not file.is_file():
        raise AssayError(path, "is missing", "run `dvc pull`, or run the workflow")
    if file.stat().st_size > MAX_TABLE_FILE:
        raise _refuse(path, f"is larger than {MAX_TABLE_FILE >> 30} GiB")
    try:
        footer = pyarrow.parquet.read_metadata(file)
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        rows = max(footer.num_rows, sum(group.num_rows for group in groups))
        flat = all(footer.schema.column(i).max_repetition_level == 0 for i in range(footer.num_columns))
    except UNREADABLE as error:
        raise _refuse(path, f"is no readable parquet file: {' '.join(str(error).split())}"[:200]) from None
    if footer.num_columns > MAX_TABLE_COLUMNS or not flat:
        raise _refuse(path, f"has nested columns, or more than {MAX_TABLE_COLUMNS}")
    if not 0 <= rows <= MAX_TABLE_ROWS or not 0 <= size <= MAX_TABLE_BYTES:
        raise _refuse(path, f"declares {rows:,} rows and {size:,} bytes")
    return footer


def read_scores(root: Path, path: str) -> pl.DataFrame:
    """A score file with the columns of `scores.SCHEMA`; what describes its SAE stands once, in its footer.

    Raises:
        Unsafe: it is refused, or damaged.
        AssayError: it is missing, or other columns are in it.
    """
    footer = check_table(root, path)
    rows = _decoded(root, path, footer)
    if not set(scores.SAE_COLUMNS) & set(rows.columns):
        text = (footer.metadata or {}).get(scores.CONSTANTS, b"null").decode("utf-8", "replace")
        described = parse_json(text, path, MAX_LINE)
        if not isinstance(described, dict) or set(described) != set(scores.SAE_COLUMNS):
            raise _refuse(path, "does not say whose scores it holds")
        foreign = sorted(set(rows.columns) - set(scores.SCHEMA))
        if foreign:
            raise _refuse(path, f"holds the unknown column {foreign[0]}")
        try:
            rows = rows.select(
                pl.lit(described[name], dtype=dtype).alias(name) if name in described else pl.col(name).cast(dtype)
                for name, dtype in scores.SCHEMA.items()
            )
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise _refuse(path, f"holds other columns than a score file: {first}"[:200]) from None
    if rows.schema != scores.SCHEMA:
        scores.check_columns(rows, scores.SCHEMA, path)
    return rows


def read_table(root: Path, path: str) -> pl.DataFrame:
    """A parquet table, after `check_table`; decoded by pyarrow, because polars aborts the process on some damaged pages.

    Raises:
        Unsafe: it is refused, or damaged.
        AssayError: it is missing.
    """
    return _decoded(root, path, check_table(root, path))


def _decoded(root: Path, path: str, footer: pyarrow.parquet.FileMetaData) -> pl.DataFrame:
    try:
        with pyarrow.parquet.ParquetFile(inside(root, path), metadata=footer) as file:
            frame = pl.from_arrow(file.read(use_threads=False))
        assert isinstance(frame, pl.DataFrame)
        return frame
    except (*UNREADABLE, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        first = (str(error).splitlines() or [""])[0]
        raise _refuse(path, f"is no readable parquet file: {first}"[:200]) from None
