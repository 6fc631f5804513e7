"""Follow a number of the report to its bytes: cell, query, witness rows, score files, jobs, inputs, code.

Everything here is read from the files beside the report and from the ledger; the witness is found by running the
package's own queries again. `describe` puts a trace into words.
"""

from __future__ import annotations

import difflib
import html
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sae_assay.audit import reading, witness
from sae_assay.audit.chain import Chain, run_facts
from sae_assay.errors import AssayError
from sae_assay.ledger.files import hash_file
from sae_assay.ledger.records import Ledger
from sae_assay.plan import Plan
from sae_assay.report import queries
from sae_assay.report.cells import raw
from sae_assay.report.paper import published
from sae_assay.report.sources import of_tables
from sae_assay.statistics import runner
from sae_assay.study import Study

CHART = "chart:"
FIRST_ROWS = 5
ROW_COLUMNS = ("substrate", "sae_id", "metric", "component", "hp_name", "hp_value", "mode", "direction", "task", "eval_seed",
               "value", "status", "source")  # fmt: skip


class Unknown(Exception):
    """What was asked for names no one number.

    Attributes:
        message: a sentence.
        candidates: id and shown text of numbers that may have been meant.
    """

    def __init__(self, message: str, candidates: list[tuple[str, str]]) -> None:
        super().__init__(message)
        self.message, self.candidates = message, candidates


@dataclass(frozen=True)
class Report:
    """A study's report as written: the list of cells, the page's text, and where they stand."""

    study: str
    listed: dict[str, Any]
    page: str
    folder: str

    @classmethod
    def read(cls, study: str) -> Report:
        """AssayError where the report is missing or damaged."""
        folder = Path("results/report", study)
        try:
            listed = reading.read_json(Path(), f"{folder.as_posix()}/cells.json")
            page = reading.read_text(Path(), f"{folder.as_posix()}/report.html")
            _ = [(cell["id"], cell["shown"], cell["mart"]) for cell in listed["cells"]], listed["charts"]
        except (KeyError, TypeError):
            raise AssayError(str(folder / "cells.json"), "is no list of cells", "restore it with `dvc pull`") from None
        return cls(study, listed, page, folder.as_posix())

    def find(self, asked: str) -> dict[str, Any]:
        """The cell, or the chart (`chart:NAME`), of an id or of a number as the page shows it.

        Raises:
            Unknown: no such number, or several.
        """
        charts = {CHART + chart["chart"]: chart for chart in self.listed["charts"]}
        if asked in charts:
            return charts[asked]
        cells = self.listed["cells"]
        found = [cell for cell in cells if cell["id"] == asked] or [
            cell for cell in cells if _plain(cell["shown"]) == _plain(asked)
        ]
        by_id = {cell["id"]: cell for cell in found}
        if len(by_id) == 1:
            return found[0]
        if by_id:
            several = f"{asked} is shown {len(by_id)} times; trace one of these ids"
            raise Unknown(several, [(name, cell["shown"]) for name, cell in by_id.items()])
        shown = {cell["id"]: cell["shown"] for cell in cells} | dict.fromkeys(charts, "")
        near = difflib.get_close_matches(asked, shown, n=5, cutoff=0.4)
        raise Unknown(f"the report of {self.study} shows no number {asked}", [(name, shown[name]) for name in near])

    def places(self, name: str) -> list[str]:
        """The sections of the page that show a cell, as `report.html#section`."""
        needle = f'data-cell="{html.escape(name)}"'
        starts = [(m.start(), m[1]) for m in re.finditer(r'<(?:section|h2)[^>]*? id="([\w-]+)"', self.page)]
        found = []
        for hit in re.finditer(re.escape(needle), self.page):
            sections = [section for at, section in starts if at < hit.start()]
            found.append(f"{self.folder}/report.html#{sections[-1] if sections else 'main'}")
        return list(dict.fromkeys(found))


def _plain(text: str) -> str:
    """A number's text without typography: `-0.31`, `95%`."""
    return text.replace("\u2212", "-").replace("\u202f", "").replace(" ", "").replace(",", "").lstrip("+")


def trace(report: Report, asked: str, study: str) -> dict[str, Any]:
    """Everything behind a number.

    Args:
        report: the study's report.
        asked: a cell's id, `chart:NAME`, or a number as the page shows it.
        study: the study's file or name, as `--study` takes it.

    Returns:
        `cell`, `places`, `source`; for a number of a query also `queries`, `value` (what the queries give now), `witness`
        (with all `rows`), `score_files`, `runs`, `inputs`, `missing`, `recompute`; for a chart `charts` of its marts.

    Raises:
        Unknown: see `Report.find`.
        AssayError: tables are missing or a query cannot be followed.
    """
    found = report.find(asked)
    plan = Plan(Study.load(study))
    ledger = Ledger(report.study)
    if "chart" in found:
        return _chart(report, found, ledger, study)
    digests = _digests(report.study)
    source = of_tables(report.study, [found["mart"]], plan.page_design(), digests).get(found["mart"])
    if source is None:
        raise AssayError(found["id"], f"names the table {found['mart']}, which nothing makes", "rebuild the report")
    known = {"cell": found, "places": report.places(found["id"]), "source": source}
    if source["kind"] == "published":
        known["published"] = published().filter(_same(found["key"])).to_dicts()[0]
    if source["kind"] != "query":
        return known | {"recompute": [f"uv run snakemake --cores 1 --force {report.folder}/report.html"]}
    return known | _computed(report.study, found, source, plan, ledger, study)


def _digests(study: str) -> dict[str, str]:
    files = [*Path("results/table", study).glob("*.parquet"), *Path("results/statistics", study).glob("*.parquet")]
    return {path.as_posix(): hash_file(path).sha256 for path in files}


def _chart(report: Report, chart: dict[str, Any], ledger: Ledger, study: str) -> dict[str, Any]:
    path = f"results/charts/{report.study}/{chart['chart']}.json"
    if not Path(path).exists():
        raise AssayError(path, "is missing", "run `dvc pull`, or `make report`")
    chain = Chain.behind(ledger, [(path, hash_file(path).sha256)], up_to_inputs=False)
    cells = [cell["id"] for cell in report.listed["cells"] if cell["mart"] in chart["marts"]]
    return {
        "cell": {"id": CHART + chart["chart"], **chart},
        "places": [f"{report.folder}/report.html#title-{chart['chart']}"],
        "source": {"kind": "chart", "path": path, "sha256": hash_file(path).sha256},
        "sources": {mart: report.listed.get("sources", {}).get(mart) for mart in chart["marts"]},
        "cells_of_its_tables": len(set(cells)),
        "runs": [run_facts(run) for run in chain.runs],
        "recompute": [f"uv run snakemake --cores 1 --force {path}{_option(study, '--config study=')}"],
    }


def _tables(name: str) -> dict[str, Path]:
    """A study's tables; those of a noise anatomy where it has one."""
    every = (*runner.TABLES, *runner.ANATOMY_TABLES)
    paths = {table: Path("results/table", name, f"{table}.parquet") for table in every}
    return {table: path for table, path in paths.items() if table in runner.TABLES or path.exists()}


def _computed(
    name: str, cell: dict[str, Any], source: dict[str, Any], plan: Plan, ledger: Ledger, study: str
) -> dict[str, Any]:
    mart, key = cell["mart"], cell["key"]
    tables = _tables(name)
    seen = witness.Witnesses(tables, plan.choices(), [mart])
    numbers = seen.rows(mart, key)
    rows = witness_rows(tables, numbers)
    files = sorted(set(rows["source"]))
    bases = [tables[base] for base in witness.present(tables)]
    table = Chain.behind(ledger, [(path.as_posix(), hash_file(path).sha256) for path in bases], False)
    recorded = {path: sha for run in table.runs for path, sha in run.inputs.items()}
    makers = [(source["path"], source["sha256"]), *((file, recorded.get(file, "")) for file in files)]
    chain = Chain.behind(ledger, makers)
    files_made = Chain.behind(ledger, makers[1:])
    statistics = [run for run in chain.runs if run.id not in {r.id for r in files_made.runs}]
    value = next(iter(seen.marts[mart].filter(_same(key))[cell["column"]]))
    return {
        "queries": [{"step": s, "path": queries.query_file(s)} for s in queries.needs(mart)],
        "value": {"raw": raw(value), "equal": raw(value) == cell["raw"]},
        "witness": {**seen.record(mart, key), "table": rows},
        "score_files": [{"path": file, "sha256": recorded.get(file)} for file in files],
        "runs": [run_facts(run) for run in [*_only_near(statistics), *files_made.runs]],
        "inputs": chain.raw if not statistics else files_made.raw,
        "missing": sorted({*chain.missing, *files_made.missing}),
        "recompute": [
            f"uv run snakemake --cores 1 --force {source['path']}{_option(study, '--config study=')}",
            f'uv run python -c "from sae_assay.audit.trace import recompute; print(recompute({cell["id"]!r}, {study!r}))"',
        ],
    }


def _only_near(runs: list[Any]) -> list[Any]:
    """The jobs between the score files and the mart: the statistics and the table."""
    return [run for run in runs if run.step in ("statistics", "table", "anatomy_table")]


def _option(study: str, before: str) -> str:
    return "" if study == "config.yaml" else f" {before}{shlex.quote(study)}"


def _same(key: Mapping[str, Any]) -> list[pl.Expr]:
    return [pl.col(name).eq_missing(pl.lit(value)) for name, value in key.items()]


def witness_rows(tables: Mapping[str, Path], numbers: Mapping[str, Any]) -> pl.DataFrame:
    """The witness rows of the base tables, with their score_id, the base table's name first."""
    from sae_assay.tables import scores

    parts = []
    for base in witness.present(tables):
        rows = scores.read_pinned(tables[base])[numbers[base]]
        ids = pl.Series(
            "score_id", [scores.score_id(row) for row in rows.select(scores.KEY).to_dicts()], dtype=pl.String
        )
        parts.append(rows.select(pl.lit(base).alias("table"), ids, *ROW_COLUMNS))
    return pl.concat(parts)


def for_machines(found: dict[str, Any], rows: bool) -> dict[str, Any]:
    """A trace as JSON-able values; all witness rows where asked, otherwise the first few."""
    if "witness" not in found:
        return found
    table = found["witness"]["table"].with_columns(pl.col(pl.Enum).cast(pl.String))
    listed = (table if rows else table.head(FIRST_ROWS)).to_dicts()
    rest = {name: value for name, value in found["witness"].items() if name != "table"}
    return found | {"witness": {**rest, "first" if not rows else "all": listed}}


def recompute(cell: str, study: str = "config.yaml") -> str | None:
    """The exact value of a cell from the tables at hand, by the plain queries: a hex float, a text, or None for null."""
    name = Study.load(study).study
    found = Report.read(name).find(cell)
    tables = _tables(name)
    mart = witness.plain(tables, Plan(Study.load(study)).choices(), found["mart"])
    return raw(next(iter(mart.filter(_same(found["key"]))[found["column"]])))
