"""One record per score, as every metric function returns them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

    from sae_assay.modes import Mode

Record = dict[str, Any]

ALL_TASKS = "__all__"


def record(
    metric: str,
    component: str,
    value: float | None,
    *,
    task: str = ALL_TASKS,
    task_kind: str | None = None,
    hp: tuple[str, int] | None = None,
    mode: Mode | None = None,
    direction: int | None = None,
    n_train: int | None = None,
    n_test: int | None = None,
    status: str = "ok",
    reason: str | None = None,
) -> Record:
    """One score. A number that is not finite becomes null with the status `non_finite`.

    Raises:
        ValueError: if a value comes with a status other than `ok`, or `ok` without a value.
    """
    if status == "ok" and value is not None and not math.isfinite(value):
        value, status, reason = None, "non_finite", f"computed as {value}"
    if (value is None) == (status == "ok"):
        raise ValueError(f"{metric}/{component} of {task}: value {value} with status {status}; a value needs `ok`")
    return {
        "metric": metric,
        "component": component,
        "hp_name": hp[0] if hp else None,
        "hp_value": hp[1] if hp else None,
        "task": task,
        "task_kind": task_kind,
        "mode": mode,
        "direction": direction,
        "n_train": n_train,
        "n_test": n_test,
        "value": value,
        "status": status,
        "reason": reason,
    }


def too_narrow(name: str, value: int, d_sae: int) -> dict[str, Any]:
    """Status and reason of a row whose hyper-parameter exceeds the SAE's width."""
    return {"status": "not_applicable", "reason": f"{name} = {value} exceeds the SAE's {d_sae} latents"}


def frame(records: Iterable[Record]) -> pl.DataFrame:
    """Records as a table with the score table's types (`sae_assay.tables.scores`).

    Values are rounded to float32 (a relative 6e-8): the arithmetic behind them carries no more, no reseed noise comes
    near it, and a score file takes half the bytes.
    """
    import polars as pl

    from sae_assay.tables import scores

    columns = {name: scores.SCHEMA[name] for name in scores.METRIC_COLUMNS}
    rows = pl.DataFrame(list(records), schema=columns, orient="row")
    return rows.with_columns(pl.col("value").cast(pl.Float32).cast(pl.Float64))
