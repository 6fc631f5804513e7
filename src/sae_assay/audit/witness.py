"""Witness rows: the score rows that a number was computed from, found by the queries themselves.

The statistics are run once more, rewritten by `lineage`, so that each row of each step says which rows it was made of; a
mart's row is then followed down to the tables `scores`, `repeats` and `anatomy`. The other tables (`saes`, `tasks`, `coverage`) and the
study's declarations describe, and are taken whole. A witness belongs to a row of a mart: it serves all of the row's columns.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from sae_assay.audit import lineage
from sae_assay.audit.follow import Follower, Ints
from sae_assay.errors import AssayError
from sae_assay.report.queries import PYTHON_STEPS, needs
from sae_assay.statistics import contracts, runner
from sae_assay.tables import scores

BASES = ("scores", "repeats", "anatomy")
REPEAT = "repeat:"
"""Before the score_id of a row of `repeats`, which shares its score_id with the row of `scores` that it repeats."""
_PREFIXES = {"scores": "", "repeats": REPEAT, "anatomy": "anatomy:"}


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
        self._wanted = list(marts)
        wanted = {step for mart in self._wanted for step in needs(mart)}
        with runner.database(tables, config) as db:
            self._follower = Follower(db)
            for (name,) in db.sql("SELECT table_name FROM duckdb_tables() ORDER BY table_name").fetchall():
                self._follower.leaves(name)
            self._ids = {name: _score_ids(db, name) for name in BASES}
            for step in runner.PLAN:
                if step in PYTHON_STEPS and step in wanted:
                    runner.run(db, step)
                    self._follower.groups(step, *PYTHON_STEPS[step])
                elif step in wanted:
                    self._follower.step(step, runner.sql(step))
            self.marts = {name: runner.result(db, name) for name in self._wanted}

    @cached_property
    def _rows(self) -> dict[str, dict[tuple[Any, ...], int]]:
        return {
            name: {key: i for i, key in enumerate(mart.select(contracts.contract(name)["grain"]).rows())}
            for name, mart in self.marts.items()
        }

    def rows(self, mart: str, key: Mapping[str, Any]) -> dict[str, Ints]:
        """Row numbers in each of `BASES` that a mart's row was computed from.

        Raises:
            AssayError: the mart has no such row.
        """
        grain = contracts.contract(mart)["grain"]
        number = self._rows[mart].get(tuple(key.get(name) for name in grain))
        if number is None:
            raise AssayError(f"table {mart}", f"has no row {dict(key)}", "ask for a row that it has")
        return {name: self._follower.used(mart, number, name, len(self._ids[name])) for name in BASES}

    def ids(self, mart: str, key: Mapping[str, Any]) -> list[str]:
        """The sorted score_ids of a mart row's witness; those of `repeats` begin with `repeat:`, of `anatomy` with `anatomy:`."""
        rows = self.rows(mart, key)
        return sorted(_PREFIXES[name] + self._ids[name][i] for name in BASES for i in rows[name].tolist())

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
    with runner.database(tables, config) as db:
        for step in needs(mart):
            runner.run(db, step)
        return runner.result(db, mart)


def replay(
    tables: Mapping[str, Path], config: Mapping[str, Any], mart: str, key: Mapping[str, Any], rows: Mapping[str, Ints]
) -> dict[str, Any]:
    """The mart's row as the plain queries give it when they see the witness rows only.

    Args:
        tables, config: as for `runner.compute`; tables other than `BASES` are read whole.
        rows: row numbers from `Witnesses.rows`.

    Raises:
        AssayError: the queries give no such row.
    """
    with tempfile.TemporaryDirectory(prefix="sae-assay-replay-") as folder:
        kept = dict(tables)
        for name in present(tables):
            kept[name] = Path(folder) / f"{name}.parquet"
            scores.write_pinned(scores.read_pinned(tables[name])[rows[name]], kept[name])
        table = plain(kept, config, mart)
    found = [row for row in table.to_dicts() if all(row[name] == value for name, value in key.items())]
    if len(found) != 1:
        raise AssayError(
            f"table {mart}", f"has no row {dict(key)} on its witness alone", "report it: the witness lacks rows"
        )
    return found[0]


def present(tables: Mapping[str, Path]) -> list[str]:
    """The base tables of a study: one without a noise anatomy has no table of it."""
    return [name for name in BASES if name in tables]


def _score_ids(db: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [row[0] for row in db.sql(f"SELECT {scores.SCORE_ID_SQL} FROM {table} ORDER BY rowid").fetchall()]
