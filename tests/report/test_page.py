"""The page: self-contained, the same bytes each time, and every number on it is a cell with its exact value."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from sae_assay.report import page, paper
from sae_assay.report.cells import raw, shown
from sae_assay.report.names import CHART_NAMES
from sae_assay.statistics import contracts
from sae_assay.steps import report as step
from sae_assay.study import Study

ROOT = Path(__file__).resolve().parents[2]


class Reader(HTMLParser):
    """Collects what the tests ask about: cells as shown, attributes that load something, ids, visible text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.shown: list[tuple[str, str]] = []
        self.loads: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.bare = ""  # text outside of cells
        self._cell: str | None = None
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self.loads += [
            v
            for a in ("src", "srcset", "data", "action", "poster")
            if (v := values.get(a)) and not v.startswith("data:")
        ]
        if tag == "link":
            self.loads += [v for v in [values.get("href")] if v and not v.startswith("data:")]
        if tag == "data":
            self._cell = values["data-cell"]
            self.shown.append((self._cell or "", ""))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        if tag == "data":
            self._cell = None
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        self.text += data
        if self._cell is None:
            self.bare += data
        else:
            self.shown[-1] = (self._cell, self.shown[-1][1] + data)


@pytest.fixture(scope="module")
def html(site: Path) -> str:
    return (site / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


@pytest.fixture(scope="module")
def listed(site: Path) -> dict:
    return json.loads((site / "cells.json").read_text(encoding="utf-8"))


def test_it_says_what_it_must(read: Reader) -> None:
    for word in ("reseed", "ground truth", "trajectory", "TPP", "SCR", "INCONCLUSIVE", "degrees of freedom"):
        assert word in read.text


def test_it_loads_nothing(html: str, read: Reader) -> None:
    assert read.loads == []
    assert "@import" not in html.split("</style>")[0]
    assert "connect-src 'none'" in html


def test_it_is_small(site: Path) -> None:
    assert (site / "report.html").stat().st_size < 2_500_000


def test_it_is_accessible(read: Reader) -> None:
    tags = [tag for tag, _ in read.tags]
    assert dict(read.tags[[t for t, _ in read.tags].index("html")][1])["lang"] == "en"
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption") > 5
    images = [values for tag, values in read.tags if tag == "img"]
    assert len(images) == len(CHART_NAMES)
    assert all((values["alt"] or "").strip() for values in images)
    labels = [v for tag, v in read.tags if tag == "div" and v.get("class") == "live"]
    assert all(v["role"] == "img" and v["aria-label"] for v in labels)


def test_every_cell_on_the_page_is_listed_as_shown(read: Reader, listed: dict) -> None:
    known: dict[str, set[str]] = {}
    for cell in listed["cells"]:
        known.setdefault(cell["id"], set()).add(cell["shown"])
    assert len(read.shown) > 300
    for name, text in read.shown:
        assert any(text.strip().endswith(form) for form in known[name]), (name, text)  # a verdict's symbol precedes it


def test_every_listed_cell_is_the_marts_own_value(listed: dict, marts: dict[str, pl.DataFrame]) -> None:
    design = Study.load(ROOT / "config.yaml").model_dump(mode="json", by_alias=True)
    tables = marts | {"paper": paper.published(), "study": page.study_numbers(design)}
    for cell in listed["cells"]:
        same = [pl.col(name).eq_missing(pl.lit(value)) for name, value in cell["key"].items()]
        (value,) = tables[cell["mart"]].filter(same)[cell["column"]].to_list()
        assert raw(value) == cell["raw"]
        assert shown(value, cell["format"]) == cell["shown"]
        if cell["mart"] in marts:
            assert list(cell["key"]) == contracts.contract(cell["mart"])["grain"]


def test_the_page_embeds_the_same_cells(html: str, listed: dict) -> None:
    text = re.search(r'<script type="application/json" id="cells">(.*?)</script>', html, re.S)
    assert text
    inside = json.loads(text[1])
    assert inside == json.loads(json.dumps(page.compact(listed)))


def test_numbers_outside_of_cells_are_names_not_results(read: Reader) -> None:
    """No decimal fraction, and no percentage but the method's own, is typed into the page."""
    bare = read.bare.split("Three main findings")[1].split("Reproduce it")[0]
    assert set(re.findall(r"(?<![\w.])\d*\.\d+", bare)) <= {"0.1", ".5", "0.001"}  # reading help; a status' definition
    assert set(re.findall(r"(\d+) %", bare)) <= {"95", "20", "5"}


def test_three_findings_one_a_lens(listed: dict, read: Reader) -> None:
    assert [f["lens"] for f in listed["findings"]] == ["reseed", "ground_truth", "trajectory"]
    for finding in listed["findings"]:
        assert finding["text"].split(":")[0] in read.text


def test_charts_name_their_marts(listed: dict, marts: dict[str, pl.DataFrame]) -> None:
    assert [c["chart"] for c in listed["charts"]] == list(CHART_NAMES)
    assert all(set(c["marts"]) <= set(marts) for c in listed["charts"])


def test_equal_inputs_give_equal_bytes(site: Path, statistics: Path, charts: Path, tmp_path: Path) -> None:
    inputs = [str(p) for p in [*sorted(charts.iterdir()), *sorted(statistics.glob("*.parquet"))]]  # in another order
    design = Study.load(ROOT / "config.yaml").model_dump(mode="json", by_alias=True)
    step.run(inputs, [str(tmp_path / "cells.json"), str(tmp_path / "report.html")], {"study": "test", "design": design})
    for name in ("cells.json", "report.html"):
        assert (tmp_path / name).read_bytes() == (site / name).read_bytes()


def test_a_hostile_reason_cannot_become_markup(marts: dict[str, pl.DataFrame], charts: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    hostile = marts | {"scorecard": marts["scorecard"].with_columns(pl.lit(evil).alias("reason"))}
    drawn = {
        n: page.Chart(*((charts / f"{n}{s}").read_text(encoding="utf-8") for s in (".json", ".svg")))
        for n in CHART_NAMES
    }
    design = Study.load(ROOT / "config.yaml").model_dump(mode="json", by_alias=True)
    html, _ = page.render("test", hostile, drawn, design)
    assert "alert(1)" in html
    assert "<script>alert(1)" not in html


def test_a_study_in_which_nothing_was_measured_still_has_a_page(marts: dict[str, pl.DataFrame], charts: Path) -> None:
    empty = {name: table.clear() for name, table in marts.items()}
    drawn = {
        n: page.Chart(*((charts / f"{n}{s}").read_text(encoding="utf-8") for s in (".json", ".svg")))
        for n in CHART_NAMES
    }
    design = Study.load(ROOT / "config.yaml").model_dump(mode="json", by_alias=True)
    html, listed = page.render("test", empty, drawn, design)
    assert html.count("Not measured in this study.") >= 3
    assert listed["findings"] == []


@pytest.mark.parametrize(
    ("rule", "value", "low", "high", "published", "verdict"),
    [
        ("covers", 0.1, -0.2, 0.4, -0.03, "AGREES"),
        ("covers", 0.8, 0.6, 0.9, -0.31, "DIFFERS"),
        ("covers", 0.8, None, None, -0.31, "UNDECIDED"),
        ("sign", 0.05, 0.02, 0.08, -1.0, "DIFFERS"),
        ("sign", -0.05, -0.08, -0.02, -1.0, "AGREES"),
        ("sign", -0.05, -0.20, 0.10, -1.0, "UNDECIDED"),
        ("below", 0, None, None, 11.0, "DIFFERS"),
        ("below", 3, None, None, 11.0, "AGREES"),
        ("shown", 0.2, None, None, 0.2, "NOT COMPARABLE"),
        ("covers", None, None, None, 0.2, "NOT COMPARABLE"),
    ],
)
def test_verdict_beside_the_paper(
    rule: str, value: float | None, low: float | None, high: float | None, published: float, verdict: str
) -> None:
    match = paper.Match("m", "v", "low", "high", "words", rule, "fixed2", "fixed2")
    assert paper.verdict(match, published, {"v": value, "low": low, "high": high}) == verdict
