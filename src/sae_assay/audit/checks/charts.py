"""Charts: every specification drawn again from the declared marts of the tree, and its picture drawn again from the specification."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sae_assay.audit import reading
from sae_assay.audit.context import Context
from sae_assay.audit.findings import Finding
from sae_assay.audit.replay import Interrupted
from sae_assay.errors import AssayError

NAME = "charts"
REDRAW = "run `snakemake` on the recorded statistics, or `dvc pull --force`"


def check(context: Context) -> list[Finding]:
    """Each chart's .json; its .svg too at depth 2."""
    from sae_assay.report.names import CHART_NAMES

    found = []
    for name in CHART_NAMES:
        try:
            found += _chart(context, name)
        except Interrupted:
            raise
        except AssayError as error:
            code = "UNSAFE_INPUT" if isinstance(error, reading.Unsafe) else "CHART_MISMATCH"
            context.judged(NAME, name, "DIFFERS")
            found.append(
                Finding(code, name, "a chart that can be drawn again", f"{error.where}: {error.problem}", REDRAW)
            )
    return found


def _chart(context: Context, name: str) -> list[Finding]:
    found = []
    files = {suffix: context.plan.results("charts", f"{name}.{suffix}") for suffix in ("json", "svg")}
    text, drawn = reading.read_text(context.root, files["json"]), context.drawing.chart(name, "json").decode()
    if text != drawn:
        found += _specification(files["json"], json.loads(drawn), reading.parse_json(text, files["json"]))
    context.fine(NAME, files["json"], not found)
    if context.options.depth < 2:
        context.skipped(NAME, files["svg"], "pictures are drawn again at depth 2; its digest was compared")
        return found
    now = reading.read_bytes(context.root, files["svg"])
    return found + _same(context, files["svg"], now, context.drawing.chart(name, "svg"))


def _same(context: Context, path: str, now: bytes, drawn: bytes) -> list[Finding]:
    context.fine(NAME, path, now == drawn)
    if now == drawn:
        return []
    expected, seen = (hashlib.sha256(content).hexdigest() for content in (drawn, now))
    return [Finding("CHART_MISMATCH", path, f"{expected} (drawn again)", seen, REDRAW)]


def _specification(path: str, drawn: dict[str, Any], now: Any) -> list[Finding]:
    places = _places(drawn, now) or [("text", "canonical JSON", "the same values, written in another way")]
    return [
        Finding("CHART_MISMATCH", f"{path}: {place}", expected, seen, REDRAW) for place, expected, seen in places[:20]
    ]


def _places(drawn: Any, now: Any, where: str = "") -> list[tuple[str, str, str]]:
    """Where two JSON values differ: place, drawn and found value."""
    if isinstance(drawn, dict) and isinstance(now, dict):
        keys = sorted({*drawn, *now})
        return [p for key in keys for p in _places(drawn.get(key), now.get(key), f"{where}.{key}".lstrip("."))]
    if isinstance(drawn, list) and isinstance(now, list) and len(drawn) == len(now):
        return [p for i, pair in enumerate(zip(drawn, now, strict=True)) for p in _places(*pair, f"{where}[{i}]")]
    if type(drawn) is type(now) and drawn == now:
        return []
    expected, seen = (json.dumps(value, ensure_ascii=False, sort_keys=True)[:160] for value in (drawn, now))
    return [(where or "specification", expected, seen)]
