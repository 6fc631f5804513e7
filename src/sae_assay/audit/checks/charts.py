"""Charts: every specification drawn again from the declared marts, and its picture drawn again from the specification."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import polars as pl

from sae_assay.audit import reading
from sae_assay.audit.checks import statistics
from sae_assay.audit.context import Context
from sae_assay.audit.findings import Finding
from sae_assay.errors import AssayError
from sae_assay.plan import Plan

NAME = "charts"
REDRAW = "run `snakemake` on the recorded statistics, or `dvc pull`"


def check(context: Context) -> list[Finding]:
    """Each chart's .json and .svg; its .png too at depth 2."""
    from sae_assay.report.names import CHART_NAMES

    if context.plan is None:
        context.skipped(NAME, "charts", "the study cannot be read")
        return []
    found = []
    for name in CHART_NAMES:
        context.progress(f"charts: {name}")
        try:
            found += _chart(context, context.plan, name)
        except AssayError as error:
            code = "UNSAFE_INPUT" if isinstance(error, reading.Unsafe) else "CHART_MISMATCH"
            context.judged(NAME, name, "DIFFERS")
            found.append(Finding(code, name, "a chart that can be drawn again", f"{error.where}: {error.problem}", REDRAW))
    return found


def redrawn(context: Context, name: str) -> dict[str, Any]:
    """A chart's specification, drawn from the recomputed marts that it declares, and no other."""
    from sae_assay.report import gallery, render

    marts = statistics.recomputed(context)
    declared: dict[str, pl.DataFrame] = {mart: marts[mart] for mart in gallery.SOURCES[name]}
    return context.once(f"chart {name}", lambda: render.specification(gallery.draw(name, declared)))


def _chart(context: Context, plan: Plan, name: str) -> list[Finding]:
    from sae_assay.report import render

    spec, found = redrawn(context, name), []
    files = {suffix: plan.results("charts", f"{name}.{suffix}") for suffix in ("json", "svg", "png")}
    text = reading.read_text(context.root, files["json"])
    if text != render.text(spec):
        found += _specification(files["json"], spec, reading.parse_json(text, files["json"]))
    context.fine(NAME, files["json"], not found)
    svg, png = _pictures(context, name, spec)
    found += _same(context, files["svg"], reading.read_bytes(context.root, files["svg"]), svg)
    if png is None:
        context.skipped(NAME, files["png"], "its pixels are drawn again at depth 2; its digest was compared")
    else:
        found += _same(context, files["png"], reading.read_bytes(context.root, files["png"]), png)
    return found


def _pictures(context: Context, name: str, spec: dict[str, Any]) -> tuple[bytes, bytes | None]:
    from sae_assay.report import render

    if context.options.depth >= 2:
        svg, png = render.pictures(spec)
        return svg.encode(), png
    import vl_convert

    return render.slim(vl_convert.vegalite_to_svg(spec)).encode(), None


def _same(context: Context, path: str, now: bytes, drawn: bytes) -> list[Finding]:
    context.fine(NAME, path, now == drawn)
    if now == drawn:
        return []
    expected, seen = (hashlib.sha256(content).hexdigest() for content in (drawn, now))
    return [Finding("CHART_MISMATCH", path, f"{expected} (drawn again)", seen, REDRAW)]


def _specification(path: str, drawn: dict[str, Any], now: Any) -> list[Finding]:
    places = _places(drawn, now)
    return [Finding("CHART_MISMATCH", f"{path}: {place}", expected, seen, REDRAW) for place, expected, seen in places[:20]]


def _places(drawn: Any, now: Any, where: str = "") -> list[tuple[str, str, str]]:
    """Where two JSON values differ: place, drawn and found value."""
    if isinstance(drawn, dict) and isinstance(now, dict):
        keys = sorted({*drawn, *now})
        return [p for key in keys for p in _places(drawn.get(key), now.get(key), f"{where}.{key}".lstrip("."))]
    if isinstance(drawn, list) and isinstance(now, list) and len(drawn) == len(now):
        return [p for i, pair in enumerate(zip(drawn, now, strict=True)) for p in _places(*pair, f"{where}[{i}]")]
    if type(drawn) is type(now) and drawn == now:
        return []
    shown = [json.dumps(value, ensure_ascii=False, sort_keys=True)[:160] for value in (drawn, now)]
    return [(where or "specification", *shown)]
