"""Witness rows: the score rows that a number was computed from, found by the queries themselves.

The statistics are run once more, rewritten by `lineage`, so that each row of each step says which rows it was made of; a
mart's row is then followed down to the tables `scores` and `repeats`. The other tables (`saes`, `tasks`, `coverage`) and the
study's declarations describe, and are taken whole. A witness belongs to a row of a mart: it serves all of the row's columns.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from sae_assay.audit import lineage
from sae_assay.errors import AssayError
from sae_assay.report.queries import PYTHON_STEPS, needs
from sae_assay.statistics import bootstrap, contracts, functions, runner
from sae_assay.tables import scores

BASES = ("scores", "repeats")
REPEAT = "repeat:"
"""Before the score_id of a row of `repeats`, which shares its score_id with the row of `scores` that it repeats."""

Ints = np.ndarray[Any, np.dtype[np.int64]]


class Graph:
    """Rows and the rows that they were made of: row i's are `values[starts[i] : starts[i + 1]]`; row 0 stands for none."""

    def __init__(self) -> None:
        self._counts: list[Ints] = [np.zeros(1, np.int64)]
        self._values: list[Ints] = []
        self._alike: list[np.ndarray[Any, np.dtype[np.bool_]]] = [np.zeros(1, bool)]
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
    def _edges(self) -> tuple[Ints, Ints, np.ndarray[Any, np.dtype[np.bool_]]]:
        starts = np.concatenate([[0], np.cumsum(np.concatenate(self._counts))])
        values = np.concatenate([np.zeros(0, np.int64), *self._values]).astype(np.int32)
        return starts.astype(np.int64), values, np.concatenate(self._alike)

    def below(self, row: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
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

    def _chosen(self, rows: Ints, seen: np.ndarray[Any, np.dtype[np.bool_]]) -> Ints:
        """The first reference of each of these rows of which none was seen."""
        children, count = self._children(rows)
        met = np.bincount(np.repeat(np.arange(len(rows)), count), weights=seen[children], minlength=len(rows))
        wanting = rows[(met == 0) & (count > 0)]
        return np.unique(self._edges[1][self._edges[0][wanting]]).astype(np.int64)


class Witnesses:
    """Runs the rewritten statistics on a study's tables.

    Args:
        tables: paths of the tables named in `runner.TABLES`.
        config: as for `runner.compute`.
        marts: the marts asked about; only the steps that they need are run.

    Attributes:
        marts: the values that the rewritten queries gave, by mart: the same as `runner.compute` gives.
    """

    def __init__(
        self, tables: Mapping[str, Path], config: Mapping[str, Any], marts: Iterable[str] = runner.MARTS
    ) -> None:
        self._graph = Graph()
        self._first: dict[str, int] = {}
        self._wanted = list(marts)
        wanted = {step for mart in self._wanted for step in needs(mart)}
        with _database(tables, config) as db:
            for (name,) in db.sql("SELECT table_name FROM duckdb_tables() ORDER BY table_name").fetchall():
                self._leaves(db, name)
            self._ids = {name: _score_ids(db, name) for name in BASES}
            for step in runner.PLAN:
                if step in wanted:
                    self._python(db, step) if step in PYTHON_STEPS else self._step(db, step)
            self.marts = {name: runner._result(db, name) for name in self._wanted}

    # Running -----------------------------------------------------------------------------------------------------------
    def _leaves(self, db: duckdb.DuckDBPyConnection, table: str) -> None:
        count = db.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        self._place(db, table, np.zeros(count, np.int64), np.zeros(0, np.int64))

    def _place(
        self, db: duckdb.DuckDBPyConnection, table: str, counts: Ints, values: Ints, alike: bool = False
    ) -> None:
        self._first[table] = self._graph.add(counts, values, alike)
        db.execute(f"SET VARIABLE at_{table} = {self._first[table]}")

    def _step(self, db: duckdb.DuckDBPyConnection, step: str) -> None:
        pieces = lineage.rewrite(step, runner.sql(step))
        for piece in pieces:
            try:
                db.execute(f"CREATE TABLE {piece.name} AS {piece.sql}")
            except duckdb.Error as error:
                problem = f"DuckDB refuses its rewritten part {piece.name}: {' '.join(str(error).split())}"
                raise AssayError(
                    f"statistics/sql/{step}.sql", problem, "no subquery may name columns outside itself"
                ) from error
            self._collect(db, piece)
        for piece in pieces[:-1]:
            db.execute(f"DROP TABLE {piece.name}")

    def _collect(self, db: duckdb.DuckDBPyConnection, piece: lineage.Piece) -> None:
        """Move a piece's references from its table to the graph."""
        extra = [lineage.REFS, *(f"{lineage.WINDOW}{i}" for i in range(piece.windows))]
        frame = db.sql(f"SELECT rowid AS row, {', '.join(extra)} FROM {piece.name}").pl()
        if not np.array_equal(frame["row"].to_numpy(), np.arange(frame.height)):
            raise AssayError(piece.name, "DuckDB does not number its rows from 0", "use the locked DuckDB")
        for column in extra:
            db.execute(f"ALTER TABLE {piece.name} DROP COLUMN {column}")
        refs = frame[lineage.REFS]
        counts, values = _lists(refs)
        if not piece.windows:
            self._place(db, piece.name, counts, values, piece.alike)
            return
        partitions = [self._partition(frame[name].to_numpy(), counts, values) for name in extra[1:]]
        self._place(db, piece.name, *_appended(counts, values, partitions))

    def _partition(self, numbers: Ints, counts: Ints, values: Ints) -> Ints:
        """Rows that stand for a window's partitions; returns each row's."""
        owner = np.repeat(numbers, counts)
        order = np.argsort(owner, kind="stable")
        size = int(numbers.max()) + 1 if numbers.size else 0
        first = self._graph.add(np.bincount(owner, minlength=size).astype(np.int64), values[order])
        return np.asarray(first + numbers, dtype=np.int64)

    def _python(self, db: duckdb.DuckDBPyConnection, step: str) -> None:
        """The one step that is no query: each of its rows comes from the rows of its input that share its group."""
        source, group = PYTHON_STEPS[step]
        runner._load(db, step, bootstrap.run_intervals(db.sql(f"SELECT * FROM {source}").pl()))
        refs = db.sql(
            f"SELECT list(s.rowid + {self._first[source]}) AS refs FROM {step} AS b JOIN {source} AS s "
            f"USING ({', '.join(group)}) GROUP BY b.rowid ORDER BY b.rowid"
        ).pl()
        self._place(db, step, *_lists(refs["refs"]))

    # Asking ------------------------------------------------------------------------------------------------------------
    @cached_property
    def _rows(self) -> dict[str, dict[tuple[Any, ...], int]]:
        return {
            name: {key: i for i, key in enumerate(mart.select(contracts.contract(name)["grain"]).rows())}
            for name, mart in self.marts.items()
        }

    def rows(self, mart: str, key: Mapping[str, Any]) -> dict[str, Ints]:
        """Row numbers in `scores` and in `repeats` that a mart's row was computed from.

        Raises:
            AssayError: the mart has no such row.
        """
        grain = contracts.contract(mart)["grain"]
        number = self._rows[mart].get(tuple(key.get(name) for name in grain))
        if number is None:
            raise AssayError(f"table {mart}", f"has no row {dict(key)}", "ask for a row that it has")
        seen = self._graph.below(self._first[mart] + number)
        return {name: np.flatnonzero(seen[self._first[name] :][: len(self._ids[name])]) for name in BASES}

    def ids(self, mart: str, key: Mapping[str, Any]) -> list[str]:
        """The sorted score_ids of a mart row's witness; those of `repeats` begin with `repeat:`."""
        rows = self.rows(mart, key)
        prefixes = {"scores": "", "repeats": REPEAT}
        return sorted(prefixes[name] + self._ids[name][i] for name in BASES for i in rows[name].tolist())

    def record(self, mart: str, key: Mapping[str, Any]) -> dict[str, Any]:
        """What a cell's record says of its witness: `query_sha256`, `rows`, `ids_sha256`."""
        ids = self.ids(mart, key)
        return {"query_sha256": query_sha256(mart), "rows": len(ids), "ids_sha256": ids_sha256(ids)}


def ids_sha256(ids: Iterable[str]) -> str:
    """SHA-256 over score_ids, sorted, joined by newlines."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def query_sha256(mart: str) -> str:
    """SHA-256 over the rewritten queries that list a mart's witness rows, in the order in which they run."""
    lines = [f"{step} {PYTHON_STEPS[step]}" for step in needs(mart) if step in PYTHON_STEPS]
    for step in needs(mart):
        if step not in PYTHON_STEPS:
            lines += [f"{p.name} {p.windows} {p.alike} {p.sql}" for p in lineage.rewrite(step, runner.sql(step))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def plain(tables: Mapping[str, Path], config: Mapping[str, Any], mart: str) -> pl.DataFrame:
    """One mart by the plain queries: as `runner.compute` gives it, without the steps that it does not need."""
    with _database(tables, config) as db:
        for step in needs(mart):
            if step in PYTHON_STEPS:
                runner._load(db, step, bootstrap.run_intervals(db.sql(f"SELECT * FROM {PYTHON_STEPS[step][0]}").pl()))
            else:
                runner._run(db, step)
        return runner._result(db, mart)


def replay(
    tables: Mapping[str, Path], config: Mapping[str, Any], mart: str, key: Mapping[str, Any], rows: Mapping[str, Ints]
) -> dict[str, Any]:
    """The mart's row as the plain queries give it when they see the witness rows only.

    Args:
        tables, config: as for `runner.compute`; tables other than `scores` and `repeats` are read whole.
        rows: row numbers from `Witnesses.rows`.

    Raises:
        AssayError: the queries give no such row.
    """
    with tempfile.TemporaryDirectory(prefix="sae-assay-replay-") as folder:
        kept = dict(tables)
        for name in BASES:
            kept[name] = Path(folder) / f"{name}.parquet"
            scores.write_pinned(scores.read_pinned(tables[name])[rows[name]], kept[name])
        table = plain(kept, config, mart)
    found = [row for row in table.to_dicts() if all(row[name] == value for name, value in key.items())]
    if len(found) != 1:
        raise AssayError(f"table {mart}", f"has no row {dict(key)} on its witness alone", "report it: the witness lacks rows")
    return found[0]


@contextmanager
def _database(tables: Mapping[str, Path], config: Mapping[str, Any]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database as `runner.compute` makes it, before the first step."""
    with duckdb.connect(config={"threads": 1, "preserve_insertion_order": True}) as db:
        db.execute("SET TimeZone = 'UTC'")
        functions.register(db)
        for name in runner.TABLES:
            runner._load(db, "planned_cells" if name == "coverage" else name, scores.read_pinned(tables[name]))
        runner._declare(db, config)
        yield db


def _score_ids(db: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [row[0] for row in db.sql(f"SELECT {scores.SCORE_ID_SQL} FROM {table} ORDER BY rowid").fetchall()]


def _lists(column: pl.Series) -> tuple[Ints, Ints]:
    """Lengths and joined values of a column of lists; a null list is empty."""
    counts = column.list.len().fill_null(0).to_numpy().astype(np.int64)
    values = column.explode().drop_nulls().to_numpy().astype(np.int64)
    if counts.sum() != len(values):
        raise AssayError("audit/witness.py", "a row refers to no row by null", "report it: coalesce the reference")
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
