"""A study of scores that others computed, as a file that one can edit: what it found, with the usual primary settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import yaml

from sae_assay.errors import AssayError
from sae_assay.study.load import Study

_HEAD = "# Written by `sae-assay import-saebench` from the files below. Declare primary settings and thresholds before the run.\n"
_SETTINGS = {"saebench_sparse_probing": "k_probe", "sae_probes": "k_probe", "saebench_tpp": "n", "saebench_scr": "n"}
# SAEBench's own SCR score is the component `compatible`: 0 where it is undefined.
_PRIMARY: dict[str, dict[str, Any]] = {
    "saebench_sparse_probing": {"component": "accuracy", "hp": 5, "truth": "f1"},
    "sae_probes": {"component": "auc", "hp": 5, "truth": "f1"},
    "saebench_tpp": {"component": "score", "hp": 10, "truth": "mcc"},
    "saebench_scr": {"component": "compatible", "hp": 10, "truth": "mcc"},
}
_NO_SEED = 42  # SAEBench's default; a study needs one, though nothing is scored


def write(name: str, substrate: str, section: dict[str, Any], table: pl.DataFrame) -> Path:
    """Write studies/NAME.yaml for a table of imported scores, checked; the study's path.

    Raises:
        AssayError: there is such a study, or its name or paths are impossible.
    """
    path = Path("studies", f"{name}.yaml")
    study = {
        "study": name,
        "description": f"Scores that others computed with SAEBench, on {substrate}.",
        "seeds": _seeds(table),
        "imported": {substrate: section},
        **_metrics(table),
    }
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(_HEAD + yaml.safe_dump(study, sort_keys=False, default_flow_style=None, width=120))
    except FileExistsError:
        raise AssayError(
            str(path), "is there already", "choose another --study, or edit its section `imported`"
        ) from None
    try:
        Study.load(path)
    except AssayError:
        path.unlink()
        raise
    return path


def _seeds(table: pl.DataFrame) -> dict[str, list[int]]:
    def of(rows: pl.DataFrame) -> list[int]:
        return rows["eval_seed"].drop_nulls().unique().sort().to_list()

    seeds = of(table) or [_NO_SEED]
    return {"evaluation": seeds, "snapshot": of(table.filter(pl.col("panel") == "trajectory")) or list(seeds)}


def _metrics(table: pl.DataFrame) -> dict[str, Any]:
    """The sections `metrics` and `scorecard` for the metrics that have primary settings."""
    metrics: dict[str, Any] = {}
    primary: dict[str, Any] = {}
    for name, setting in _SETTINGS.items():
        values = table.filter(pl.col("metric") == name)["hp_value"].unique().sort().to_list()
        if not values:
            continue
        metrics[name] = {setting: values}
        usual = _PRIMARY[name]
        primary[name] = {**usual, "hp": _nearest(values, usual["hp"])}
    return {"metrics": metrics, "scorecard": {"primary": primary}}


def _nearest(values: list[int], wanted: int) -> int:
    return min(values, key=lambda value: (abs(value - wanted), value))
