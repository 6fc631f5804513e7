"""Colours, shapes and the Vega-Lite configuration that every chart shares.

Architectures use Okabe and Ito's palette, metrics Paul Tol's "muted": both stay apart under colour blindness. Every
colour in a chart comes from here, with its partner for a dark page, so that the page can exchange them.
"""

from __future__ import annotations

from typing import Any

import altair as alt

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"  # the first ships with vl-convert: same pictures everywhere

INK, SOFT, GRID, PAPER = "#1d2329", "#55606b", "#e3e8ec", "#ffffff"
THRESHOLD = "#7a4b00"
TRUTH = "#4b5563"
OTHER = "#6b7280"

ARCHITECTURE_COLOURS: dict[str, str] = {
    "batchtopk": "#0072b2",
    "matryoshka": "#e69f00",
    "sampled_matryoshka": "#882255",
    "matching_pursuit": "#009e73",
    "standard": "#d55e00",
    "jumprelu": "#cc79a7",
    "toy": "#56b4e9",
    "oracle": INK,
    "control": OTHER,
}

METRIC_COLOURS: dict[str, str] = {
    "sae_probes": "#332288",
    "sparse_probing": "#3e9cc4",
    "tpp": "#cc6677",
    "scr": "#b8a032",
    "reconstruction": "#117733",
    "ground_truth": "#44aa99",
    "known_validity": "#6f7d1e",
    "pure_noise": "#aa4499",
}

SOURCE_COLOURS: dict[str, str] = {
    "data": "#0072b2",
    "tasks": "#e69f00",
    "split": "#009e73",
    "probe": "#d55e00",
    "negatives": "#cc79a7",
}

VERDICT_COLOURS: dict[str, str] = {
    "PASS": "#c9e0f5",
    "FAIL": "#fbd3b4",
    "INCONCLUSIVE": "#e6e9ed",
    "NOT MEASURED": "#fafbfc",
}
VERDICT_SYMBOLS: dict[str, str] = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "NOT MEASURED": "–"}

CONTROL_SHAPES: dict[str, str] = {
    "oracle": "diamond",
    "best": "square",
    "random_init": "triangle-up",
    "random_l0_matched": "triangle-down",
    "permuted_decoder": "cross",
}
TRAINED_SHAPE = "circle"

DARK: dict[str, str] = {
    INK: "#e4e8ed",
    SOFT: "#a6b0bb",
    GRID: "#2f3841",
    PAPER: "#14181d",
    THRESHOLD: "#e8b264",
    TRUTH: "#b9c2cc",
    OTHER: "#98a2ad",
    "#0072b2": "#4ea8e0",
    "#009e73": "#2fc49a",
    "#d55e00": "#f0813a",
    "#332288": "#9a8df0",
    "#3e9cc4": "#62bce2",
    "#cc6677": "#e58896",
    "#b8a032": "#d6c15c",
    "#117733": "#4dbb74",
    "#6f7d1e": "#b3c24a",
    "#aa4499": "#d57cc7",
    "#c9e0f5": "#1d4568",
    "#fbd3b4": "#6a3a15",
    "#e6e9ed": "#333c46",
    "#fafbfc": "#191e24",
}
"""Colour on a light page -> the same on a dark one; colours that are not named serve both."""


def config() -> dict[str, Any]:
    """The configuration of every chart: one font, quiet grid, readable at 360 pixels."""
    return {
        "font": FONT,
        "aria": False,  # one label a picture stands in the page; one a mark would treble the SVG and drown a reader
        "background": PAPER,
        "view": {"stroke": None},
        "axis": {
            "labelColor": SOFT,
            "titleColor": INK,
            "titleFontWeight": "normal",
            "gridColor": GRID,
            "domainColor": SOFT,
            "tickColor": SOFT,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "labelLimit": 150,
        },
        "axisYQuantitative": {"labelFlush": True},
        "legend": {
            "labelColor": INK,
            "titleColor": SOFT,
            "titleFontWeight": "normal",
            "labelFontSize": 11,
            "labelLimit": 230,
            "orient": "bottom",
            "direction": "horizontal",
            "columns": 7,
        },
        "title": {"color": INK, "subtitleColor": SOFT, "anchor": "start", "fontSize": 14, "subtitleFontSize": 11},
        "header": {"labelColor": INK, "titleColor": INK},
        "text": {"color": INK},
    }


LEGEND_LAYOUT = {"bottom": {"anchor": "start", "direction": "vertical", "margin": 6}}
"""Legends under each other, as a phone needs; Vega knows it, Vega-Lite's JSON schema does not."""


def scale(colours: dict[str, str], present: list[str]) -> alt.Scale:
    """An ordinal colour scale with explicit domain and range; a key that nobody declared is grey."""
    return alt.Scale(domain=present, range=[colours.get(key, OTHER) for key in present])


def ordered(declared: dict[str, Any], present: list[str]) -> list[str]:
    """Present keys in declared order, undeclared ones after, sorted."""
    return [k for k in declared if k in present] + sorted(k for k in set(present) if k not in declared)
