"""From a chart to its files: the Vega-Lite specification, an SVG and a PNG; equal tables give equal bytes."""

from __future__ import annotations

import json
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import altair as alt

PNG_SCALE = 1.0


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


def pictures(spec: dict[str, Any]) -> tuple[str, bytes]:
    """SVG text and PNG bytes of a specification, drawn by vl-convert with the fonts that it ships."""
    import vl_convert

    svg = slim(vl_convert.vegalite_to_svg(spec))
    return svg, repack(vl_convert.svg_to_png(svg, scale=PNG_SCALE))


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


def repack(png: bytes) -> bytes:
    """The same picture without alpha and row filters, deflated harder: half the size. Other chunks and their order are kept.

    Args:
        png: 8-bit RGBA, opaque, not interlaced, rows unfiltered or filtered by `Sub`, as resvg writes it.
    """
    chunks, position = [], 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        chunks.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + length]))
        position += 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[0][1][:10])
    pixels = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    rows = np.frombuffer(pixels, np.uint8).reshape(height, -1)
    rgba = rows[:, 1:].reshape(height, width, 4)
    if (depth, colour) != (8, 6) or rows[:, 0].max() > 1:
        raise ValueError("vl-convert writes another kind of PNG than it did")
    sums = np.cumsum(rgba, axis=1, dtype=np.uint64).astype(np.uint8)
    rgba = np.where((rows[:, 0] == 1)[:, None, None], sums, rgba)
    if rgba[..., 3].min() < 255:
        raise ValueError("a chart has no opaque background")
    plain = np.concatenate([np.zeros((height, 1), np.uint8), rgba[..., :3].reshape(height, -1)], axis=1)
    first = next(i for i, (kind, _) in enumerate(chunks) if kind == b"IDAT")
    kept = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    kept[0] = (b"IHDR", struct.pack(">IIBB", width, height, 8, 2) + chunks[0][1][10:])
    kept.insert(first, (b"IDAT", zlib.compress(plain.tobytes(), 9)))
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in kept)
    return png[:8] + b"".join(packed)


def files(chart: alt.TopLevelMixin) -> dict[str, bytes]:
    """The chart's files by suffix: `.json`, `.svg`, `.png`."""
    spec = specification(chart)
    svg, png = pictures(spec)
    return {".json": text(spec).encode(), ".svg": svg.encode(), ".png": png}
