"""Rewrites a statistic's SQL so that every row also says which rows it was made of.

A step is cut into pieces, one a common table expression or subquery, so that no row has to carry a long list: each piece
becomes a table, and each of its rows gets the column `_refs`, the numbers of the rows of the tables that it read. Following
these references from a mart's row down to the score table gives its witness (see `witness`). A row number counts all rows of
all tables; `getvariable('at_TABLE')` is the number of a table's first row.

What a row refers to: the rows that a join brought together; all rows of a GROUP BY's group; equal rows where DISTINCT, UNION
or SEMI JOIN keep one of them (`Piece.alike`: any one of them would do); for a window function, all rows of the partition,
through the columns `_window_0`, `_window_1` ..., which number the partitions; all rows of a subquery in an expression.
Constructs for which this would be wrong are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import exp

from sae_assay.errors import AssayError

REFS, WINDOW = "_refs", "_window_"
SURROGATES = ("cell_id",)
"""Columns that only name other columns' values: a DENSE_RANK over the whole table, used for nothing but equality, grouping
and order (checked in every step), and dropped from the marts. Such a column's window refers to no rows."""

_NAMING = (
    exp.Select, exp.Alias, exp.Group, exp.Ordered, exp.Tuple, exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Is,
    exp.Star, exp.GroupingSets, exp.Paren,
)  # fmt: skip
_SELECT_PARTS = {"expressions", "from_", "joins", "where", "group", "having", "order", "distinct", "windows", "with_"}
_UNION_PARTS = {"this", "expression", "expressions", "distinct", "order", "with_"}
Scope = Mapping[str, str]


@dataclass(frozen=True)
class Piece:
    """One query of a step.

    Attributes:
        name: the table that it fills.
        sql: the query, with the column `_refs` and a column `_window_i` for each i < `windows`.
        alike: a row's references are equal rows, of which one is enough.
    """

    name: str
    sql: str
    windows: int = 0
    alike: bool = False


def rewrite(step: str, sql: str) -> list[Piece]:
    """The pieces of a step in the order in which they must run; the last one fills the table `step`.

    Raises:
        AssayError: the query uses a construct whose rows cannot be followed.
    """
    return _Step(step, sql).pieces


def reads(step: str, sql: str) -> set[str]:
    """The tables that a step reads, without its own common table expressions."""
    return _Step(step, sql).reads


class _Step:
    def __init__(self, step: str, sql: str) -> None:
        self.step = step
        self.pieces: list[Piece] = []
        self.reads: set[str] = set()
        tree = _parsed(sql)
        self._check_surrogates(tree)
        self._query(tree, step, {})

    def _refuse(
        self, construct: str, remedy: str = "write the query without it, or teach audit/lineage.py its rows"
    ) -> AssayError:
        return AssayError(f"statistics/sql/{self.step}.sql", f"{construct} cannot be followed to its rows", remedy)

    def _check_surrogates(self, tree: exp.Expr) -> None:
        """A surrogate may be compared for equality, grouped, ordered by and renamed; nothing may be computed from it."""
        names = set(SURROGATES)
        names |= {a.alias for a in tree.find_all(exp.Alias) if isinstance(a.this, exp.Column) and a.this.name in names}
        for column in tree.find_all(exp.Column):
            by = column.parent
            partition = isinstance(by, exp.Window) and any(column is p for p in by.args.get("partition_by") or [])
            if column.name in names and not isinstance(by, _NAMING) and not partition:
                raise self._refuse(f"{by.sql('duckdb') if by else column.name}: a value computed from {column.name}")

    # Queries -----------------------------------------------------------------------------------------------------------
    def _query(self, tree: exp.Expr, name: str, scope: Scope) -> None:
        """Add the pieces of a query, the last of them filling the table `name`."""
        while isinstance(tree, exp.Subquery) and not tree.args.get("with_"):
            tree = tree.this
        scope = self._expressions(tree, scope)
        query: exp.Expr
        if isinstance(tree, exp.Select):
            alike = bool(tree.args.get("distinct"))
            query, windows = self._select(tree, name, scope)
        elif isinstance(tree, exp.Union):
            alike = bool(tree.args.get("distinct"))
            query, windows = self._union(tree, name, scope), 0
        else:
            raise self._refuse(type(tree).__name__.upper())
        self.pieces.append(Piece(name, query.sql("duckdb"), windows, alike))

    def _expressions(self, tree: exp.Expr, scope: Scope) -> Scope:
        """Hoist a query's common table expressions; returns the scope in which it is read."""
        clause = tree.args.get("with_")
        if clause is None:
            return scope
        if clause.args.get("recursive"):
            raise self._refuse("WITH RECURSIVE")
        tree.set("with_", None)
        for cte in clause.expressions:
            if cte.args["alias"].args.get("columns"):
                raise self._refuse(f"a column list after {cte.alias}")
            table = f"{self.step}__{cte.alias}"
            self._query(cte.this, table, scope)
            scope = {**scope, cte.alias: table}
        return scope

    def _union(self, tree: exp.Union, name: str, scope: Scope) -> exp.Expr:
        distinct = bool(tree.args.get("distinct"))
        queries = []
        for number, branch in enumerate(self._branches(tree, distinct)):
            if branch.args.get("distinct"):
                raise self._refuse("SELECT DISTINCT inside UNION", "use a common table expression")
            query, windows = self._select(branch, f"{name}__{number}", scope)
            if windows:
                raise self._refuse("a window function inside UNION", "compute it in a common table expression")
            queries.append(query)
        both: exp.Expr = queries[0]
        for query in queries[1:]:
            both = exp.Union(this=both, expression=query, distinct=False)
        if distinct:
            both = self._one_of_each(Piece(f"{name}__rows", both.sql("duckdb")))
        both.set("order", tree.args.get("order"))
        return both

    def _one_of_each(self, rows: Piece) -> exp.Select:
        """Distinct rows of a piece. The piece stands apart, since each of its rows may come from several at once."""
        self.pieces.append(rows)
        columns, _ = self._select(_parsed(f"SELECT DISTINCT * FROM {rows.name}"), rows.name, {rows.name: rows.name})
        return columns

    def _branches(self, tree: exp.Expr, distinct: bool) -> Iterator[exp.Select]:
        if isinstance(tree, exp.Subquery):
            tree = tree.this
        if isinstance(tree, exp.Select):
            yield tree
            return
        odd = {key for key, value in tree.args.items() if value} - _UNION_PARTS
        if not isinstance(tree, exp.Union) or odd or bool(tree.args.get("distinct")) != distinct:
            raise self._refuse(
                f"{type(tree).__name__.upper()} {' '.join(sorted(odd))}".strip() + " inside a set operation"
            )
        yield from self._branches(tree.this, distinct)
        yield from self._branches(tree.expression, distinct)

    # One SELECT --------------------------------------------------------------------------------------------------------
    def _select(self, tree: exp.Select, name: str, scope: Scope) -> tuple[exp.Select, int]:
        odd = {key for key, value in tree.args.items() if value} - _SELECT_PARTS
        if odd or tree.args.get("with_"):
            raise self._refuse(", ".join(sorted(odd or {"with"})).upper().rstrip("_"))
        refs = [*self._sources(tree, name, scope), *self._inner(tree, name, scope)]
        row = f"[{', '.join(refs)}]" if refs else "CAST([] AS BIGINT[])"
        partitions = self._partitions(tree)
        aggregates = [f for f in tree.find_all(exp.AggFunc) if not _windowed(f)]
        grouped, distinct = bool(tree.args.get("group") or aggregates), tree.args.get("distinct")
        if distinct and (distinct.args.get("on") or grouped or any(tree.find_all(exp.Explode))):
            raise self._refuse("DISTINCT ON, or DISTINCT beside groups or unnest()")
        if partitions and (grouped or distinct or any(tree.find_all(exp.Explode))):
            raise self._refuse(
                "a window function beside GROUP BY, DISTINCT or unnest()", "use a common table expression"
            )
        if distinct and len(refs) > 1:
            return self._apart(tree, name, row), 0
        if distinct:  # equal rows are a group
            tree.set("distinct", None)
            tree.set("group", exp.Group(all=True))
        whole = f"flatten(list({row}))" if grouped or distinct else row
        columns = [f"{whole} AS {REFS}", *(f"{p} AS {WINDOW}{i}" for i, p in enumerate(partitions))]
        for column in columns:
            tree.append("expressions", _parsed(column))
        return tree, len(partitions)

    def _apart(self, tree: exp.Select, name: str, row: str) -> exp.Select:
        """SELECT DISTINCT over several sources: its rows first, then one of each."""
        order = tree.args.get("order")
        tree.set("distinct", None)
        tree.set("order", None)
        tree.append("expressions", _parsed(f"{row} AS {REFS}"))
        query = self._one_of_each(Piece(f"{name}__rows", tree.sql("duckdb")))
        for column in order.find_all(exp.Column) if order else []:
            column.set("table", None)
        query.set("order", order)
        return query

    def _sources(self, tree: exp.Select, name: str, scope: Scope) -> list[str]:
        """Point FROM and JOIN at the pieces' tables; returns SQL for the number of the row that each of them gave."""
        refs = []
        start = tree.args.get("from_")
        joins = tree.args.get("joins") or []
        for holder in [*([start] if start else []), *joins]:
            if isinstance(holder, exp.Join):
                self._check_join(holder)
            source = holder.this
            if isinstance(source, (exp.Values, exp.Unnest)):  # constants, or parts of a row on the left
                continue
            table, alias = self._table(source, f"{name}__{len(self.pieces)}", scope)
            if isinstance(holder, exp.Join) and holder.kind == "SEMI":
                table = self._semi(holder, table)
            new = exp.to_table(table)
            new.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
            holder.set("this", new)
            refs.append(f"coalesce(\"{alias}\".rowid + getvariable('at_{table}'), 0)")
        return refs

    def _table(self, source: exp.Expr, spare: str, scope: Scope) -> tuple[str, str]:
        """The table that a source stands for, hoisting a subquery, and the name by which the query calls it."""
        if isinstance(source, exp.Subquery) and not source.args.get("joins"):
            self._query(source.this, spare, scope)
            return spare, source.alias or f"_source_{len(self.pieces)}"
        plain = isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier)
        alias = source.args.get("alias")
        odd = {key for key, value in source.args.items() if value} - {"this", "alias"}
        if not plain or odd or (alias and alias.args.get("columns")):
            raise self._refuse(f"the source {source.sql('duckdb')}")
        if source.name not in scope:
            self.reads.add(source.name)
        return scope.get(source.name, source.name), source.alias_or_name

    def _check_join(self, join: exp.Join) -> None:
        kinds = {"", "INNER", "CROSS", "OUTER", "SEMI"}
        if join.method or join.kind not in kinds or join.side not in {"", "LEFT", "RIGHT", "FULL"}:
            raise self._refuse(f"{join.method} {join.side} {join.kind} JOIN".strip())
        if join.kind == "SEMI" and not join.args.get("using"):
            raise self._refuse("SEMI JOIN ... ON", "write it with USING")

    def _semi(self, join: exp.Join, table: str) -> str:
        """A semi-join keeps no row of its right side: join the right side's distinct keys instead."""
        keys = ", ".join(key.sql("duckdb") for key in join.args["using"])
        name = f"{self.step}__keys_{len(self.pieces)}"
        self._query(_parsed(f"SELECT DISTINCT {keys} FROM {table}"), name, {table: table})
        join.set("kind", None)
        return name

    def _inner(self, tree: exp.Select, name: str, scope: Scope) -> list[str]:
        """Hoist subqueries inside expressions; returns SQL for the number of a row that refers to all of their rows.

        A correlated subquery, hoisted, names columns that it does not know: DuckDB then refuses it.
        """
        refs = []
        for found in [node for node in _below(tree) if isinstance(node, exp.Query)]:
            query = found.this if isinstance(found, exp.Subquery) else found
            table = f"{name}__inner_{len(self.pieces)}"
            self._query(query.copy(), table, scope)
            row = f"\"{table}\".rowid + getvariable('at_{table}')"
            self.pieces.append(Piece(f"{table}__all", f"SELECT 1 AS one, list({row}) AS {REFS} FROM {table}"))
            query.replace(_parsed(f"SELECT * FROM {table}"))
            refs.append(f"getvariable('at_{table}__all')")
        return refs

    def _partitions(self, tree: exp.Select) -> list[str]:
        """SQL that numbers the partitions of the SELECT's window functions, one for each way of partitioning."""
        named = {w.this.name: w for w in tree.args.get("windows") or []}
        found: dict[str, None] = {}
        for window in (node for node in _below(tree) if isinstance(node, exp.Window) and node.args.get("over")):
            if self._is_surrogate(window):
                continue
            spec = named.get(window.alias, window)
            if window.alias and (window.alias not in named or spec.args.get("alias")):
                raise self._refuse(f"the window {window.alias}")
            parts = ", ".join(part.sql("duckdb") for part in spec.args.get("partition_by") or [])
            found[f"dense_rank() OVER (ORDER BY {parts}) - 1" if parts else "0"] = None
        return list(found)

    def _is_surrogate(self, window: exp.Window) -> bool:
        named = isinstance(window.parent, exp.Alias) and window.parent.alias in SURROGATES
        return named and isinstance(window.this, exp.DenseRank) and not window.args.get("partition_by")


def _parsed(sql: str) -> Any:
    return sqlglot.parse_one(sql, read="duckdb")


def _below(tree: exp.Select) -> Iterator[exp.Expr]:
    """Nodes of a SELECT's own expressions, not of its sources and not inside the queries found."""
    tops = [*tree.expressions, *(tree.args[k] for k in ("where", "group", "having", "order") if tree.args.get(k))]
    tops += [join.args["on"] for join in tree.args.get("joins") or [] if join.args.get("on")]
    for top in tops:
        yield from top.walk(prune=lambda node: isinstance(node, exp.Query))


def _windowed(function: exp.Expr) -> bool:
    """Whether an aggregate is computed over a window: it, or its FILTER, stands right below OVER."""
    parent = function.parent
    while isinstance(parent, (exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls)):
        parent = parent.parent
    return isinstance(parent, exp.Window)
