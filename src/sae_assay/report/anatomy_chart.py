"""The chart of a noise anatomy: shares of every source stacked, and beside them each share with its interval."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from sae_assay.report import charts, style
from sae_assay.report.names import SOURCES

COLUMNS = ("setting", "source", "source_name", "value", "low", "high", "sd", "n_blocks", "reason")


def noise_anatomy(table: pl.DataFrame, title: str, subtitle: list[str]) -> alt.ConcatChart:
    """Per substrate and part a panel of stacked shares and one of intervals; columns of `views.noise_anatomy`."""
    present = style.ordered(SOURCES, table["source"].unique().to_list())
    panels: list[Any] = []
    for group in table.partition_by("substrate", "part_name", maintain_order=True):
        heading = f"{group['substrate'][0]} · {group['part_name'][0]}"
        panels += [_stacked(group, heading, present), _intervals(group, heading, present)]
    return charts._page(panels, title, subtitle, 2, (charts.WIDE_PLOT, charts.WIDE_AXIS))


def _base(group: pl.DataFrame, present: list[str]) -> alt.Chart:
    names = ", ".join(f"'{key}': '{SOURCES.get(key, key)}'" for key in present)
    legend = alt.Legend(title="source", labelExpr=f"({{{names}}})[datum.value]", symbolType="square")
    colour = alt.Color("source:N", sort=present, scale=style.scale(style.SOURCE_COLOURS, present), legend=legend)
    tips = charts._tips("setting:N", "source_name:N", "value:Q", "low:Q", "high:Q", "sd:Q", "n_blocks:Q", "reason:N")
    return alt.Chart(charts._data(group, *COLUMNS)).encode(color=colour, tooltip=tips)


def _rows(group: pl.DataFrame) -> alt.Y:
    names = group["setting"].unique(maintain_order=True).to_list()
    return alt.Y("setting:N", sort=names, title=None, axis=charts._rows_axis(grid=True, tickBand="extent"))


def _sized(chart: Any, group: pl.DataFrame, heading: str, present: list[str]) -> Any:
    height = group["setting"].n_unique() * max(40, 11 * len(present))
    return chart.properties(title=charts._heading(heading), width=charts.WIDE_PLOT, height=height)


def _stacked(group: pl.DataFrame, heading: str, present: list[str]) -> Any:
    order = alt.Order("place:Q", sort="ascending")
    places = " : ".join(f"datum.source == '{key}' ? {i}" for i, key in enumerate(present)) + f" : {len(present)}"
    axis = alt.Axis(format="%", tickCount=5)
    bars = (
        _base(group, present)
        .transform_calculate(place=places)
        .mark_bar(height=20)
        .encode(
            x=alt.X("value:Q", title="share of the variance", axis=axis, scale=alt.Scale(domain=[0, 1])),
            y=_rows(group),
            order=order,
        )
    )
    return _sized(bars, group, heading, present)


def _intervals(group: pl.DataFrame, heading: str, present: list[str]) -> Any:
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(format="%", tickCount=5)
    base = _base(group, present).encode(
        y=_rows(group), yOffset=alt.YOffset("source:N", sort=present, scale=alt.Scale(domain=present, paddingOuter=0.5))
    )
    words = "share, 95 % interval"
    whiskers = (
        base.mark_rule(strokeWidth=2, opacity=0.75)
        .encode(x=alt.X("low:Q", title=words, scale=scale, axis=axis), x2=alt.X2("high:Q"))
        .transform_filter("isValid(datum.low) && isValid(datum.high)")
    )
    dots = (
        base.mark_point(filled=True, size=45, opacity=1)
        .encode(x=alt.X("value:Q", title=words, scale=scale, axis=axis))
        .transform_filter("isValid(datum.value)")
    )
    return _sized(alt.layer(whiskers, dots), group, heading, present)
