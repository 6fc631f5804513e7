"""Canonical JSON: RFC 8785's own number examples, and equal values give equal digests."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_assay.ledger.canonical import canonical, digest


# RFC 8785, appendix B: the double's bits, and how it is written.
@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555555", "333333333.3333333"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_are_written_as_the_rfc_says(bits, text):
    assert canonical(struct.unpack(">d", bytes.fromhex(bits))[0]) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_survives_the_round_trip(value):
    assert float(json.loads(canonical(value))) == value


def test_order_and_integral_floats_do_not_matter():
    assert digest({"b": 1.0, "a": [True, None, "é"]}) == digest({"a": (True, None, "é"), "b": 1})
    assert canonical({"b": 1.0, "a": "é"}) == '{"a":"é","b":1}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical({"x": value})


def test_a_value_that_is_no_json_is_refused():
    with pytest.raises(TypeError, match="set"):
        canonical({"x": {1}})
