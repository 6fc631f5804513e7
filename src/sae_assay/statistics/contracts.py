"""What a mart holds, declared in sql/NAME.yml: grain, columns, types, ranges; checked on every write."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import polars as pl
import yaml

from sae_assay.errors import AssayError
from sae_assay.tables.scores import check_columns

TYPES: dict[str, pl.DataType] = {"string": pl.String(), "int": pl.Int64(), "float": pl.Float64(), "bool": pl.Boolean()}
_ROUNDING = 1e-9


@cache
def contract(name: str) -> dict[str, Any]:
    """A mart's declaration: description, grain, columns (those it extends first)."""
    text = (resources.files("sae_assay.statistics") / "sql" / f"{name}.yml").read_text(encoding="utf-8")
    declared = yaml.safe_load(text)
    if "extends" in declared:
        declared["columns"] = [*contract(declared["extends"])["columns"], *declared["columns"]]
    return dict(declared)


def schema(name: str) -> pl.Schema:
    """Columns and types of a mart, in order."""
    return pl.Schema({column["name"]: TYPES[column["type"]] for column in contract(name)["columns"]})


def conform(mart: pl.DataFrame, name: str) -> pl.DataFrame:
    """Cast integer widths to the declared types and `check`."""
    wanted = schema(name)
    same = [c for c in mart.columns if c in wanted and mart.schema[c].is_numeric() == wanted[c].is_numeric()]
    untyped = [c for c in mart.columns if c in wanted and mart[c].null_count() == mart.height]
    return check(mart.with_columns(pl.col(c).cast(wanted[c]) for c in dict.fromkeys([*same, *untyped])), name)


def check(mart: pl.DataFrame, name: str) -> pl.DataFrame:
    """Hold a mart to its declaration.

    Raises:
        AssayError: a wrong column or type, a null or a value where it may not be, a number that is not finite, or two rows
            of one grain.
    """
    declared, where = contract(name), f"statistics/sql/{name}.sql"
    check_columns(mart, schema(name), where)
    for column in declared["columns"]:
        bad = mart.filter(_breaks(column))
        if bad.height:
            problem = f"column {column['name']} is {bad[column['name']][0]!r} in {bad.height} row(s), first {_grain(bad, name)}"
            raise AssayError(where, problem, f"correct the query, or the declaration in {name}.yml")
    if mart.height and mart.select(pl.struct(declared["grain"]).is_duplicated().any()).item():
        torn = mart.filter(pl.struct(declared["grain"]).is_duplicated())
        raise AssayError(
            where, f"{torn.height} rows share their grain, first {_grain(torn, name)}", "correct the query"
        )
    return mart


def _breaks(column: dict[str, Any]) -> pl.Expr:
    """Which rows break a column's declaration."""
    value = pl.col(column["name"])
    broken = value.is_null() if column.get("not_null") else value.is_null() & pl.lit(False)
    if column["type"] == "float":
        broken |= ~value.is_finite()
    if "range" in column:
        low, high = column["range"]
        broken |= (value < low - _ROUNDING) if low is not None else False
        broken |= (value > high + _ROUNDING) if high is not None else False
    if "accepted" in column:
        broken |= ~value.is_in(column["accepted"])
    return broken.fill_null(False)


def _grain(rows: pl.DataFrame, name: str) -> str:
    return ", ".join(f"{c} {rows[c][0]}" for c in contract(name)["grain"] if rows[c][0] is not None)
