"""Bitwise comparison of two tables that should hold the same values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

MOST = 20


@dataclass(frozen=True)
class Difference:
    """One value that differs: the row's key, the column, both values as text."""

    key: str
    column: str
    expected: str
    found: str


def differences(expected: pl.DataFrame, found: pl.DataFrame, key: Sequence[str]) -> tuple[list[Difference], int]:
    """Values that differ bit for bit (0.0 and -0.0 differ; row order does not count).

    Args:
        expected: what the values should be.
        found: what was read.
        key: columns that name a row in both.

    Returns:
        The first differences, and their number.
    """
    shape = _shape(expected, found)
    if shape:
        return shape, len(shape)
    if bits(expected).equals(bits(found), null_equal=True):
        return [], 0
    left, right = expected.sort(key, nulls_last=False), found.sort(key, nulls_last=False)
    rows, count = _rows(left, right, key)
    if rows:
        return rows, count
    return _values(left, right, key)


def _shape(expected: pl.DataFrame, found: pl.DataFrame) -> list[Difference]:
    wanted, seen = dict(expected.schema), dict(found.schema)
    names = dict.fromkeys([*wanted, *seen])
    return [
        Difference("columns", name, str(wanted.get(name, "no such column")), str(seen.get(name, "no such column")))
        for name in names
        if wanted.get(name) != seen.get(name)
    ][:MOST]


def bits(table: pl.DataFrame) -> pl.DataFrame:
    """The same table with floats as the integers that hold their bits."""
    floats = [name for name, dtype in table.schema.items() if dtype == pl.Float64]
    return table.with_columns(pl.col(name).reinterpret(signed=True) for name in floats)


def _rows(left: pl.DataFrame, right: pl.DataFrame, key: Sequence[str]) -> tuple[list[Difference], int]:
    """Keys that one side has more often than the other."""
    counts = [table.group_by(key).len() for table in (left, right)]
    joined = counts[0].join(counts[1], on=key, how="full", nulls_equal=True, coalesce=True, suffix="_found")
    torn = joined.with_columns(pl.col("len", "len_found").fill_null(0)).filter(pl.col("len") != pl.col("len_found"))
    torn = torn.sort(key, nulls_last=False)
    first = [
        Difference(named(row, key), "rows", str(row["len"]), str(row["len_found"]))
        for row in torn.head(MOST).iter_rows(named=True)
    ]
    return first, torn.height


def _values(left: pl.DataFrame, right: pl.DataFrame, key: Sequence[str]) -> tuple[list[Difference], int]:
    first: list[Difference] = []
    count = 0
    left_bits, right_bits = bits(left), bits(right)
    for column in left.columns:
        torn = left_bits[column].ne_missing(right_bits[column]).arg_true()
        count += len(torn)
        for index in torn.head(max(0, MOST - len(first))).to_list():
            row = left.row(index, named=True)
            values = [text(table[column][index]) for table in (left, right)]
            first.append(Difference(named(row, key), column, *values))
    return first, count


def named(row: dict[str, Any], key: Sequence[str]) -> str:
    """A row by its key: `substrate=mini, metric=tpp`."""
    return ", ".join(f"{name}={row[name]}" for name in key if row[name] is not None)


def text(value: Any) -> str:
    """A value exactly: floats with their hex form."""
    return f"{value!r} ({value.hex()})" if isinstance(value, float) else repr(value)
