"""Runs rewritten queries and keeps what their rows were made of, outside the database."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import polars as pl

from sae_assay.audit import lineage
from sae_assay.errors import AssayError

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


class Graph:
    """Rows and the rows that they were made of: row i's are `values[starts[i] : starts[i + 1]]`; row 0 stands for none."""

    def __init__(self) -> None:
        self._counts: list[Ints] = [np.zeros(1, np.int64)]
        self._values: list[Ints] = []
        self._alike: list[Bools] = [np.zeros(1, bool)]
        self.size = 1

    def add(self, counts: Ints, values: Ints, alike: bool = False) -> int:
        """Add rows that refer to `counts[i]` of `values` each; returns the number of the first of them.

        Where the rows referred to are alike, one of them is enough.
        """
        first = self.size
        self._counts.append(counts)
        self._values.append(values)
        self._alike.append(np.full(len(counts), alike))
        self.size += len(counts)
        return first

    @cached_property
    def _edges(self) -> tuple[Ints, np.ndarray[Any, np.dtype[np.int32]], Bools]:
        starts = np.concatenate([[0], np.cumsum(np.concatenate(self._counts))])
        values = np.concatenate([np.zeros(0, np.int64), *self._values]).astype(np.int32)
        return starts.astype(np.int64), values, np.concatenate(self._alike)

    def below(self, row: int) -> Bools:
        """[rows] whether a row was used, directly or not. Of rows alike, those used anyway serve, or else the first."""
        alike = self._edges[2]
        seen = np.zeros(self.size, dtype=bool)
        seen[0] = seen[row] = True
        front: Ints = np.asarray([row], dtype=np.int64)
        open_: list[Ints] = []
        while front.size:
            while front.size:
                open_.append(front[alike[front]])
                children = np.unique(self._children(front[~alike[front]])[0])
                front = children[~seen[children]]
                seen[front] = True
            front = self._chosen(np.concatenate(open_), seen)
            seen[front] = True
        return seen

    def _children(self, rows: Ints) -> tuple[Ints, Ints]:
        """What rows refer to, joined, and how many references each has."""
        starts, values, _ = self._edges
        first, count = starts[rows], starts[rows + 1] - starts[rows]
        offsets = np.repeat(first - (np.cumsum(count) - count), count)
        return values[offsets + np.arange(count.sum())].astype(np.int64), count

    def _chosen(self, rows: Ints, seen: Bools) -> Ints:
        """The first reference of each of these rows of which none was seen."""
        children, count = self._children(rows)
        met = np.bincount(np.repeat(np.arange(len(rows)), count), weights=seen[children], minlength=len(rows))
        wanting = rows[(met == 0) & (count > 0)]
        return np.unique(self._edges[1][self._edges[0][wanting]]).astype(np.int64)


class Follower:
    """Fills a database's tables by rewritten queries and remembers which rows each row was made of."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self.graph = Graph()
        self.first: dict[str, int] = {}

    def leaves(self, table: str) -> None:
        """Take the rows of a table that is there as made of nothing."""
        count = self._db.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        self._place(table, np.zeros(count, np.int64), np.zeros(0, np.int64))

    def step(self, step: str, sql: str) -> None:
        """Fill the table `step` by its query.

        Raises:
            AssayError: the query uses a construct that cannot be followed, or DuckDB refuses its rewritten form.
        """
        pieces = lineage.rewrite(step, sql)
        for piece in pieces:
            try:
                self._db.execute(f"CREATE TABLE {piece.name} AS {piece.sql}")
            except duckdb.Error as error:
                problem = f"DuckDB refuses its rewritten part {piece.name}: {' '.join(str(error).split())}"
                raise AssayError(
                    f"statistics/sql/{step}.sql", problem, "no subquery may name columns outside itself"
                ) from error
            self._collect(piece)
        for piece in pieces[:-1]:
            self._db.execute(f"DROP TABLE {piece.name}")

    def groups(self, step: str, source: str, columns: tuple[str, ...]) -> None:
        """Take the rows of the table `step` as made of the rows of `source` that share these columns."""
        refs = self._db.sql(
            f"SELECT list(s.rowid + {self.first[source]}) AS refs FROM {step} AS b JOIN {source} AS s "
            f"USING ({', '.join(columns)}) GROUP BY b.rowid ORDER BY b.rowid"
        ).pl()
        self._place(step, *_lists(refs["refs"]))

    def used(self, table: str, row: int, leaf: str, count: int) -> Ints:
        """The rows among the first `count` of the table `leaf` that a row was made of."""
        seen = self.graph.below(self.first[table] + row)
        return np.flatnonzero(seen[self.first[leaf] :][:count])

    def _place(self, table: str, counts: Ints, values: Ints, alike: bool = False) -> None:
        self.first[table] = self.graph.add(counts, values, alike)
        self._db.execute(f"SET VARIABLE at_{table} = {self.first[table]}")

    def _collect(self, piece: lineage.Piece) -> None:
        """Move a piece's references from its table to the graph."""
        extra = [lineage.REFS, *(f"{lineage.WINDOW}{i}" for i in range(piece.windows))]
        frame = self._db.sql(f"SELECT rowid AS row, {', '.join(extra)} FROM {piece.name}").pl()
        if not np.array_equal(frame["row"].to_numpy(), np.arange(frame.height)):
            raise AssayError(piece.name, "DuckDB does not number its rows from 0", "use the locked DuckDB")
        for column in extra:
            self._db.execute(f"ALTER TABLE {piece.name} DROP COLUMN {column}")
        refs = frame[lineage.REFS]
        counts, values = _lists(refs)
        if not piece.windows:
            self._place(piece.name, counts, values, piece.alike)
            return
        partitions = [self._partition(frame[name].to_numpy(), counts, values) for name in extra[1:]]
        self._place(piece.name, *_appended(counts, values, partitions))

    def _partition(self, numbers: Ints, counts: Ints, values: Ints) -> Ints:
        """Rows that stand for a window's partitions; returns each row's."""
        owner = np.repeat(numbers, counts)
        order = np.argsort(owner, kind="stable")
        size = int(numbers.max()) + 1 if numbers.size else 0
        first = self.graph.add(np.bincount(owner, minlength=size).astype(np.int64), values[order])
        return np.asarray(first + numbers, dtype=np.int64)


def _lists(column: pl.Series) -> tuple[Ints, Ints]:
    """Lengths and joined values of a column of lists; a null list is empty."""
    counts = column.list.len().fill_null(0).to_numpy().astype(np.int64)
    values = column.explode().drop_nulls().to_numpy().astype(np.int64)
    if counts.sum() != len(values):
        raise AssayError("audit/follow.py", "a row refers to no row by null", "report it: coalesce the reference")
    return counts, values


def _appended(counts: Ints, values: Ints, more: list[Ints]) -> tuple[Ints, Ints]:
    """Append one value of each of `more` to every list."""
    longer = counts + len(more)
    ends = np.cumsum(longer)
    joined = np.zeros(int(longer.sum()), np.int64)
    tail = np.zeros(len(joined), dtype=bool)
    for back, column in enumerate(reversed(more), 1):
        joined[ends - back] = column
        tail[ends - back] = True
    joined[~tail] = values
    return longer, joined
