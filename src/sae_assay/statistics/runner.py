"""Runs the statistics: score tables in, checked marts out, bitwise repeatable.

Every statistic is one file in sql/; `stg_*` files are steps that several statistics share. DuckDB runs them in process on
one thread, in the order of `PLAN`; one step, the bootstrap over runs, is Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from sae_assay.errors import AssayError
from sae_assay.statistics import bootstrap, contracts, functions
from sae_assay.tables import scores

TABLES = ("scores", "repeats", "saes", "tasks", "coverage")
"""The study's tables that statistics read, from `tables.collect`."""

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
    "control_margins",
    "oracle_rank",
    "fault_ablation",
    "trajectory_points",
    "trajectory_trend",
    "trajectory_contrast",
    "pair_differences",
    "separated_pairs",
    "decision_accuracy",
    "coverage",
    "scorecard",
)
"""Steps in the order in which they run."""

MARTS = tuple(name for name in PLAN if not name.startswith("stg_") and name != "run_bootstrap")
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
    tables = {name: Path(table_dir) / f"{name}.parquet" for name in TABLES}
    marts = compute(tables, config)
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    for name, mart in marts.items():
        write_mart(name, mart, Path(out_dir) / f"{name}.parquet")
    return marts


def compute(tables: Mapping[str, Path], config: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Every mart, checked against its contract.

    Args:
        tables: paths of the tables named in `TABLES`.
        config: `scorecard` (primary {metric: {component, hp, mode, truth}}, thresholds {repeatable, discriminating,
            improving, valid, sane}, confidence .95), `decay_fraction` {substrate: share of training with a falling learning
            rate}, `best_kept` {substrate: latents that the `best` control keeps}; the last two may lack substrates.

    Raises:
        AssayError: a table is missing, damaged or breaks its schema, a declared primary is impossible, or a mart breaks
            its contract.
    """
    scores.read(tables["scores"])
    scores.read(tables["repeats"])
    with duckdb.connect(config={"threads": 1, "preserve_insertion_order": True}) as db:
        db.execute("SET TimeZone = 'UTC'")
        functions.register(db)
        for name in TABLES:
            _load(db, "planned_cells" if name == "coverage" else name, scores.read_pinned(tables[name]))
        _declare(db, config)
        for step in PLAN:
            if step == "run_bootstrap":
                _load(db, step, bootstrap.run_intervals(db.sql("SELECT * FROM stg_decisions").pl()))
            else:
                _run(db, step)
        return {name: contracts.conform(_result(db, name), name) for name in MARTS}


def _run(db: duckdb.DuckDBPyConnection, step: str) -> None:
    try:
        db.execute(f"CREATE TABLE {step} AS {sql(step)}")
    except duckdb.Error as error:
        problem = f"DuckDB refuses it: {' '.join(str(error).split())}"
        raise AssayError(
            f"statistics/sql/{step}.sql", problem, "correct the query, or the tables that it reads"
        ) from error


def sql(name: str) -> str:
    """The text of a statistic."""
    return (resources.files("sae_assay.statistics") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def write_mart(name: str, mart: pl.DataFrame, path: Path) -> None:
    """Check a mart against its contract and write it; equal content gives equal bytes."""
    contracts.check(mart, name)
    scores.write_pinned(mart, path)


def _result(db: duckdb.DuckDBPyConnection, name: str) -> pl.DataFrame:
    frame = db.sql(f"SELECT * FROM {name}").pl()
    return frame.drop("cell_id", strict=False)


def _load(db: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    db.register("incoming", frame.to_arrow())
    db.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
    db.unregister("incoming")


def _declare(db: duckdb.DuckDBPyConnection, config: Mapping[str, Any]) -> None:
    """The study's declarations as tables: primaries, criteria, decay_fractions, best_kept."""
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


def _frame(rows: list[Any], **columns: type) -> pl.DataFrame:
    types = {str: pl.String(), int: pl.Int64(), float: pl.Float64()}
    return pl.DataFrame(rows, schema={name: types[kind] for name, kind in columns.items()}, orient="row")
