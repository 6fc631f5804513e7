"""Time per score, the library's and ours, as a benchmark measured it: an input of the page, not a result of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from markupsafe import Markup

from sae_assay.report.cells import Cells
from sae_assay.report.names import METRICS, label
from sae_assay.report.sections import Table, heads, traced

TABLE, KEY = "seconds", ("metric",)
ABOUT = ("machine", "date", "sae_bench", "substrate", "sae", "seed", "command")


def measured(design: Mapping[str, Any]) -> pl.DataFrame | None:
    """A row a metric, with CPU seconds a score, their ratio and how it was measured; None where a study names no file."""
    found = design.get("measured")
    if found is None:
        return None
    rows = [
        {
            "metric": metric,
            **one,
            "library_per_score": one["library"] / one["scores"],
            "ours_per_score": one["ours"] / one["scores"],
            "ratio": one["library"] / one["ours"],
            "reason": None if one["largest_difference"] is not None else "one side gave a score and the other none",
            **{name: found[name] for name in ABOUT},
        }
        for metric, one in found["metrics"].items()
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def section(design: Mapping[str, Any], cells: Cells) -> dict[str, Any] | None:
    """The table, and the sentence that says how it was measured."""
    table = measured(design)
    if table is None:
        return None
    rows = table.to_dicts()

    def show(row: Mapping[str, Any], column: str, form: str) -> Markup:
        return cells.show(TABLE, row, column, form)

    body: list[list[Markup | str]] = [
        [
            label(METRICS, row["metric"]),
            show(row, "library_per_score", "significant2"), show(row, "ours_per_score", "significant2"),
            show(row, "ratio", "significant2"), show(row, "scores", "count"), show(row, "unequal", "count"),
            show(row, "largest_difference", "significant2"),
        ]
        for row in rows
    ]  # fmt: skip
    about = {name: show(rows[0], name, "text") for name in ABOUT}
    words = Markup(
        "CPU seconds (user and system, one thread) to score the SAE {sae} of {substrate} at evaluation seed {seed}, with the same "
        "activations, probes and draws on both sides; what all SAEs share, imports, and SAEBench’s probe on all latents are "
        "not counted. Measured beside the study, not by a job of it, on {machine}, {date}, with sae-bench {sae_bench}: "
        "<code>{command}</code>."
    ).format(**about)
    names = heads(
        "Metric", "#SAEBench, s a score", "#Ours, s a score", "#Ratio", "#Scores", "#Unequal", "#Largest difference"
    )  # fmt: skip
    caption = "What one score costs, by SAEBench itself and by our own code of the same procedure."
    return {"words": words, "table": traced(Table(caption, names, body), cells)}
