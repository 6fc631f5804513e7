"""The page: self-contained, the same bytes each time, and every number on it is a cell with its exact value."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from sae_assay.report import page, paper
from sae_assay.report.cells import raw, shown
from sae_assay.report.names import CHART_NAMES
from sae_assay.report.untraced import untraced_numbers
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


def test_a_panel_too_small_for_validity_has_no_negative_degrees_of_freedom(
    marts: dict[str, pl.DataFrame], design: dict
) -> None:
    small = marts | {"validity": marts["validity"].with_columns(residual_df=pl.lit(-1, pl.Int64))}
    note = page.verdict_note(small, page.make_cells(small, design))
    assert "D4 needs more SAEs than this panel has" in note and "degrees of freedom" not in note


def test_recalibrated_snapshots_stand_beside_those_as_trained(
    read: Reader, marts: dict[str, pl.DataFrame], design: dict
) -> None:
    words = "How much of a trajectory is its threshold?"
    assert words in read.text
    assert page.lens("trajectory", marts, page.make_cells(marts, design), design, [])["details"]
    none = marts | {"recalibration": marts["recalibration"].clear()}
    assert not page.lens("trajectory", none, page.make_cells(none, design), design, [])["details"]


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


def test_every_listed_cell_is_the_marts_own_value(listed: dict, marts: dict[str, pl.DataFrame], design: dict) -> None:
    tables = marts | {"paper": paper.published(), "study": page.study_numbers(design)}
    for cell in listed["cells"]:
        same = [pl.col(name).eq_missing(pl.lit(value)) for name, value in cell["key"].items()]
        (value,) = tables[cell["mart"]].filter(same)[cell["column"]].to_list()
        assert raw(value) == cell["raw"]
        assert shown(value, cell["format"]) == cell["shown"]
        if cell["mart"] in marts:
            assert list(cell["key"]) == contracts.contract(cell["mart"])["grain"]


def test_the_page_embeds_the_same_cells(html: str, listed: dict) -> None:
    text = re.search(r'<script type="text/plain" id="cells">(.*?)</script>', html, re.S)
    assert text
    inside = json.loads(zlib.decompress(base64.b64decode(text[1])))
    assert inside == json.loads(json.dumps(page.compact(listed)))


SUBSTRATES = ("mini", "smollm2")


def test_no_number_on_the_page_is_untraced(html: str) -> None:
    assert untraced_numbers(html, SUBSTRATES) == []


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("<p>about 0.73</p>", "about 0.73"),
        ("<td>0.\u0667</td>", "0.\u0667"),  # a digit of another script
        ("<p>x\u00b2 and \u00bd</p>", "x\u00b2 and \u00bd"),
        ("<p>n = 10.5</p>", "n = 10.5"),
        ("<data>0.73</data>", "0.73"),  # no cell stands behind it
        ("<p>L01</p>", "L01"),
        ("<b>D</b><b>6</b>", "D6"),
    ],
)
def test_a_typed_number_is_found(html: str, typed: str, found: str) -> None:
    forged = html.replace('<section id="coverage">', typed + '<section id="coverage">')
    assert any(found in context for context in untraced_numbers(forged, SUBSTRATES))


def test_names_that_are_numbers_hide_nothing() -> None:
    assert untraced_numbers("<p>mini2 scored 7, Lens 1, F1, n = 10</p>", ("mini2", "7")) == [
        "\u25a1 scored 7, \u25a1, \u25a1, \u25a1"
    ]


def test_constants_of_the_method_stand_in_the_queries_that_they_name() -> None:
    texts = {"method.threshold_shift": ["0.8 * threshold", "1.2 * threshold"], "method.test_level": ["p < 0.05"]}
    assert set(texts) == set(page.METHOD)
    for name, (_, source) in page.METHOD.items():
        query = (ROOT / "src/sae_assay" / source).read_text(encoding="utf-8")
        assert all(text in query for text in texts[name])


def test_published_numbers_say_whose_they_are(html: str) -> None:
    primary = paper.published().filter(confidence="primary")["statistic"].to_list()
    shown_ones = set(re.findall(r'data-cell="(paper:[^"]*):value"', html))
    second = {name for name in shown_ones if name.rpartition(":")[2] not in primary}
    labels = set(re.findall(r'data-cell="(paper:[^"]*):confidence"[^>]*>second hand<', html))
    assert second == labels != set()


def test_every_table_and_chart_has_a_source(listed: dict, html: str) -> None:
    assert {cell["mart"] for cell in listed["cells"]} <= set(listed["sources"])
    for mart, source in listed["sources"].items():
        if source["kind"] == "query":
            assert source["sql"] == f"src/sae_assay/statistics/sql/{mart}.sql"
            assert source["tolerance"] is None
    paper_file = (ROOT / listed["sources"]["paper"]["path"]).read_bytes()
    assert listed["sources"]["paper"]["sha256"] == hashlib.sha256(paper_file).hexdigest()
    for chart in listed["charts"]:
        text = re.search(f'id="spec-{chart["chart"]}">(.*?)</script>', html, re.S)
        assert text
        spec = json.loads(zlib.decompress(base64.b64decode(text[1])))
        data = json.dumps(spec["datasets"], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        assert len(chart["data_sha256"]) == 64
        assert json.loads(data) != {}


def test_a_source_has_the_digests_of_the_files_at_hand(marts: dict[str, pl.DataFrame], charts: Path) -> None:
    drawn = {
        n: page.Chart(*((charts / f"{n}{s}").read_text(encoding="utf-8") for s in (".json", ".svg")))
        for n in CHART_NAMES
    }
    design = Study.load(ROOT / "config.yaml").model_dump(mode="json", by_alias=True)
    digests = {"results/table/test/scores.parquet": "a" * 64, "results/statistics/test/coverage.parquet": "b" * 64}
    source = page.render("test", marts, drawn, design, digests)[1]["sources"]["coverage"]
    assert (source["tables"], source["sha256"]) == ({"scores": "a" * 64}, "b" * 64)


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


def test_the_digest_of_vega_is_that_of_the_locked_library() -> None:
    assert hashlib.sha256(page.vega_bundle().encode()).hexdigest() == page.VEGA_SHA256


def test_the_fault_ablation_says_what_each_repair_changes(html: str, marts: dict[str, pl.DataFrame]) -> None:
    """The factory's world: no repair of TPP is certain to help at 25 cells, fix_cells halves SCR's noise, strict is like saebench."""
    section = re.search(r'<section id="faults">.*?</section>', html, re.DOTALL)
    assert section
    tpp, scr = re.findall(r"<li>(.*?)</li>", section[0], re.DOTALL)
    words = [re.sub(r"<[^>]+>", "", line) for line in (tpp, scr)]
    assert "TPP, n = 10 on mini" in words[0] and "SCR, n = 10 on mini" in words[1]
    rows = marts["fault_ablation"].filter(task_kind="in", component="score")
    changes = rows.filter(pl.col("mode").str.starts_with("fix_"), metric="tpp")["residual_change"].sort()
    assert f"moves the validity by {shown(changes[0], '+fixed2')} to {shown(changes[-1], '+fixed2')}" in words[0]
    assert "beyond its interval: none." in words[0]
    assert "beyond its interval: Balanced cells." in words[1]
    strict = rows.filter(metric="scr", mode="strict").row(0, named=True)
    assert f"noise is {shown(strict['noise_ratio'], 'fixed2')} (" in words[1]
    assert re.findall(r"\d", re.sub(r'<data class="n".*?</data>', "", tpp + scr)) == list("1010")  # n = 10 alone


def test_a_study_without_a_fault_ablation_says_so(marts: dict[str, pl.DataFrame]) -> None:
    design = Study.load(ROOT / "config.yaml").model_dump(mode="json", by_alias=True)
    without = {**marts, "fault_ablation": marts["fault_ablation"].clear()}
    section = page.faults(without, page.make_cells(without, design))
    assert section["here"] == [page.NOTHING] and section["table"].rows == []
