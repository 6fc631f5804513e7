"""From a chart to its files: the Vega-Lite specification and an SVG; equal tables give equal bytes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt


def specification(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """The chart as a Vega-Lite dictionary. Names come from the data's content only, never from a counter or a clock."""
    import altair as alt

    from sae_assay.report.style import LEGEND_LAYOUT

    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict(validate=True)
    spec["config"]["legend"]["layout"] = LEGEND_LAYOUT
    return spec


def text(spec: dict[str, Any]) -> str:
    """Canonical JSON of a specification, one line; numbers at full precision."""
    return json.dumps(spec, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def picture(spec: dict[str, Any]) -> str:
    """The SVG text of a specification, drawn by vl-convert with the fonts that it ships."""
    import vl_convert

    return slim(vl_convert.vegalite_to_svg(spec))


def slim(svg: str) -> str:
    """The same picture with coordinates to a tenth of a pixel, without default attributes, empty paths and hooks for
    scripts, its one font named once; labels stay as they are."""
    number = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")
    geometry = re.compile(r' (?:d|transform|x|y|x1|x2|y1|y2|width|height)="[^"]*"')
    idle = re.compile(
        r' (?:class|role|pointer-events|aria-[a-z]+)="[^"]*"| (?:opacity|stroke-width)="1"'
        r'|<path d="(?:M0,0h0v0h0Z)?"(?: display="none")?/>'
    )
    bare = idle.sub("", svg)
    fonts = set(re.findall(r' font-family="[^"]*"', bare))
    if len(fonts) == 1:
        font = fonts.pop()
        bare = bare.replace(font, "").replace("<svg", f"<svg{font}", 1)
    return geometry.sub(lambda a: number.sub(lambda n: f"{round(float(n[0]), 1):.10g}", a[0]), bare)


def files(chart: alt.TopLevelMixin) -> dict[str, bytes]:
    """The chart's files by suffix: `.json`, `.svg`."""
    spec = specification(chart)
    return {".json": text(spec).encode(), ".svg": picture(spec).encode()}
