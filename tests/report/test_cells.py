"""Formats are the same everywhere, and every number shown is registered with its exact value."""

from __future__ import annotations

import locale
import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_assay.errors import AssayError
from sae_assay.report.cells import FORMATS, Cells, cell_id, raw, shown


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (60000, "count", "60,000"),
        (1234567, "count", "1,234,567"),
        (0.0123456, "significant2", "0.012"),
        (0.0996, "significant2", "0.10"),
        (12345.0, "significant3", "12,300"),
        (0.000051, "significant2", "0.000051"),
        (1.0, "significant3", "1.00"),
        (-0.5, "fixed2", "\u22120.50"),
        (0.5, "+fixed2", "+0.50"),
        (-0.0004, "fixed3", "0.000"),
        (-0.0, "+fixed2", "0.00"),
        (0.0, "significant2", "0"),
        (0.954, "percent0", "95\u202f%"),
        (7, "integer", "7"),
        (True, "integer", "1"),
        ("seed_inert", "text", "seed_inert"),
        (None, "fixed3", "\u2013"),
    ],
)
def test_shown(value: object, form: str, text: str) -> None:
    assert shown(value, form) == text


def test_shown_does_not_depend_on_the_locale() -> None:
    before = locale.setlocale(locale.LC_ALL)
    try:
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C"):
            try:
                locale.setlocale(locale.LC_ALL, name)
            except locale.Error:
                continue
            assert shown(1234.5, "fixed1") == "1,234.5"
    finally:
        locale.setlocale(locale.LC_ALL, before)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.sampled_from(sorted(set(FORMATS) - {"integer"})))
def test_shown_is_the_value_to_its_precision(value: float, form: str) -> None:
    text = shown(value, form).replace("\u2212", "-").replace(",", "").replace("\u202f%", "")
    scale = 100 if form.startswith("percent") else 1
    tolerance = {"1": 0.05, "2": 0.005, "3": 0.0005, "4": 0.00005, "0": 0.5}.get(form[-1], 0.5)
    if form.startswith("significant"):
        tolerance = 0.51 * abs(value) * 10 ** (1 - int(form[-1])) + 1e-300
    assert abs(float(text) - scale * value) <= tolerance * 1.001 + 1e-12 * abs(scale * value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(AssayError, match="null with a reason"):
        shown(value, "fixed2")


def test_unknown_format_is_refused() -> None:
    with pytest.raises(AssayError, match="use one of: text, count"):
        shown(1.0, "fixed9")


def _cells() -> Cells:
    table = pl.DataFrame(
        {"metric": ["tpp", "scr"], "hp_value": [10, None], "noise": [-0.0625, None], "reason": [None, "one <seed>"]}
    )
    return Cells({"noise": table}, {"noise": ("metric", "hp_value")})


def test_show_registers_the_exact_value() -> None:
    cells = _cells()
    html = cells.show("noise", {"metric": "tpp", "hp_value": 10}, "noise", "fixed3")
    assert html == '<data class="n" data-cell="noise:tpp:10:noise" value="-0x1.0000000000000p-4">\u22120.062</data>'
    (cell,) = cells.list()
    assert float.fromhex(cell["raw"]) == -0.0625
    assert cell["key"] == {"metric": "tpp", "hp_value": 10}
    assert (cell["mart"], cell["column"], cell["format"], cell["shown"]) == ("noise", "noise", "fixed3", "\u22120.062")


def test_null_is_a_dash_with_its_reason_and_no_number() -> None:
    cells = _cells()
    html = cells.show("noise", {"metric": "scr", "hp_value": None}, "noise")
    assert html == '<data class="n null" data-cell="noise:scr:-:noise" value="" title="one &lt;seed&gt;">\u2013</data>'
    assert cells.list()[0]["raw"] is None


@pytest.mark.parametrize(
    ("mart", "row", "column", "message"),
    [
        ("noise", {"metric": "raven"}, "noise", "has no row"),
        ("noise", {"metric": "tpp", "hp_value": 10}, "nose", "has no column nose.*metric, hp_value, noise"),
        ("nose", {}, "noise", "no table nose"),
    ],
)
def test_a_cell_that_does_not_exist_is_an_error(mart: str, row: dict, column: str, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        _cells().show(mart, row, column)


def test_a_mart_whose_key_is_not_unique_is_refused() -> None:
    cells = Cells({"t": pl.DataFrame({"a": [1, 1], "v": [0.5, 0.6]})}, {"t": ("a",)})
    with pytest.raises(AssayError, match="two rows share a key"):
        cells.show("t", {"a": 1}, "v")


def test_ids_and_raw_values() -> None:
    assert cell_id("m", {"a": "x", "b": None, "c": 3}, "v") == "m:x:-:3:v"
    assert raw(0.1) == "0x1.999999999999ap-4"
    assert raw("PASS") == "PASS"
