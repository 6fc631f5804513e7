"""The charts. Each draws one tidy table (see `views`), answers the question in its title, and computes nothing.

Every chart is a concatenation of small panels, so that the page can lay them out in as many columns as fit; `usermeta`
says how wide a panel is. Data are embedded at full precision and in the table's order; only tooltips format them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
import polars as pl

from sae_assay.report import style
from sae_assay.report.names import ARCHITECTURES, CONTROLS, label

PLOT, AXIS = 190, 62
WIDE_PLOT, WIDE_AXIS = 330, 128
TRAINED = "trained"


def _data(table: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The rows of one panel; what the panel's title says need not be in every row."""
    return table.select(columns or table.columns)


def _tips(*fields: str) -> list[alt.Tooltip]:
    """Tooltips `name:type` with a readable title; numbers to four significant digits."""
    tips = []
    for field in fields:
        name, kind = field.split(":")
        tips.append(alt.Tooltip(field, title=name.replace("_", " "), format=".4~g" if kind == "Q" else alt.Undefined))
    return tips


def nothing(title: str, why: str) -> alt.ConcatChart:
    """A picture that says why there is nothing to see."""
    words = alt.Chart(alt.InlineData(values=[{"why": why}])).mark_text(align="left", fontSize=12, x=0, limit=560)
    return _page(
        [words.encode(text=alt.Text("why:N")).properties(width=WIDE_PLOT, height=40)], title, [], 1, (WIDE_PLOT, 0)
    )


def _page(
    panels: Sequence[alt.LayerChart | alt.Chart], title: str, subtitle: list[str], columns: int, size: tuple[int, int]
) -> alt.ConcatChart:
    plot, axis = size
    heading = alt.TitleParams(title, subtitle=subtitle, offset=16)
    space = {"column": axis, "row": 92}
    chart = alt.concat(*panels, columns=columns, title=heading, bounds="flush", spacing=space)
    return chart.properties(config=style.config(), usermeta={"plot": plot, "axis": axis})


def _panels(table: pl.DataFrame, by: list[str], draw: Callable[[pl.DataFrame, str], Any]) -> list[Any]:
    """One panel per group, in the table's order, titled by the group's names."""
    groups = table.partition_by(by, maintain_order=True)
    return [draw(group, " · ".join(str(group[name][0]) for name in by if group[name][0])) for group in groups]


def _heading(text: str) -> alt.TitleParams:
    return alt.TitleParams(text, fontSize=12, fontWeight="bold", anchor="start", frame="group", offset=8)


def _rows_axis(**options: Any) -> alt.Axis:
    """Row labels on two lines, broken at the comma: half as wide."""
    return alt.Axis(labelExpr="split(datum.label, ', ')", labelLineHeight=12, labelOffset=-6, labelLimit=125, **options)


def scorecard(table: pl.DataFrame, title: str, subtitle: list[str]) -> alt.ConcatChart:
    """Heat table of verdicts: columns substrate, metric_name, dimension, verdict, symbol, detail."""
    order = table["dimension"].unique().sort().to_list()
    verdicts = list(style.VERDICT_COLOURS)

    def draw(group: pl.DataFrame, heading: str) -> Any:
        rows = group["metric_name"].unique(maintain_order=True).to_list()
        base = alt.Chart(
            _data(
                group, "metric_name", "dimension", "verdict", "symbol", "estimate", "low", "high", "threshold", "reason"
            )
        ).encode(
            x=alt.X(
                "dimension:N",
                sort=order,
                title=None,
                axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False),
            ),
            y=alt.Y("metric_name:N", sort=rows, title=None, axis=alt.Axis(domain=False, ticks=False)),
            tooltip=_tips(
                "metric_name:N", "dimension:N", "verdict:N", "estimate:Q", "low:Q", "high:Q", "threshold:Q", "reason:N"
            ),
        )
        colour = alt.Color(
            "verdict:N",
            title=None,
            scale=alt.Scale(domain=verdicts, range=[style.VERDICT_COLOURS[v] for v in verdicts]),
            legend=alt.Legend(symbolType="square", symbolStrokeColor=style.SOFT, symbolStrokeWidth=1),
        )
        cells = base.mark_rect(stroke=style.PAPER, strokeWidth=3, cornerRadius=5).encode(color=colour)
        symbols = base.mark_text(fontSize=16, color=style.INK).encode(text=alt.Text("symbol:N"))
        return (cells + symbols).properties(title=_heading(heading), width=WIDE_PLOT, height=30 * len(rows))

    columns = min(2, table["substrate"].n_unique())
    return _page(_panels(table, ["substrate"], draw), title, subtitle, columns, (WIDE_PLOT, WIDE_AXIS))


def intervals(
    table: pl.DataFrame,
    title: str,
    subtitle: list[str],
    x_title: str,
    *,
    log: bool = False,
    rules: Sequence[tuple[float, str]] = (),
    domain: tuple[float, float] | None = None,
    columns: int = 2,
) -> alt.ConcatChart:
    """Dots with intervals, a row a setting, up to two kinds a row (filled, open).

    Columns: substrate, setting, metric, metric_name, kind, value, low, high; `note` (text instead of a dot where value
    is null). Colour is the metric, shape the kind. `rules` are (x, meaning) lines.
    """
    scale = alt.Scale(type="log") if log else alt.Scale(domain=domain, zero=False) if domain else alt.Scale(zero=False)
    axis = {
        "title": x_title,
        "scale": scale,
        "axis": alt.Axis(tickCount=5, format="~g" if log else ".3~g", labelOverlap=True),
    }
    panels = _panels(table, ["substrate"], _dot_rows(table, lambda _: (axis, rules)))
    return _page(panels, title, subtitle, min(columns, len(panels)), (WIDE_PLOT, WIDE_AXIS))


def repairs(table: pl.DataFrame, title: str, subtitle: list[str]) -> alt.ConcatChart:
    """What each repair changes: per substrate and metric a panel of validity and one of noise; columns of `intervals`
    and `quantity`.
    """
    axes = {
        "validity": (alt.Scale(zero=False), "change of validity", 0.0),
        "noise": (alt.Scale(type="log"), "relative noise, times (logarithmic)", 1.0),
    }

    def axis(group: pl.DataFrame) -> XAxis:
        scale, words, unmoved = axes[group["quantity"][0]]
        return {"title": words, "scale": scale, "axis": alt.Axis(tickCount=5, format=".3~g")}, [(unmoved, "no change")]

    draw = _dot_rows(table, axis)
    panels = _panels(table, ["substrate", "metric_name", "quantity"], draw)
    return _page(panels, title, subtitle, 2, (WIDE_PLOT, WIDE_AXIS))


XAxis = tuple[dict[str, Any], Sequence[tuple[float, str]]]
"""An x axis (title, scale, axis) and the rules that cross it."""


def _dot_rows(table: pl.DataFrame, axis_of: Callable[[pl.DataFrame], XAxis]) -> Callable[[pl.DataFrame, str], Any]:
    """What draws a panel of dots with intervals, a row a setting; `axis_of` gives the x axis for a panel's rows."""
    metrics = style.ordered(style.METRIC_COLOURS, table["metric"].unique(maintain_order=True).to_list())
    kinds = table["kind"].unique(maintain_order=True).to_list()
    shapes = alt.Scale(domain=kinds, range=["circle", "diamond", "square"][: len(kinds)])

    def draw(group: pl.DataFrame, heading: str) -> Any:
        rows = group["setting"].unique(maintain_order=True).to_list()
        axis, rules = axis_of(group)
        base = alt.Chart(_data(group, "setting", "metric", "kind", "value", "low", "high", "note")).encode(
            y=alt.Y("setting:N", sort=rows, title=None, axis=_rows_axis(grid=True, tickBand="extent")),
            yOffset=alt.YOffset("kind:N", sort=kinds, scale=alt.Scale(domain=kinds, paddingOuter=0.5)),
            color=alt.Color("metric:N", scale=style.scale(style.METRIC_COLOURS, metrics), legend=None),
            tooltip=_tips("setting:N", "kind:N", "value:Q", "low:Q", "high:Q", "note:N"),
        )
        whiskers = (
            base.mark_rule(strokeWidth=2, opacity=0.75, clip=True)
            .encode(x=alt.X("low:Q", **axis), x2=alt.X2("high:Q"))
            .transform_filter("isValid(datum.low) && isValid(datum.high)")
        )
        shape = alt.Shape(
            "kind:N",
            title=None,
            scale=shapes,
            legend=alt.Legend(symbolFillColor=style.SOFT, symbolStrokeColor=style.SOFT),
        )
        dots = (
            base.mark_point(filled=True, size=70, opacity=1)
            .encode(x=alt.X("value:Q", **axis), shape=shape)
            .transform_filter("isValid(datum.value)")
        )
        notes = (
            base.mark_text(align="left", fontSize=10, fontStyle="italic", x=3)
            .encode(text=alt.Text("note:N"), color=alt.value(style.SOFT))
            .transform_filter("isValid(datum.note)")
        )
        lines = [_rule("x", value, meaning) for value, meaning in rules]
        height = max(60, len(rows) * max(30, 14 * len(kinds)))
        return alt.layer(*lines, whiskers, dots, notes).properties(
            title=_heading(heading), width=WIDE_PLOT, height=height
        )

    return draw


def _rule(channel: str, value: float, meaning: str) -> alt.Chart:
    encoding = alt.X(datum=value) if channel == "x" else alt.Y(datum=value)
    base = alt.Chart(alt.InlineData(values=[{"meaning": meaning}])).mark_rule(strokeDash=[5, 3], color=style.THRESHOLD)
    return base.encode(encoding, tooltip=_tips("meaning:N"))


def by_setting(
    table: pl.DataFrame, title: str, subtitle: list[str], y_title: str, *, rules: Sequence[tuple[float, str]] = ()
) -> alt.ConcatChart:
    """A line along n or k_probe with its interval, one panel per substrate and metric.

    Columns: substrate, metric, metric_name, hp_name, hp_value, series, value, low, high. Dash and shape are the series.
    """
    metrics = style.ordered(style.METRIC_COLOURS, table["metric"].unique(maintain_order=True).to_list())
    series = table["series"].unique(maintain_order=True).to_list()
    dashes = alt.Scale(domain=series, range=[[1, 0], [5, 3], [2, 2], [8, 2, 2, 2]][: len(series)])
    shapes = alt.Scale(domain=series, range=["circle", "diamond", "square", "triangle-up"][: len(series)])
    legend = alt.Legend(symbolFillColor=style.SOFT, symbolStrokeColor=style.SOFT) if len(series) > 1 else None

    def draw(group: pl.DataFrame, heading: str) -> Any:
        ticks = group["hp_value"].unique().sort().to_list()
        x = alt.X(
            "hp_value:Q",
            title=f"{group['hp_name'][0]} (latents)",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(values=ticks, format="d", grid=False, labelOverlap=True),
        )
        y = alt.Y("value:Q", title=y_title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, format=".3~g"))
        base = alt.Chart(_data(group, "metric", "hp_value", "series", "value", "low", "high")).encode(
            x=x,
            color=alt.Color("metric:N", scale=style.scale(style.METRIC_COLOURS, metrics), legend=None),
            tooltip=_tips("series:N", "hp_value:Q", "value:Q", "low:Q", "high:Q"),
        )
        dash = alt.StrokeDash("series:N", title=None, scale=dashes, legend=legend)
        shape = alt.Shape("series:N", title=None, scale=shapes, legend=legend)
        band = base.mark_area(opacity=0.16, clip=True).encode(
            y=alt.Y("low:Q", title=y_title), y2=alt.Y2("high:Q"), detail=alt.Detail("series:N")
        )
        line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash)
        dots = base.mark_point(filled=True, size=45, opacity=1).encode(y=y, shape=shape)
        lines = [_rule("y", value, meaning) for value, meaning in rules]
        return alt.layer(*lines, band, line, dots).properties(title=_heading(heading), width=PLOT, height=130)

    by = ["substrate", "metric_name", *(["tasks"] if "tasks" in table.columns else [])]
    return _page(_panels(table, by, draw), title, subtitle, 4, (PLOT, AXIS))


def scatter(table: pl.DataFrame, title: str, subtitle: list[str]) -> alt.ConcatChart:
    """Metric against truth, a dot an SAE with its interval over evaluation seeds; controls by shape.

    Columns: substrate, metric_name, tasks, sae_id, arch, kind, truth_name, truth, value, low, high.
    """
    archs = _trained(table)
    kinds = [TRAINED, *style.ordered(CONTROLS, [k for k in table["kind"].unique().to_list() if k != TRAINED])]
    colour, shape = _architecture(archs), _kind(kinds)

    def draw(group: pl.DataFrame, heading: str) -> Any:
        y_axis = alt.Axis(tickCount=5, format=".3~g")
        base = alt.Chart(_data(group, "sae_id", "arch", "kind", "truth", "value", "low", "high")).encode(
            x=alt.X(
                "truth:Q",
                title=f"truth: {group['truth_name'][0]}",
                scale=alt.Scale(zero=False),
                axis=alt.Axis(tickCount=5),
            ),
            color=colour,
            tooltip=_tips("sae_id:N", "truth:Q", "value:Q", "low:Q", "high:Q"),
        )
        whiskers = base.mark_rule(opacity=0.55).encode(
            y=alt.Y("low:Q", title="score", scale=alt.Scale(zero=False), axis=y_axis), y2=alt.Y2("high:Q")
        )
        dots = base.mark_point(filled=True, size=55, opacity=0.9).encode(y=alt.Y("value:Q", title="score"), shape=shape)
        return alt.layer(whiskers, dots).properties(title=_heading(heading), width=PLOT, height=160)

    return _page(_panels(table, ["substrate", "metric_name", "tasks"], draw), title, subtitle, 4, (PLOT, AXIS))


def _trained(table: pl.DataFrame) -> list[str]:
    """Architectures of the trained SAEs, in declared order."""
    present = table.filter(pl.col("kind") == TRAINED)["arch"].drop_nulls().unique().to_list()
    return style.ordered(ARCHITECTURES, present)


def _architecture(archs: list[str]) -> alt.Color:
    legend = alt.Legend(
        title="architecture", symbolType="circle", symbolOpacity=1, labelExpr=_labels(ARCHITECTURES, archs)
    )
    domain = [*archs, "oracle", "control"]
    return alt.Color("arch:N", scale=style.scale(style.ARCHITECTURE_COLOURS, domain), legend=legend)


def _kind(kinds: list[str]) -> alt.Shape:
    shapes = [style.CONTROL_SHAPES.get(k, style.TRAINED_SHAPE) for k in kinds]
    names = CONTROLS | {TRAINED: "Trained SAE"}
    legend = alt.Legend(
        title="SAE", symbolFillColor=style.SOFT, symbolStrokeColor=style.SOFT, labelExpr=_labels(names, kinds)
    )
    return alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=shapes), legend=legend)


def strips(table: pl.DataFrame, title: str, subtitle: list[str]) -> alt.ConcatChart:
    """Where the oracle and the controls stand among the trained SAEs: one panel per metric, one row per kind.

    Columns: substrate, metric_name, tasks, sae_id, arch, kind, kind_name, value, low, high, percentile_text.
    """
    archs = _trained(table)
    kinds = [TRAINED, *style.ordered(CONTROLS, [k for k in table["kind"].unique().to_list() if k != TRAINED])]
    rows = [label(CONTROLS | {TRAINED: "Trained SAEs"}, k) for k in ["oracle", TRAINED, *CONTROLS] if k in kinds]
    rows = list(dict.fromkeys(rows))

    def draw(group: pl.DataFrame, heading: str) -> Any:
        x_axis = alt.Axis(tickCount=4, format=".3~g")
        base = alt.Chart(_data(group, "sae_id", "arch", "kind", "kind_name", "value", "low", "high")).encode(
            y=alt.Y("kind_name:N", sort=rows, scale=alt.Scale(domain=rows), title=None, axis=alt.Axis(grid=True)),
            color=_architecture(archs),
            tooltip=_tips("sae_id:N", "value:Q", "low:Q", "high:Q"),
        )
        whiskers = base.mark_rule(opacity=0.6).encode(
            x=alt.X("low:Q", title="score", scale=alt.Scale(zero=False), axis=x_axis), x2=alt.X2("high:Q")
        )
        dots = base.mark_point(filled=True, opacity=0.85, size=55).encode(
            x=alt.X("value:Q", title="score"), shape=_kind(kinds)
        )
        top = alt.TitleParams(
            heading, subtitle=group["percentile_text"][0], fontSize=12, anchor="start", frame="group", offset=8
        )
        return alt.layer(whiskers, dots).properties(title=top, width=PLOT, height=24 * len(rows))

    return _page(_panels(table, ["substrate", "metric_name", "tasks"], draw), title, subtitle, 3, (PLOT, 130))


def trajectories(table: pl.DataFrame, title: str, subtitle: list[str]) -> alt.ConcatChart:
    """Scores along training with their reseed band, the truth first: a line a training run.

    Columns: substrate, quantity, is_truth, run, arch, training_seed, tokens, value, low, high.
    """
    archs = style.ordered(ARCHITECTURES, table["arch"].drop_nulls().unique(maintain_order=True).to_list())

    def draw(group: pl.DataFrame, heading: str) -> Any:
        y_axis = alt.Axis(tickCount=5, format=".3~g")
        base = alt.Chart(_data(group, "run", "arch", "tokens", "value", "low", "high")).encode(
            x=alt.X("tokens:Q", title="training samples", scale=alt.Scale(type="log"), axis=alt.Axis(tickCount=4, format="~s", grid=False)),
            color=alt.Color("arch:N", title="architecture", scale=style.scale(style.ARCHITECTURE_COLOURS, archs),
                            legend=alt.Legend(labelExpr=_labels(ARCHITECTURES, archs), symbolOpacity=1)),
            detail=alt.Detail("run:N"),
            tooltip=_tips("run:N", "tokens:Q", "value:Q", "low:Q", "high:Q"),
        )  # fmt: skip
        band = base.mark_area(opacity=0.14).encode(
            y=alt.Y(
                "low:Q", title="truth" if group["is_truth"][0] else "score", scale=alt.Scale(zero=False), axis=y_axis
            ),
            y2=alt.Y2("high:Q"),
        )
        y = alt.Y("value:Q")
        dashed = [4, 2] if group["is_truth"][0] else [1, 0]
        line = base.mark_line(strokeWidth=1.8, strokeDash=dashed).encode(y=y)
        dots = base.mark_point(filled=True, size=26, opacity=1).encode(y=y)
        return alt.layer(band, line, dots).properties(title=_heading(heading), width=PLOT, height=140)

    return _page(_panels(table, ["substrate", "quantity"], draw), title, subtitle, 4, (PLOT, AXIS))


def _labels(names: dict[str, str], present: list[str]) -> str:
    """A Vega expression that shows display names in a legend."""
    return " : ".join([*(f"datum.label == '{k}' ? '{label(names, k)}'" for k in present), "datum.label"])
