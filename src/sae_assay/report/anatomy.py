"""The page's section on a noise anatomy: sentences and tables, every number a cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from markupsafe import Markup

from sae_assay.report import sections, views
from sae_assay.report.cells import Cells
from sae_assay.report.names import PARTS, SOURCES
from sae_assay.report.sections import Table, grouped, heads
from sae_assay.report.views import Marts

TITLE = "Where does reseed noise come from?"
WORDS = (
    "Every random choice of an evaluation belongs to one source, and each source is reseeded alone, all else kept. The common "
    "shift moves all SAEs alike and harms no ranking; the relative noise moves their differences. Beside it, rows are drawn "
    "anew with replacement: what a reseed on fixed rows or text cannot show."
)
HELP = (
    "Left: the sources’ variances as parts of their sum. Right: the same shares with their intervals; wide ones say that "
    "there are too few blocks to tell. A source without a bar moved no score, or no more than the relative noise explains."
)


def section(marts: Marts, cells: Cells) -> dict[str, Any]:
    """The section's words, sentences and tables; tables without rows where the study has no anatomy."""
    return {
        "title": TITLE,
        "words": WORDS,
        "here": sentences(marts, cells),
        "table": sections.traced(shares(marts, cells), cells),
        "bootstrap": sections.traced(bootstrap(marts, cells), cells),
    }


def sentences(marts: Marts, cells: Cells) -> list[Markup]:
    """The largest source of each metric's relative noise and common shift, and which others may be as large."""
    table = views.anatomy(marts).filter(pl.col("share").is_not_null())
    lines = []
    for group in table.partition_by("substrate", "setting", maintain_order=True):
        parts = [group.filter(part=part).to_dicts() for part in ("relative", "common")]
        name = Markup("<b>{}</b> on <b>{}</b>, largest source of ").format(group["setting"][0], group["substrate"][0])
        lines.append(name + Markup("; of ").join(_largest(rows, cells) for rows in parts if rows) + ".")
    return lines


def _largest(rows: list[dict[str, Any]], cells: Cells) -> Markup:
    first = max(rows, key=lambda row: row["share"])
    words = Markup("{}: {}, {}").format(PARTS[first["part"]], first["source_name"].lower(), _share(first, cells))
    rivals = [row["source"] for row in rows if row is not first and _may_reach(row, first)]
    if not rivals:
        return words
    return words + f", not told apart from {sections.joined(rivals, SOURCES).lower()}"


def _may_reach(row: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
    """Whether a source's interval overlaps that of the largest one; one without an interval may be anything but inert."""
    high = row["share"] if row["share_high"] is None else row["share_high"]
    return high > (first["share_low"] or 0)


def _share(row: Mapping[str, Any], cells: Cells) -> Markup:
    limits = cells.interval("noise_anatomy", row, "share_low", "share_high", "percent0")
    return cells.show("noise_anatomy", row, "share", "percent0") + (Markup(" ") + limits if limits else limits)


def shares(marts: Marts, cells: Cells) -> Table:
    """A row a metric, mode and part: its noise under all sources at once, and every source's share."""
    table, rows = views.anatomy(marts), []
    for group in table.partition_by("substrate", "setting", "part", maintain_order=True):
        found = {row["source"]: row for row in group.to_dicts()}
        whole = found["all"]
        sd = cells.show("noise_anatomy", whole, "sd", "significant2") + Markup(" ")
        sd += cells.interval("noise_anatomy", whole, "sd_low", "sd_high", "significant2")
        each = [_share(found[source], cells) if source in found else "no source here" for source in SOURCES]
        blocks = cells.show("noise_anatomy", whole, "n_blocks", "integer")
        sums = cells.show("noise_anatomy", whole, "additivity", "fixed2")
        name = f"{whole['setting']}: {whole['part_name']}"
        rows.append([name, whole["substrate"], sd, *each, sums, blocks])
    names = heads(
        "Metric", "Substrate", "#SD, all at once (95 %)", *(f"#{words}" for words in SOURCES.values()), "#Sum of sources / all",
        "#Blocks",
    )  # fmt: skip
    caption = (
        "Shares of each source in the sum of their variances (95 %). Where sources’ effects add up, their sum is the variance of "
        "all at once; above it, they interact."
    )
    return grouped(caption, names, rows, "Shares of every source, with intervals")


def bootstrap(marts: Marts, cells: Cells) -> Table:
    """A row a metric, mode and part: SDs under resampled rows, under a reseed on fixed rows, and under new rows."""
    table = views.anatomy(marts).filter(source="all").select("setting", "part_name", *views.CELL, "task_kind", "part")
    keys = [*views.CELL, "task_kind", "part"]
    joined = table.join(marts["text_bootstrap"], on=keys, how="inner", nulls_equal=True, maintain_order="left")
    rows = []
    for row in joined.to_dicts():

        def span(column: str, row: Mapping[str, Any] = row) -> Markup:
            limits = cells.interval("text_bootstrap", row, f"{column}_low", f"{column}_high", "significant2")
            return cells.show("text_bootstrap", row, column, "significant2") + Markup(" ") + limits

        rows.append(
            [
                f"{row['setting']}: {row['part_name']}", row["substrate"], span("resampled"), span("reseeded"),
                span("new_rows"), cells.show("text_bootstrap", row, "resampled_to_reseeded", "fixed2"),
                cells.show("text_bootstrap", row, "n_resamples", "integer"),
            ]
        )  # fmt: skip
    names = heads(
        "Metric", "Substrate", "#Rows resampled (95 %)", "#Reseeded on fixed rows (95 %)", "#New rows (95 %)",
        "#Resampled / reseeded", "#Resamplings",
    )  # fmt: skip
    caption = (
        "Standard deviations of one score. Rows are resampled class by class within each part of the split, probes trained anew. "
        "New rows of a language model come from a finite bank, corrected for the share that one sample takes."
    )
    return grouped(caption, names, rows, "Rows resampled, beside the reseed")
