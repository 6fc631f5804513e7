"""From a chart to its files: the Vega-Lite specification, an SVG and a PNG; equal tables give equal bytes."""

from __future__ import annotations

import json
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

PNG_SCALE = 1.0


def specification(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """The chart as a Vega-Lite dictionary. Names come from the data's content only, never from a counter or a clock."""
    from sae_assay.report.style import LEGEND_LAYOUT

    spec = chart.to_dict(validate=True)
    spec["config"]["legend"]["layout"] = LEGEND_LAYOUT
    return spec


def text(spec: dict[str, Any]) -> str:
    """Canonical JSON of a specification, one line; numbers at full precision."""
    return json.dumps(spec, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def pictures(spec: dict[str, Any]) -> tuple[str, bytes]:
    """SVG text and PNG bytes of a specification, drawn by vl-convert with the fonts that it ships."""
    import vl_convert

    svg = slim(vl_convert.vegalite_to_svg(spec))
    return svg, repack(vl_convert.svg_to_png(svg, scale=PNG_SCALE))


def slim(svg: str) -> str:
    """The same picture with coordinates to a hundredth of a pixel, without default attributes, empty paths and hooks for
    scripts, its one font named once; labels stay as they are."""
    number = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
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
    return geometry.sub(lambda a: number.sub(lambda n: f"{round(float(n[0]), 2):.10g}", a[0]), bare)


def repack(png: bytes) -> bytes:
    """The same picture with its pixels deflated harder: a third of the size. Other chunks and their order are kept."""
    chunks, position = [], 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        chunks.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + length]))
        position += 12 + length
    pixels = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    first = next(i for i, (kind, _) in enumerate(chunks) if kind == b"IDAT")
    kept = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    kept.insert(first, (b"IDAT", zlib.compress(pixels, 9)))
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in kept)
    return png[:8] + b"".join(packed)


def files(chart: alt.TopLevelMixin) -> dict[str, bytes]:
    """The chart's files by suffix: `.json`, `.svg`, `.png`."""
    spec = specification(chart)
    svg, png = pictures(spec)
    return {".json": text(spec).encode(), ".svg": svg.encode(), ".png": png}
