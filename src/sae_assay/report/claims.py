"""The paper's claims in words, held against this study: sentences whose every number is a cell.

They stand beside the study's own findings (`statistics.findings`) in each lens' section.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl
from markupsafe import Markup

from sae_assay.report import paper, sections, views
from sae_assay.report.cells import Cells
from sae_assay.report.names import AUDIT_CONTROLS, METRICS, label, setting
from sae_assay.report.views import Marts


def of_lens(lens: str, marts: Marts, cells: Cells) -> list[Markup]:
    """Sentences on one lens (reseed, ground_truth, trajectory); empty where the claim was not tested."""
    claims = {"reseed": [noisiest], "trajectory": [separated]}.get(lens, [])
    return [line for claim in claims for line in claim(marts, cells)]


def _join(parts: Iterable[Markup]) -> Markup:
    words = list(parts)
    return words[0] if len(words) == 1 else Markup("{} and {}").format(Markup(", ").join(words[:-1]), words[-1])


def _cells_of(mart: str, marts: Marts, column: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Substrate -> metric -> row at the primary setting on `in` tasks (or all), where the column has a value."""
    table = views.apart(views.primary(marts[mart], marts), ("in",)).filter(pl.col(column).is_not_null())
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in table.filter(~pl.col("metric").is_in(AUDIT_CONTROLS)).to_dicts():
        found.setdefault(row["substrate"], {})[row["metric"]] = row
    return found


def noisiest(marts: Marts, cells: Cells) -> list[Markup]:
    """The paper's order of noise, TPP and SCR above the probing metrics, held against the coefficients of variation here."""
    lines = []
    for substrate, rows in _cells_of("reseed_noise", marts, "cv_absolute").items():
        perturbing = [rows[m]["cv_absolute"] for m in ("tpp", "scr") if m in rows]
        probing = [rows[m]["cv_absolute"] for m in ("sae_probes", "sparse_probing") if m in rows]
        if not perturbing or not probing:
            continue
        verdict = paper.AGREES if min(perturbing) > max(probing) else paper.DIFFERS
        listed = _join(
            Markup("{} {}").format(label(METRICS, m), cells.show("reseed_noise", row, "cv_absolute", "significant2"))
            for m, row in rows.items()
            if m in METRICS
        )
        text = "{} TPP and SCR noisier than the probing metrics, on <b>{}</b>: coefficients of variation are {}."
        lines.append(Markup(text).format(sections.chip(verdict), substrate, listed))
    return lines


def separated(marts: Marts, cells: Cells) -> list[Markup]:
    """How many matched-step pairs each metric tells apart."""
    every = {**marts, "separated_pairs": marts["separated_pairs"].filter(pl.col("step").is_null())}
    lines = []
    for substrate, rows in _cells_of("separated_pairs", every, "share").items():
        shares = _join(
            Markup("{} {}").format(label(METRICS, metric), cells.show("separated_pairs", row, "share", "percent0"))
            for metric, row in rows.items()
        )
        text = "Pairs of runs at matched steps that differ by more than noise on <b>{}</b> (chance: 5 %): {}."
        lines.append(cells.text(Markup(text)).format(substrate, shares))
    return lines


UNMOVED = {"residual_change": 0.0, "noise_ratio": 1.0}
FORMS = {"residual_change": "+fixed2", "noise_ratio": "fixed2"}


def repairs(marts: Marts, cells: Cells) -> list[Markup]:
    """What repairing faults changes: a sentence a metric, setting and kind of tasks; those of features beyond the dictionary
    are left to the table."""
    table = views.repairs(marts)
    main = table.filter(pl.col("task_kind") != "out")
    groups = main.partition_by("substrate", "metric", "hp_value", "task_kind", maintain_order=True)
    return [_repairs(group.to_dicts(), cells) for group in groups]


def _repairs(rows: list[dict[str, Any]], cells: Cells) -> Markup:
    first, single = rows[0], [row for row in rows if row["mode"] != "strict"]
    name = setting(first["metric"], first["hp_name"], first["hp_value"])
    parts = [Markup("<b>{}</b> on <b>{}</b>, {}.").format(name, first["substrate"], first["tasks"] or "all tasks")]
    if any(row["residual_change"] is not None for row in single):
        text = "One repair at a time moves the validity by {}; beyond its interval: {}."
        parts.append(Markup(text).format(_range(single, cells, "residual_change"), _clear(single, "residual_change")))
    if any(row["noise_ratio"] is not None for row in single):
        text = "It makes relative noise {} times as large; beyond its interval: {}."
        parts.append(Markup(text).format(_range(single, cells, "noise_ratio"), _clear(single, "noise_ratio")))
    for row in (row for row in rows if row["mode"] == "strict" and row["residual_change"] is not None):
        text = "In strict mode validity goes from {} to {}, a change of {}, and noise is {} times as large."
        ends = (cells.show("fault_ablation", row, f"residual_{side}", "+fixed2") for side in ("saebench", "repaired"))
        parts.append(Markup(text).format(*ends, *(_estimate(cells, row, column) for column in UNMOVED)))
    missing = [row["repair"] for row in rows if row["n_tasks"] == 0]
    if missing:
        parts.append(Markup("No common task: {}.").format(", ".join(missing)))
    return Markup(" ").join(parts)


def _range(rows: list[dict[str, Any]], cells: Cells, column: str) -> Markup:
    """The smallest and the largest estimate."""
    found = sorted((row for row in rows if row[column] is not None), key=lambda row: row[column])
    ends = [found[0]] if len(found) == 1 else [found[0], found[-1]]
    return Markup(" to ").join(cells.show("fault_ablation", row, column, FORMS[column]) for row in ends)


def _clear(rows: list[dict[str, Any]], column: str) -> str:
    """Repairs whose interval does not hold the value of no change."""
    unmoved = UNMOVED[column]
    found = [
        row["repair"]
        for row in rows
        if row[f"{column}_low"] is not None and not row[f"{column}_low"] <= unmoved <= row[f"{column}_high"]
    ]
    return ", ".join(found) or "none"


def _estimate(cells: Cells, row: dict[str, Any], column: str) -> Markup:
    limits = cells.interval("fault_ablation", row, f"{column}_low", f"{column}_high", FORMS[column])
    return cells.show("fault_ablation", row, column, FORMS[column]) + Markup(" ") + limits
