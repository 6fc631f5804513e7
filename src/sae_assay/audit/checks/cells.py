"""Cells: every number of the page and of cells.json is the value of the table cell that it names, shown as its format says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from sae_assay.audit import reading
from sae_assay.audit.context import Context
from sae_assay.audit.findings import Finding
from sae_assay.audit.page_text import Page, read_page
from sae_assay.audit.replay import Interrupted
from sae_assay.errors import AssayError

NAME = "cells"
RERUN = "run `snakemake` on the recorded statistics, or `dvc pull --force`"
FIELDS = ("id", "mart", "key", "column", "raw", "format", "shown")


def check(context: Context) -> list[Finding]:
    """cells.json, the list that the page embeds, the numbers in its text, and the page as a whole."""
    try:
        return _check(context)
    except Interrupted:
        raise
    except AssayError as error:
        code = "UNSAFE_INPUT" if isinstance(error, reading.Unsafe) else "COVERAGE_GAP"
        context.judged(NAME, error.where, "DIFFERS")
        return [Finding(code, error.where, "a report that can be read", error.problem[:300], RERUN)]


def _check(context: Context) -> list[Finding]:
    html_path, json_path = (context.plan.results("report", name) for name in ("report.html", "cells.json"))
    context.progress("cells: every number of the page")
    listed = reading.read_json(context.root, json_path)
    html = reading.read_text(context.root, html_path)
    page = read_page(html, html_path)
    found = _cells(context, listed, json_path)
    found += _embedded(context, listed, page, html_path)
    found += _on_page(context, listed, page, html_path)
    return found + _rendered(context, html, listed, page, html_path, json_path)


def _list(value: Any, where: str) -> list[dict[str, Any]]:
    """The cells of a list.

    Raises:
        Unsafe: it is no list of cells.
    """
    cells = value.get("cells") if isinstance(value, dict) else None
    if not isinstance(cells, list):
        raise reading.Unsafe(where, "holds no list of cells", RERUN)
    for cell in cells:
        if not isinstance(cell, dict) or any(name not in cell for name in FIELDS) or not isinstance(cell["key"], dict):
            raise reading.Unsafe(where, f"holds a cell without {', '.join(FIELDS)}", RERUN)
    return cells


# cells.json against the marts ------------------------------------------------------------------------------------------------
def _cells(context: Context, listed: Any, path: str) -> list[Finding]:
    from sae_assay.report.page import make_cells

    tables = make_cells(_recorded_marts(context), context.plan.page_design())
    found = []
    for cell in _list(listed, path):
        item = f"{path}: {str(cell['id'])[:200]}"
        problem = _cell(cell, tables)
        context.fine(NAME, item, problem is None)
        if problem:
            found.append(Finding("CELL_DISPLAY_MISMATCH", item, *problem, RERUN))
    return found


def _recorded_marts(context: Context) -> dict[str, pl.DataFrame]:
    """The marts as the tree holds them; `statistics` says whether they are right."""
    from sae_assay.audit.expected import mart_files

    return {name: context.table(path) for name, path in mart_files(context.plan).items()}


def _cell(cell: Mapping[str, Any], tables: Any) -> tuple[str, str] | None:
    """What a cell should say and what it says; None where it is right."""
    from sae_assay.report.cells import cell_id, raw, shown

    try:
        value = tables.value(cell["mart"], cell["key"], cell["column"])
        key = tables.key(cell["mart"], cell["key"])
        wanted = {
            "id": cell_id(cell["mart"], key, cell["column"]),
            "key": key,
            "raw": raw(value),
            "shown": shown(value, cell["format"]),
        }
    except (AssayError, TypeError, AttributeError, ValueError, KeyError) as error:
        return "a cell of a table", str(error)[:200]
    for name, expected in wanted.items():
        if cell[name] != expected:
            return f"{name} {expected!r}", repr(cell[name])[:200]
    return None


# The page against cells.json -------------------------------------------------------------------------------------------------
def _embedded(context: Context, listed: Any, page: Page, path: str) -> list[Finding]:
    """The list inside the page is the list beside it."""
    from sae_assay.report.page import compact

    item = f"{path}: embedded cells"
    text = page.scripts.get("cells")
    if text is None:
        context.judged(NAME, item, "DIFFERS")
        return [Finding("CELL_DISPLAY_MISMATCH", item, "the list of cells", "none", RERUN)]
    now, wanted = reading.parse_json(reading.unpacked(text, item), item), compact(listed)
    context.fine(NAME, item, now == wanted)
    if now == wanted:
        return []
    rows = [now.get("cells"), wanted["cells"]] if isinstance(now, dict) else [None, None]
    if all(isinstance(side, list) and len(side) == len(wanted["cells"]) for side in rows):
        torn = [(a, b) for a, b in zip(*rows, strict=True) if a != b]
        return [
            Finding("CELL_DISPLAY_MISMATCH", f"{item}: {b[0]}", str(b)[:300], str(a)[:300], RERUN) for a, b in torn[:20]
        ]
    return [Finding("CELL_DISPLAY_MISMATCH", item, "the list in cells.json", "another list", RERUN)]


def _on_page(context: Context, listed: Any, page: Page, path: str) -> list[Finding]:
    """Each `<data data-cell>` shows what a listed cell of that id shows, and holds its exact value."""
    known: dict[str, set[tuple[str, str]]] = {}
    for cell in _list(listed, path):
        known.setdefault(cell["id"], set()).add((str(cell["raw"] or ""), str(cell["shown"])))
    found = []
    for number in page.numbers:
        listed_here = known.get(number.cell, set())
        pairs = listed_here | {("", text) for raw, text in listed_here}
        if (number.value, number.text) not in pairs:
            item = f"{path}: {number.cell[:200]}"
            context.judged(NAME, item, "DIFFERS")
            expected = " or ".join(sorted(shown for _, shown in known.get(number.cell, set()))) or "a listed cell"
            found.append(Finding("CELL_DISPLAY_MISMATCH", item, expected, f"{number.text} ({number.value})", RERUN))
    return found


# The page as a whole -----------------------------------------------------------------------------------------------------------
def _rendered(context: Context, html: str, listed: Any, page: Page, html_path: str, json_path: str) -> list[Finding]:
    """Render the page again from the recomputed marts and redrawn charts; compare texts, and bytes where it can be."""
    try:
        own_html, own_list = context.drawing.page()
    except Interrupted:
        raise
    except AssayError as error:
        context.skipped(NAME, html_path, f"it cannot be rendered again: {error.where}: {error.problem}"[:200])
        return _untraced(context, html, page, None, html_path)
    found = _untraced(context, html, page, read_page(own_html, "the verifier's page"), html_path)
    if not _same_renderer(context):
        for path in (html_path, json_path):
            context.judged(NAME, f"{path}: rendered again", "NOT_COMPARABLE")
        context.notes.append("The page was rendered by another version than the verifier's: bytes were not compared.")
        return found
    for path, same in ((html_path, html == own_html), (json_path, listed == own_list)):
        context.fine(NAME, f"{path}: rendered again", same)
        if not same:
            where = _first_difference(own_html, html) if path == html_path else ("the rendered list", "another list")
            found.append(Finding("OUTPUT_HASH_MISMATCH", path, *where, RERUN))
    return found


def _same_renderer(context: Context) -> bool:
    """Whether the verifier's package is the one that the recorded report ran."""
    runs = [run for run in context.evidence.runs if run.rule in ("charts", "report")]
    files = {item for run in runs for item in [*run.code.items(), *run.inputs.items()] if item[0].startswith("src/")}
    return bool(runs) and all(sha in context.tree.own(path) for path, sha in files)


def _untraced(context: Context, html: str, page: Page, own: Page | None, path: str) -> list[Finding]:
    """Numbers outside of cells: in the visible text, and in any text that the verifier's own page does not have."""
    from sae_assay.report.untraced import untraced_numbers

    strange = untraced_numbers(html, [context.study, *context.plan.study.substrates, *context.plan.imported()])
    if own is None:
        context.skipped(NAME, f"{path}: hidden text", "there is no page to compare its words with")
    else:
        known = set(own.texts)
        strange += [text for text in page.texts if any(map(str.isnumeric, text)) and text not in known]
    context.fine(NAME, f"{path}: text", not strange)
    remedy = "show it through a cell, or take it out"
    return [Finding("UNTRACED_NUMBER", path, "a cell for every number", text[:200], remedy) for text in strange[:20]]


def _first_difference(own: str, now: str) -> tuple[str, str]:
    place = next((i for i, (a, b) in enumerate(zip(own, now, strict=False)) if a != b), min(len(own), len(now)))
    start = max(0, place - 30)
    return own[start : place + 60], f"{now[start : place + 60]} (at character {place})"
