"""The score table's schema, enforced on write and on read, and its file format.

One row is one score. Every score file and the collected table have these columns; the collected table adds `source`.
Equal content gives equal bytes: rows are sorted by their key, and the writer's options are pinned.

A score file is small, and there are thousands: what describes its SAE is the same in all its rows and stands once, as
JSON, in the file's metadata. `read` gives the columns back.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sae_assay.errors import AssayError
from sae_assay.modes import MODES

PANELS = ("panel", "trajectory", "control")
STATUSES = (
    "ok",
    "undefined_denominator",
    "tied_direction",
    "too_few_rows",
    "non_finite",
    "not_applicable",
    "failed",
)
ALL_TASKS = "__all__"

SCHEMA = pl.Schema(
    {
        "study": pl.String(),
        "substrate": pl.String(),
        "panel": pl.String(),
        "sae_id": pl.String(),
        "arch": pl.String(),
        "target_l0": pl.Float64(),
        "variant": pl.String(),
        "training_seed": pl.Int64(),
        "step": pl.Int64(),
        "tokens": pl.Int64(),
        "is_final": pl.Boolean(),
        "control": pl.String(),
        "base_sae_id": pl.String(),
        "metric": pl.String(),
        "component": pl.String(),
        "hp_name": pl.String(),
        "hp_value": pl.Int64(),
        "task": pl.String(),
        "task_kind": pl.String(),
        "eval_seed": pl.Int64(),
        "value": pl.Float64(),
        "mode": pl.Enum(MODES),
        "direction": pl.Int8(),
        "n_train": pl.Int64(),
        "n_test": pl.Int64(),
        "status": pl.Enum(STATUSES),
        "reason": pl.String(),
    }
)
"""Columns and types of a score file, in their order."""

TABLE_SCHEMA = pl.Schema({**SCHEMA, "source": pl.String()})
"""The collected table: a score file's columns and the file that the row came from."""

KEY = (
    "study",
    "substrate",
    "sae_id",
    "metric",
    "component",
    "hp_name",
    "hp_value",
    "task",
    "eval_seed",
    "mode",
    "direction",
)
"""What names one score; no two rows share it."""

SAE_COLUMNS = (
    "study",
    "substrate",
    "panel",
    "sae_id",
    "arch",
    "target_l0",
    "variant",
    "training_seed",
    "step",
    "tokens",
    "is_final",
    "control",
    "base_sae_id",
)
"""What describes the SAE; the scoring step adds them, and `eval_seed`, to a metric's rows."""

METRIC_COLUMNS = (
    "metric",
    "component",
    "hp_name",
    "hp_value",
    "task",
    "task_kind",
    "mode",
    "direction",
    "n_train",
    "n_test",
    "value",
    "status",
    "reason",
)
"""What a metric function returns, in this order; types as in `SCHEMA`."""

NOT_NULL = ("study", "substrate", "panel", "sae_id", "is_final", "metric", "component", "task", "status")

_SHARE = (0.0, 1.0)
RANGES: dict[str, tuple[float, float]] = {
    "accuracy": _SHARE,
    "auc": _SHARE,
    "f1": _SHARE,
    "precision": _SHARE,
    "recall": _SHARE,
    "mcc": _SHARE,
    "uniqueness": _SHARE,
    "explained_variance": (-float("inf"), 1.0),
    "l0": (0.0, float("inf")),
    "dead_latents": (0.0, float("inf")),
}
"""Least and largest possible value of a component; components that are not named here are unbounded."""

_ROUNDING = 1e-5  # float32 arithmetic may leave a cosine of 1 a little above 1
_ROW_GROUP_ROWS = 100_000
_SEPARATOR = "\x1f"
CONSTANTS = b"sae_assay.constants"


def check(df: pl.DataFrame, where: str) -> pl.DataFrame:
    """Hold a score table to the schema; `source` may be there as the last column.

    Args:
        df: rows with the columns of `SCHEMA`, in its order.
        where: the file or job to name in an error.

    Returns:
        The same rows.

    Raises:
        AssayError: an unknown, missing or misplaced column, a wrong type, a null where none may be, a key twice, a
            value that is not finite, out of its range, or beside a status other than ok, an ok without a value, or an
            unknown evaluation seed (null; of scores that others computed) without a reason.
    """
    schema = TABLE_SCHEMA if "source" in df.columns else SCHEMA
    check_columns(df, schema, where)
    for column in (*NOT_NULL, *(["source"] if "source" in df.columns else [])):
        if df[column].null_count():
            _fail(df.filter(pl.col(column).is_null()), where, column, "is null", "give every row a value there")
    _check_values(df, where)
    _check_keys(df, where)
    return df


def check_columns(df: pl.DataFrame, schema: pl.Schema, where: str) -> None:
    """Hold a table's columns, their order and their types to a schema; AssayError names the first that differs."""
    for column in df.columns:
        if column not in schema:
            close = difflib.get_close_matches(column, schema.names(), n=1)
            hint = f"rename it to {close[0]}" if close else "drop it"
            raise AssayError(where, f"unknown column {column}", f"{hint}; the columns are {', '.join(schema.names())}")
    for column, wanted in schema.items():
        if column not in df.columns:
            raise AssayError(where, f"column {column} is missing", f"add it with type {wanted}, null where unknown")
        if df.schema[column] != wanted:
            found = df.schema[column]
            raise AssayError(where, f"column {column} has type {found}", f"cast it to {wanted}")
    if df.columns != schema.names():
        raise AssayError(where, f"columns stand in the order {df.columns}", f"select {schema.names()}")


def _check_values(df: pl.DataFrame, where: str) -> None:
    ok, value, seeded = pl.col("status") == "ok", pl.col("value"), pl.col("eval_seed").is_not_null()
    low, high = (pl.col("component").replace_strict(_bounds(i), default=None, return_dtype=pl.Float64) for i in (0, 1))
    rules = [
        (value.is_not_null() & ~value.is_finite(), "value", "is not finite", "store null with status non_finite"),
        (ok & value.is_null(), "value", "is null beside status ok", "say in status why there is no number"),
        (~ok & value.is_not_null(), "value", "stands beside a status other than ok", "store null there"),
        (ok & seeded & pl.col("reason").is_not_null(), "reason", "stands beside status ok", "leave it null there"),
        (~seeded & pl.col("reason").is_null(), "eval_seed", "is null without a reason", "say why the seed is unknown"),
        (ok & ((value < low - _ROUNDING) | (value > high + _ROUNDING)), "value", "is impossible", "check the metric"),
        (~pl.col("panel").is_in(PANELS), "panel", "is unknown", f"use one of {', '.join(PANELS)}"),
        (
            pl.col("hp_name").is_null() != pl.col("hp_value").is_null(),
            "hp_value",
            "and hp_name are not both given",
            "give both or neither",
        ),
        (
            (pl.col("panel") == "control") != pl.col("control").is_not_null(),
            "control",
            "does not fit the panel",
            "name its kind for controls only",
        ),
        ((pl.col("n_train") < 0) | (pl.col("n_test") < 0), "n_train, n_test", "are negative", "count rows"),
    ]
    for is_bad, column, problem, remedy in rules:
        bad = df.filter(is_bad)
        if bad.height:
            _fail(bad, where, column, problem, remedy)


def _bounds(side: int) -> dict[str, float]:
    return {component: bounds[side] for component, bounds in RANGES.items()}


def _check_keys(df: pl.DataFrame, where: str) -> None:
    for column in KEY:
        if df.schema[column] == pl.String:
            bad = df[column].unique().str.contains(r"[\x00-\x1f]")
            if bad.any():
                _fail(
                    df.filter(pl.col(column).str.contains(r"[\x00-\x1f]")),
                    where,
                    column,
                    "holds a control character",
                    "use printable names",
                )
    repeated = df.filter(pl.struct(KEY).is_duplicated())
    if repeated.height:
        _fail(repeated, where, "key", "is there twice", "score each cell once, or tell the rows apart by component")


def _fail(bad: pl.DataFrame, where: str, column: str, problem: str, remedy: str) -> None:
    row = bad.row(0, named=True)
    cell = ", ".join(f"{name} {row[name]}" for name in KEY if row[name] is not None)
    if column in row:
        problem = f"{problem} ({row[column]!r})"
    raise AssayError(where, f"column {column} {problem} in {bad.height} row(s), first {cell}", remedy)


def conform(df: pl.DataFrame, where: str) -> pl.DataFrame:
    """Cast and order the columns of rows built by hand to `SCHEMA`, then `check` them.

    Columns must be all there; a value that the type cannot hold is an AssayError that names the column.
    """
    schema = TABLE_SCHEMA if "source" in df.columns else SCHEMA
    columns = []
    for name, dtype in schema.items():
        if name not in df.columns:
            raise AssayError(where, f"column {name} is missing", f"add it with type {dtype}, null where unknown")
        try:
            columns.append(df[name].cast(dtype, strict=True))
        except pl.exceptions.PolarsError as error:
            problem = f"column {name} cannot be {dtype}: {str(error).splitlines()[0]}"
            raise AssayError(where, problem, "correct the values") from None
    extra = df.drop([c for c in schema.names() if c in df.columns])
    return check(pl.DataFrame(columns).hstack(extra), where)


def write(df: pl.DataFrame, path: str | Path) -> None:
    """Check the scores of one SAE and write them, sorted by their key; equal rows give equal bytes.

    Raises:
        AssayError: the table breaks the schema (`check`), describes more than one SAE, or the disk refuses it.
    """
    check(df, str(path))
    described = df.select(SAE_COLUMNS).unique()
    if described.height != 1:
        raise AssayError(str(path), f"describes {described.height} SAEs", "write one score file an SAE")
    rows = df.drop(SAE_COLUMNS).sort([name for name in KEY if name not in SAE_COLUMNS], nulls_last=False)
    text = json.dumps(described.row(0, named=True), sort_keys=True, ensure_ascii=True)
    table = rows.cast({pl.Enum: pl.String}).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 19, "write_statistics": False}
    options |= {
        "use_dictionary": [name for name in rows.columns if name != "value"],
        "use_byte_stream_split": ["value"],
    }
    try:
        with pq.ParquetWriter(Path(path), table.schema, store_schema=False, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({CONSTANTS.decode(): text})
    except OSError as error:
        raise _refused(path, error) from error


def read(path: str | Path) -> pl.DataFrame:
    """Read a score file (or the collected table) and check it.

    Raises:
        AssayError: the file is missing, damaged, or breaks the schema.
    """
    rows = read_pinned(path)
    if set(SAE_COLUMNS) & set(rows.columns):
        return check(rows, str(path))
    return conform(rows.with_columns(**_constants(path)), str(path))


def _constants(path: str | Path) -> dict[str, pl.Expr]:
    """The columns that a score file keeps in its metadata."""
    try:
        found = json.loads((pq.read_metadata(Path(path)).metadata or {})[CONSTANTS])
        return {name: pl.lit(found[name], dtype=SCHEMA[name]) for name in SAE_COLUMNS}
    except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
        problem = f"does not say whose scores it holds ({type(error).__name__})"
        raise AssayError(str(path), problem, "delete it and run the workflow again") from None


def write_pinned(df: pl.DataFrame, path: str | Path) -> None:
    """Write a table as parquet with every option fixed; rows keep their order. AssayError where the disk refuses."""
    try:
        df.rechunk().write_parquet(
            Path(path), compression="zstd", compression_level=19, statistics=False, row_group_size=_ROW_GROUP_ROWS
        )
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: str | Path, error: OSError) -> AssayError:
    return AssayError(str(path), f"cannot be written: {error}", "free disk space or correct the path")


def read_pinned(path: str | Path) -> pl.DataFrame:
    """Read a parquet table; AssayError where it is missing or damaged."""
    try:
        return pl.read_parquet(Path(path))
    except FileNotFoundError:
        raise AssayError(str(path), "no such table", "run the workflow, or `dvc pull`") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        problem = f"is no readable parquet file: {str(error).splitlines()[0]}"
        raise AssayError(str(path), problem, "delete it and run the workflow again") from error


def canonical_key(row: Mapping[str, Any]) -> str:
    """The text behind a score's id: key columns in order, `=value` or nothing for null, U+001F between them."""
    return _SEPARATOR.join("" if row[name] is None else f"={row[name]}" for name in KEY)


def score_id(row: Mapping[str, Any]) -> str:
    """SHA-256 (64 hex digits) of a row's canonical key; `SCORE_ID_SQL` derives the same in DuckDB."""
    return hashlib.sha256(canonical_key(row).encode()).hexdigest()


SCORE_ID_SQL = "sha256(concat_ws(chr(31), {}))".format(
    ", ".join(f"coalesce('=' || CAST({name} AS VARCHAR), '')" for name in KEY)
)
"""A DuckDB expression for `score_id` over the key columns."""
