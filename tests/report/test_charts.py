"""Every chart draws its table as it is, the same bytes each time, and says why where there is nothing to draw."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from sae_assay.report import charts as charts_module
from sae_assay.report import gallery, names, render, style, views
from sae_assay.report.names import CHART_NAMES


def _rows(spec: dict) -> list[dict]:
    """Every datum that is a row of the chart's table (a rule's datum says its meaning instead)."""
    return [row for rows in spec["datasets"].values() for row in rows if "meaning" not in row]


def test_every_chart_has_its_three_files(charts: Path) -> None:
    assert {p.name for p in charts.iterdir()} == {f"{n}.{s}" for n in CHART_NAMES for s in names.CHART_SUFFIXES}


def test_names_need_no_heavy_import() -> None:
    code = "import sys, sae_assay.report.names; print([m for m in ('altair', 'polars', 'vl_convert', 'torch') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize("name", CHART_NAMES)
def test_a_chart_asks_its_question_and_holds_every_row_of_its_view(
    name: str, charts: Path, marts: dict[str, pl.DataFrame]
) -> None:
    spec = json.loads((charts / f"{name}.json").read_text(encoding="utf-8"))
    assert spec["title"]["text"] == gallery.TITLES[name]
    assert gallery.TITLES[name].endswith("?")
    view = gallery.VIEWS[name](marts)
    assert view.height > 0
    rows = _rows(spec)
    assert len(rows) == view.height
    column = "value" if "value" in view.columns else "estimate"
    exact = sorted(v for v in view[column].to_list() if v is not None)
    assert sorted(row[column] for row in rows if row[column] is not None) == exact  # bitwise: nothing is rounded


@pytest.mark.parametrize("name", ["scorecard", "trajectories"])
def test_equal_marts_give_equal_bytes(name: str, charts: Path, marts: dict[str, pl.DataFrame]) -> None:
    again = render.files(gallery.draw(name, marts))
    assert {s: (charts / f"{name}{s}").read_bytes() for s in again} == again


def test_specifications_hold_no_random_or_counted_names(charts: Path) -> None:
    for name in CHART_NAMES:
        text = (charts / f"{name}.json").read_text(encoding="utf-8")
        assert "view_" not in text
        assert "param_" not in text
        assert "http" not in text.replace("https://vega.github.io/schema/", "")


@pytest.mark.parametrize("name", CHART_NAMES)
def test_an_empty_table_gives_a_picture_that_says_why(name: str, marts: dict[str, pl.DataFrame]) -> None:
    empty = {mart: table.clear() for mart, table in marts.items()}
    (row,) = _rows(render.specification(gallery.draw(name, empty)))
    assert row["why"] == f"Not measured in this study: {gallery.ABSENT[name]}."


def test_a_picture_that_says_why_can_be_drawn() -> None:
    files = render.files(charts_module.nothing("Why?", "Not measured in this study."))
    assert "Not measured in this study." in files[".svg"].decode()
    assert set(files) == {".json", ".svg"}


@pytest.mark.parametrize(
    "name",
    [
        "reseed_noise",
        "truth_scatter",
        "truth_validity",
        "trajectories",
        "trajectory_decisions",
        "fault_ablation",
        "noise_anatomy",
    ],
)
def test_intervals_are_drawn(name: str, charts: Path) -> None:
    text = (charts / f"{name}.json").read_text(encoding="utf-8")
    assert '"field":"low"' in text
    assert '"field":"high"' in text


def test_a_metric_and_an_architecture_have_one_colour_in_every_chart(charts: Path) -> None:
    declared = style.METRIC_COLOURS | style.ARCHITECTURE_COLOURS | style.VERDICT_COLOURS | style.SOURCE_COLOURS
    seen = 0
    for name in CHART_NAMES:
        spec = json.loads((charts / f"{name}.json").read_text(encoding="utf-8"))
        for scale in _colour_scales(spec):
            seen += 1
            assert scale["range"] == [declared[key] for key in scale["domain"]]
    assert seen > 10


def _colour_scales(node: object) -> list[dict]:
    if isinstance(node, list):
        return [scale for part in node for scale in _colour_scales(part)]
    if not isinstance(node, dict):
        return []
    here = [node["color"]["scale"]] if isinstance(node.get("color"), dict) and "scale" in node["color"] else []
    return here + [scale for part in node.values() for scale in _colour_scales(part)]


def test_palettes_stay_apart_under_colour_blindness() -> None:
    """Deuteranopia and protanopia (Machado et al. 2009, severity 1): neighbours differ by more than the eye's threshold."""
    blind = {
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    }
    trained = [c for a, c in style.ARCHITECTURE_COLOURS.items() if a in names.ARCHITECTURES and a != "toy"]
    for matrix in blind.values():
        seen = [_lab(colour, matrix) for colour in trained]
        gaps = [math.dist(a, b) for i, a in enumerate(seen) for b in seen[i + 1 :]]
        assert min(gaps) > 8


def _lab(colour: str, matrix: list[list[float]]) -> tuple[float, float, float]:
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    r, g, b = (min(1.0, max(0.0, sum(w * c for w, c in zip(row, linear, strict=True)))) for row in matrix)
    x, y, z = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def test_slimming_an_svg_keeps_labels() -> None:
    svg = '<g class="a" transform="translate(1.23456,-0.000012)"><text aria-hidden="true">0.00012</text></g>'
    assert render.slim(svg) == '<g transform="translate(1.2,-0)"><text>0.00012</text></g>'


def test_in_and_out_tasks_are_never_mixed_where_both_exist(marts: dict[str, pl.DataFrame]) -> None:
    kinds = views.apart(views.primary(marts["panel_points"], marts))
    for _, group in kinds.group_by(["substrate", "metric"]):
        found = set(group["task_kind"])
        assert found <= {"in", "out"} or found <= {"all", "__all__"}


def test_only_primary_settings_are_judged(marts: dict[str, pl.DataFrame]) -> None:
    points = views.primary(marts["reseed_noise"], marts)
    assert points.group_by("substrate", "metric").agg(pl.col("hp_value").n_unique().alias("n"))["n"].max() == 1


def test_an_unknown_chart_is_an_error(tmp_path: Path) -> None:
    from sae_assay.errors import AssayError
    from sae_assay.steps import charts as step

    with pytest.raises(AssayError, match="no chart of the report"):
        step.run([], [str(tmp_path / "pie.svg")], {})
