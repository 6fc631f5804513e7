"""What each type of record holds, by schema version: a version that was once written stays here, so that it stays verifiable."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

HEX64 = re.compile(r"[0-9a-f]{64}")
_HEX = {40: re.compile(r"[0-9a-f]{40}"), 32: re.compile(r"[0-9a-f]{32}"), 64: HEX64}
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
Test = Callable[[Any], bool]


def _hex(length: int) -> Test:
    return lambda v: isinstance(v, str) and _HEX[length].fullmatch(v) is not None


def _optional(test: Test) -> Test:
    return lambda v: v is None or test(v)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _time(value: Any) -> bool:
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def is_reference(value: Any) -> bool:
    """Whether a field's value is `{"blob": id}`."""
    return isinstance(value, dict) and set(value) == {"blob"} and _hex(64)(value["blob"])


def digests(value: Any) -> bool:
    """A map of text to SHA-256."""
    return isinstance(value, dict) and all(map(_hex(64), value.values()))


def texts(value: Any) -> bool:
    """A map of text to text."""
    return isinstance(value, dict) and all(map(_text, value.values()))


def _or_reference(test: Test) -> Test:
    return lambda v: is_reference(v) or test(v)


_RUN_1: dict[str, Test] = {
    "study": _text,
    "run_id": _hex(64),
    "rule": _text,
    "step": _text,
    "wildcards": _or_reference(texts),
    "group": lambda v: v in ("light", "compute"),
    "lock_digest": _hex(64),
    "params": _or_reference(_mapping),
    "params_digest": _hex(64),
    "seeds": _or_reference(_mapping),
    "inputs": _or_reference(digests),
    "code": _or_reference(digests),
    "outputs": _or_reference(digests),
    "threads": _count,
    "numeric_profile": _mapping,
    "environment": _hex(64),
    "libraries": _mapping,
    "cpu": _text,
    "peak_memory_bytes": _count,
    "start": _time,
    "duration_ms": _count,
    "commit": _optional(_hex(40)),
    "dirty": _optional(_flag),
}
_ARTIFACT_1: dict[str, Test] = {"path": _text, "sha256": _hex(64), "size": _count, "md5": _hex(32)}
_ENVIRONMENT_1: dict[str, Test] = {
    "group": lambda v: v in ("light", "compute"),
    "lock_digest": _hex(64),
    "python": _text,
    "installed": texts,
    "differing": _mapping,
}
_PLAN_1: dict[str, Test] = {
    "study": _text,
    "study_digest": _hex(64),
    "seeds": _mapping,
    "grid": _mapping,
    "score_files": _count,
    "primary": _mapping,
    "thresholds": lambda v: isinstance(v, dict) and all(map(_number, v.values())),
    "confidence": _number,
    "tolerances": _optional(_hex(64)),
}
_ATTEMPT_1: dict[str, Test] = {
    "outcome": lambda v: v in ("failed", "superseded"),
    "reason": _optional(_text),
    "outputs_digest": _optional(_hex(64)),
    "run_id": _hex(64),
    "rule": _text,
    "wildcards": _or_reference(texts),
    "start": _time,
    "duration_ms": _count,
    "commit": _optional(_hex(40)),
    "dirty": _optional(_flag),
}

SCHEMAS: dict[str, dict[int, dict[str, Test]]] = {
    "run": {1: _RUN_1},
    "artifact": {1: _ARTIFACT_1},
    "blob": {1: {"value": lambda v: True}},
    "environment": {1: _ENVIRONMENT_1},
    "plan": {1: _PLAN_1},
    "attempt": {1: _ATTEMPT_1},
}
"""Record type -> schema version -> field -> what its value must be; every field is required, and no other is known."""

RUN_ID_FIELDS: dict[int, tuple[str, ...]] = {
    1: (
        "rule", "step", "wildcards", "group", "lock_digest", "params", "params_digest", "seeds", "inputs", "code", "threads",
        "numeric_profile",
    )
}  # fmt: skip
"""Schema version -> what a run_id is the digest of, references to blobs resolved."""


def problem(record: Any) -> str | None:
    """Why a value is no record of a known type and version; None if it is one. Its id is not checked here."""
    if not isinstance(record, dict):
        return "is no object"
    kind, version = record.get("type"), record.get("schema")
    if not isinstance(kind, str) or kind not in SCHEMAS:
        return f"has the unknown type {str(kind)[:40]!r}"
    if not isinstance(version, int) or isinstance(version, bool) or version not in SCHEMAS[kind]:
        return (
            f"has schema version {str(version)[:20]!r} of type {kind}, and this verifier knows {sorted(SCHEMAS[kind])}"
        )
    if not _hex(64)(record.get("id")):
        return "has no id of 64 hex digits"
    fields = SCHEMAS[kind][version]
    missing = sorted(set(fields) - set(record))
    if missing:
        return f"lacks {missing[0]}"
    unknown = sorted(set(record) - set(fields) - {"type", "schema", "id"})
    if unknown:
        return f"has the unknown field {unknown[0][:40]!r}"
    wrong = next((name for name, test in fields.items() if not test(record[name])), None)
    return f"has an impossible {wrong} ({str(record[wrong])[:60]!r})" if wrong else None
