"""Runs the statistics: score tables in, checked marts out, bitwise repeatable.

Every statistic is one file in sql/; `stg_*` files are steps that several statistics share. DuckDB runs them in process on
one thread, in the order of `PLAN`; two steps, which draw random numbers, are Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from sae_assay.errors import AssayError
from sae_assay.statistics import anatomy, bootstrap, contracts, functions
from sae_assay.tables import anatomy as anatomy_tables
from sae_assay.tables import scores

TABLES = ("scores", "repeats", "saes", "tasks", "coverage")
"""The study's tables that statistics read, from `tables.collect`."""

ANATOMY_TABLES = ("anatomy", "points")
"""Tables of a noise anatomy, from `tables.anatomy`; a study without one has none, and they count as empty."""

NAMES = ("substrate", "sae_id", "base_sae_id", "metric", "component", "hp_name", "task", "task_kind")
"""Columns of `TABLES` that hold few different names in many rows."""

PLAN = (
    "stg_scores",
    "stg_cells",
    "stg_primary",
    "stg_shown",
    "stg_kinds",
    "stg_members",
    "stg_repeats",
    "stg_compared",
    "stg_task_scores",
    "stg_two_way",
    "stg_sae_means",
    "stg_anova",
    "stg_panel_points",
    "stg_truths",
    "stg_snapshots",
    "stg_step_noise",
    "stg_trends",
    "stg_pairs",
    "stg_decisions",
    "stg_fault_pairs",
    "run_bootstrap",
    "reseed_noise",
    "generalisability",
    "seed_behaviour",
    "noise_floor",
    "panel_points",
    "validity",
    "architecture_truths",
    "control_margins",
    "oracle_rank",
    "fault_ablation",
    "trajectory_points",
    "trajectory_trend",
    "trajectory_contrast",
    "recalibration",
    "pair_differences",
    "separated_pairs",
    "decision_accuracy",
    "coverage",
    "scorecard",
    "between_worlds",
    "stg_anatomy_scores",
    "stg_anatomy_points",
    "stg_anatomy_steps",
    "stg_anatomy_squares",
    "run_anatomy",
    "noise_anatomy",
    "text_bootstrap",
)
"""Steps in the order in which they run."""

PYTHON: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "run_bootstrap": ("stg_decisions", bootstrap.run_intervals),
    "run_anatomy": ("stg_anatomy_squares", anatomy.intervals),
}
"""Steps that are no query: the step that each reads, and its function."""

MARTS = tuple(name for name in PLAN if not name.startswith("stg_") and name not in PYTHON)
"""The tables that are written; sql/NAME.yml says what each holds."""

_CRITERIA = (
    ("D1", "repeatable", "repeatable", "no reseed noise was measured"),
    ("D1n", "repeatable as a mean over seeds", "repeatable", "no reseed noise was measured"),
    ("D2", "discriminating", "discriminating", "no training trajectories with a known truth"),
    ("D3", "improves with training", "improving", "no training trajectories"),
    ("D4", "valid", "valid", "no ground truth here"),
    ("D5", "sane on controls", "sane", "no applicable control"),
)
_LEAST_RUNS = 3


def run_all(table_dir: str | Path, out_dir: str | Path, config: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Compute every mart from `table_dir`'s tables and write `out_dir/NAME.parquet`; returns the marts (see `compute`)."""
    tables = {name: Path(table_dir) / f"{name}.parquet" for name in (*TABLES, *ANATOMY_TABLES)}
    tables = {name: path for name, path in tables.items() if name in TABLES or path.exists()}
    marts = compute(tables, config)
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    for name, mart in marts.items():
        write_mart(name, mart, Path(out_dir) / f"{name}.parquet")
    return marts


def compute(tables: Mapping[str, Path], config: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Every mart, checked against its contract.

    Args:
        tables: paths of the tables named in `TABLES`, and in `ANATOMY_TABLES` where there are some.
        config: `scorecard` (primary {metric: {component, hp, mode, truth}}, thresholds {repeatable, discriminating,
            improving, valid, sane}, confidence .95), `decay_fraction` {substrate: share of training with a falling learning
            rate}, `best_kept` {substrate: latents that the `best` control keeps}, `families` {world: the world whose recipe it
            shares}, `text_share` {substrate: share of its text in one sample of an anatomy}; the last four may lack substrates.

    Raises:
        AssayError: a table is missing, damaged or breaks its schema, a declared primary is impossible, or a mart breaks
            its contract.
    """
    with database(tables, config) as db:
        for step in PLAN:
            run(db, step)
        return {name: contracts.conform(result(db, name), name) for name in MARTS}


@contextmanager
def database(tables: Mapping[str, Path], config: Mapping[str, Any]) -> Iterator[duckdb.DuckDBPyConnection]:
    """The database in which steps run: the study's tables and its declarations (see `compute`).

    All names are values of one enum, in alphabetical order: they sort and join as integers.
    """
    frames = {name: scores.read_pinned(tables[name]) for name in TABLES}
    frames |= anatomy_tables.nothing()
    frames |= {name: scores.read_pinned(tables[name]) for name in ANATOMY_TABLES if name in tables}
    for name in ("scores", "repeats", "anatomy"):
        scores.check(frames[name], str(tables.get(name, name)))
    with duckdb.connect(config={"threads": 1, "preserve_insertion_order": True}) as db:
        db.execute("SET TimeZone = 'UTC'")
        functions.register(db)
        listed = ", ".join("'{}'".format(name.replace("'", "''")) for name in _names(frames.values()))
        db.execute(f"CREATE TYPE name AS ENUM ({listed})")
        for name, frame in frames.items():
            _load(db, "planned_cells" if name == "coverage" else name, frame, NAMES)
        _declare(db, config)
        yield db


def _names(frames: Iterable[pl.DataFrame]) -> list[str]:
    """Every name in the tables, sorted."""
    columns = [frame[column].drop_nulls().unique() for frame in frames for column in NAMES if column in frame.columns]
    return sorted({name for column in columns for name in column})


def run(db: duckdb.DuckDBPyConnection, step: str) -> None:
    """Make the table of a step of `PLAN`, those that it reads being there."""
    if step in PYTHON:
        reads, function = PYTHON[step]
        _load(db, step, function(db.sql(f"SELECT * FROM {reads}").pl()))
        return
    try:
        db.execute(f"CREATE TABLE {step} AS {sql(step)}")
    except duckdb.Error as error:
        problem = f"DuckDB refuses it: {' '.join(str(error).split())}"
        raise AssayError(
            f"statistics/sql/{step}.sql", problem, "correct the query, or the tables that it reads"
        ) from error


def result(db: duckdb.DuckDBPyConnection, step: str) -> pl.DataFrame:
    """What a step made, without the number of its cell."""
    return db.sql(f"SELECT * FROM {step}").pl().cast({pl.Categorical: pl.String}).drop("cell_id", strict=False)


def sql(name: str) -> str:
    """The text of a statistic."""
    return (resources.files("sae_assay.statistics") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def write_mart(name: str, mart: pl.DataFrame, path: Path) -> None:
    """Check a mart against its contract and write it; equal content gives equal bytes."""
    contracts.check(mart, name)
    scores.write_pinned(mart, path)


def _load(db: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame, names: Sequence[str] = ()) -> None:
    """Take a table in; columns among `names` become values of the enum."""
    db.register("incoming", frame.to_arrow())
    columns = (f"CAST({c} AS name) AS {c}" if c in names else c for c in frame.columns)
    db.execute(f"CREATE TABLE {name} AS SELECT {', '.join(columns)} FROM incoming")
    db.unregister("incoming")


def _declare(db: duckdb.DuckDBPyConnection, config: Mapping[str, Any]) -> None:
    """The study's declarations as tables: primaries, criteria, decay_fractions, best_kept, families, text_shares."""
    card = config["scorecard"]
    if card.get("confidence", 0.95) != 0.95:
        problem = f"confidence {card['confidence']} is asked for"
        raise AssayError("scorecard.confidence", problem, "set 0.95: the statistics' intervals are 95 % ones")
    primaries = [
        (metric, p["component"], p.get("hp"), p.get("mode"), p["truth"])
        for metric, p in sorted(card["primary"].items())
    ]
    _load(db, "primaries", _frame(primaries, metric=str, component=str, hp_value=int, mode=str, truth=str))
    criteria = [(c, title, float(card["thresholds"][key]), _LEAST_RUNS, why) for c, title, key, why in _CRITERIA]
    _load(db, "criteria", _frame(criteria, criterion=str, title=str, threshold=float, least=int, nothing=str))
    decay = sorted(config.get("decay_fraction", {}).items())
    _load(db, "decay_fractions", _frame(decay, substrate=str, decay_fraction=float))
    kept = sorted(config.get("best_kept", {}).items())
    _load(db, "best_kept", _frame(kept, substrate=str, best_kept=int))
    _load(db, "families", _frame(sorted(config.get("families", {}).items()), substrate=str, family=str))
    shares = sorted(config.get("text_share", {}).items())
    _load(db, "text_shares", _frame(shares, substrate=str, share=float))


def _frame(rows: list[Any], **columns: type) -> pl.DataFrame:
    types = {str: pl.String(), int: pl.Int64(), float: pl.Float64()}
    return pl.DataFrame(rows, schema={name: types[kind] for name, kind in columns.items()}, orient="row")
