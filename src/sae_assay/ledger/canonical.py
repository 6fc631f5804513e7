"""Canonical JSON (RFC 8785): equal values give equal bytes, in every language, so that a digest can be checked anywhere."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any


def canonical(value: Any) -> str:
    """The canonical JSON text of a JSON-able value.

    Raises:
        TypeError: the value holds something that JSON does not know.
        ValueError: a number is not finite.
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return encode_basestring(str(value))  # as json.dumps without ensure_ascii, which builds an encoder each time
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Mapping):
        items = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(key)}:{canonical(item)}" for key, item in items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical, value)) + "]"
    raise TypeError(f"{type(value).__name__} is no JSON value: {value!r}")


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON text."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _number(value: int | float) -> str:
    """A number as ECMAScript prints it, which is what RFC 8785 asks for."""
    if isinstance(value, int):
        return str(int(value))
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be written as JSON")
    if value == 0:
        return "0"
    sign, figures, exponent = Decimal(repr(value)).normalize().as_tuple()
    digits = "".join(map(str, figures))
    point = len(digits) + int(exponent)  # value = 0.digits * 10 ** point
    if len(digits) <= point <= 21:
        text = digits + "0" * (point - len(digits))
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
        text = f"{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return f"-{text}" if sign else text
