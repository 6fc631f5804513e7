"""Cells: every number that the report shows, with the table cell it was read from.

Prose, tables and captions get their numbers from `Cells.show` only. It reads one row of a mart by its key, formats one
column, remembers what it did, and returns HTML that carries the cell's id; the list of cells goes into the page and
beside it (`cells.json`), so that a number on the page can be traced to its row without guessing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import polars as pl
from markupsafe import Markup, escape

from sae_assay.errors import AssayError

MINUS = "\u2212"
NO_VALUE = "\u2013"


PHRASES: dict[str, tuple[str, str, str]] = {
    r"(?<![\w.])95 %": ("scorecard.confidence", "percent0", ""),
    r"± 20 %": ("method.threshold_shift", "percent0", "± "),
    r"(?<![\w.])5 %": ("method.test_level", "percent0", ""),
}
"""Numbers that the page's own words mention: pattern -> path in the table `study`, format, what stands before the number."""


def _group(digits: str) -> str:
    whole, _, fraction = digits.partition(".")
    return f"{int(whole):,}" + (f".{fraction}" if fraction else "")


def _significant(value: float, digits: int) -> str:
    """Plain notation with this many significant digits: 0.0123, 4.50, 12,300."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return _group(f"{rounded:.{decimals}f}")


FORMATS = {
    "count": lambda v: _group(f"{v:.0f}"),
    "integer": lambda v: f"{v:.0f}",
    "fixed1": lambda v: _group(f"{v:.1f}"),
    "fixed2": lambda v: _group(f"{v:.2f}"),
    "fixed3": lambda v: _group(f"{v:.3f}"),
    "fixed4": lambda v: _group(f"{v:.4f}"),
    "significant2": lambda v: _significant(v, 2),
    "significant3": lambda v: _significant(v, 3),
    "percent0": lambda v: f"{100 * v:.0f}\u202f%",
    "percent1": lambda v: f"{100 * v:.1f}\u202f%",
}
"""Format name -> text of a finite, non-negative number. The sign is added here, never by the locale."""


def shown(value: float | int | bool | str | None, form: str) -> str:
    """Text of a raw value: the same on every machine, with a true minus sign and comma thousands.

    Args:
        value: a number, a text (form `text`) or null.
        form: a key of FORMATS, the same preceded by `+` (a plus sign on positive numbers), or `text`.

    Raises:
        AssayError: a form that nobody declared, or a number that is not finite (statistics give null instead).
    """
    if value is None:
        return NO_VALUE
    if form == "text":
        return str(value)
    if isinstance(value, str) or form.lstrip("+") not in FORMATS:
        raise AssayError("report", f"cannot show {value!r} as {form}", f"use one of: text, {', '.join(FORMATS)}")
    number = float(value)
    if not math.isfinite(number):
        raise AssayError("report", f"a table holds {number}", "make the statistic null with a reason")
    text = FORMATS[form.lstrip("+")](abs(number))
    if not any(digit in text for digit in "123456789"):
        return text
    return MINUS + text if number < 0 else "+" + text if form.startswith("+") else text


def raw(value: float | int | bool | str | None) -> str | None:
    """The exact value as text: a hex float for numbers, the text itself otherwise."""
    return value if value is None or isinstance(value, str) else float(value).hex()


def cell_id(mart: str, key: Mapping[str, Any], column: str) -> str:
    """`mart:key values in order:column`; `-` for a null key. Stable across runs, legible to people."""
    return ":".join([mart, *("-" if v is None else str(v) for v in key.values()), column])


class Cells:
    """Reads marts and remembers every value that was shown.

    Args:
        tables: mart name -> table.
        keys: mart name -> the columns that identify a row, in a fixed order.
    """

    def __init__(self, tables: Mapping[str, pl.DataFrame], keys: Mapping[str, tuple[str, ...]]) -> None:
        self._tables = tables
        self._keys = keys
        self._rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
        self._cells: dict[str, dict[str, Any]] = {}

    def _index(self, mart: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        if mart not in self._rows:
            names = self._keys[mart]
            rows = self._tables[mart].to_dicts()
            self._rows[mart] = {tuple(row[name] for name in names): row for row in rows}
            if len(self._rows[mart]) != len(rows):
                raise AssayError(f"table {mart}", f"two rows share a key ({', '.join(names)})", "correct its grain")
        return self._rows[mart]

    def key(self, mart: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """The identifying columns of a row of a mart."""
        if mart not in self._tables:
            raise AssayError("report", f"no table {mart}", f"give the step one of: {', '.join(self._tables)}")
        return {name: row.get(name) for name in self._keys[mart]}

    def value(self, mart: str, row: Mapping[str, Any], column: str) -> Any:
        """The raw value of one cell; `row` needs the key columns only (missing ones are null)."""
        key = self.key(mart, row)
        found = self._index(mart).get(tuple(key.values()))
        if found is None:
            raise AssayError(f"table {mart}", f"has no row {key}", "ask for a row that it has")
        if column not in found:
            raise AssayError(f"table {mart}", f"has no column {column}", f"use one of: {', '.join(found)}")
        return found[column]

    def id(self, mart: str, row: Mapping[str, Any], column: str) -> str:
        """The id of a cell."""
        return cell_id(mart, self.key(mart, row), column)

    def show(self, mart: str, row: Mapping[str, Any], column: str, form: str = "significant2") -> Markup:
        """HTML of one number, registered. A null is shown as a dash, with the row's reason as its title."""
        value = self.value(mart, row, column)
        key = self.key(mart, row)
        text, name = shown(value, form), cell_id(mart, key, column)
        entry = {"mart": mart, "key": key, "column": column, "raw": raw(value), "format": form, "shown": text}
        self._cells.setdefault(f"{name}|{form}", {"id": name} | entry)
        title = "" if value is not None else self._reason(mart, key)
        return Markup('<data class="n{}" data-cell="{}" value="{}"{}>{}</data>').format(
            " null" if value is None else "",
            name,
            entry["raw"] or "",
            Markup(' title="{}"').format(title) if title else "",
            text,
        )

    def text(self, words: str) -> Markup:
        """Words of the page (plain text, or HTML that is Markup already), the method's own numbers in them made cells."""
        html = str(escape(words))
        for pattern, (path, form, before) in PHRASES.items():
            if re.search(pattern, html):
                html = re.sub(pattern, before + str(self.show("study", {"path": path}, "value", form)), html)
        return Markup(html)

    def interval(self, mart: str, row: Mapping[str, Any], low: str, high: str, form: str = "significant2") -> Markup:
        """`(low to high)`, both registered; nothing where both are null."""
        if self.value(mart, row, low) is None and self.value(mart, row, high) is None:
            return Markup("")
        ends = self.show(mart, row, low, form), self.show(mart, row, high, form)
        return Markup('<span class="interval">({} to {})</span>').format(*ends)

    def _reason(self, mart: str, key: Mapping[str, Any]) -> str:
        found = self._index(mart)[tuple(key.values())]
        return str(found.get("reason") or "no value")

    def list(self) -> list[dict[str, Any]]:
        """Every shown cell, sorted by id and format."""
        return [self._cells[name] for name in sorted(self._cells)]


def prose(text: str) -> Markup:
    """Plain text as HTML, with `code` for backticks."""
    parts = str(escape(text)).split("`")
    return Markup("".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts)))
