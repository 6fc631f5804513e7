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
from sae_assay.report.names import AUDIT_CONTROLS, METRICS, label
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
