"""A stranger's files: what is refused, and that nothing else than a refusal comes out, whatever the bytes are."""

from __future__ import annotations

import base64
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.audit.verify.conftest import opened

from sae_assay.audit import evidence, reading, schemas
from sae_assay.audit.checks import graph, records
from sae_assay.audit.page_text import read_page
from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import canonical

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# Paths ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "~/x", "C:/x", "a\\b", "a\x00b", "a\nb", "a/\u202etxt", "x" * 5000],
)  # fmt: skip
def test_paths_that_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(reading.Unsafe):
        reading.inside(tmp_path, path)


@pytest.mark.parametrize("name", ["scоres", "ｓcores", "４２", "٤٢", "a\u00a0b", "ze\u200bro", "Ωm\u0301ega"])
def test_names_that_look_like_others(name: str) -> None:
    assert reading.deceptive(name) is not None


@pytest.mark.parametrize("name", ["scores", "modèles", "данные", "モデル_7b", "batchtopk_l0_08_seed_0.step_0000977"])
def test_plain_names(name: str) -> None:
    assert reading.deceptive(name) is None


def test_links_out_of_the_tree_loops_and_pipes_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (tmp_path / "secret").write_text("x")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    (root / "fine").write_text("y")
    (root / "in").symlink_to(root / "fine")
    for name in ("out", "up/secret", "loop", "pipe"):
        with pytest.raises(AssayError):
            reading.read_bytes(root, name)
    assert reading.read_text(root, "in") == "y"


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(reading.Unsafe, match="larger than"):
        reading.read_text(tmp_path, "large", 1 << 20)


# JSON and YAML ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', "[NaN]", "[Infinity]", "[-Infinity]", "[1e999]", '["\\ud800"]', "{", "", "[" * 50 + "]" * 50, "[" * 200_000, "1" * 5000],
)  # fmt: skip
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(reading.Unsafe):
        reading.parse_json(text, "test")


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "a: &x 1\nb: *x", "!!python/object/apply:os.system [true]", "a: [", "[" * 100 + "]" * 100, "? [a]\n: b", "\x00"],
)  # fmt: skip
def test_yaml_that_is_refused(text: str) -> None:
    with pytest.raises(reading.Unsafe):
        reading.parse_yaml(text, "test")


@FUZZ
@given(st.text())
def test_any_text_as_json_yaml_and_html_is_read_or_refused(text: str) -> None:
    for parse in (reading.parse_json, reading.parse_yaml, read_page):
        try:
            parse(text, "test")
        except reading.Unsafe as error:
            assert error.where == "test"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@FUZZ
@given(JSON)
def test_what_json_can_hold_is_read_as_it_is(value: Any) -> None:
    assert canonical(reading.parse_json(json.dumps(value), "test")) == canonical(value)


# Records and ledgers -----------------------------------------------------------------------------------------------------------
FIELDS = sorted({name for versions in schemas.SCHEMAS.values() for fields in versions.values() for name in fields})
RECORD = st.fixed_dictionaries(
    {"type": st.sampled_from([*schemas.SCHEMAS, "ghost"]), "schema": st.integers(0, 2), "id": st.just("0" * 64) | JSON},
    optional=dict.fromkeys(FIELDS, JSON),
)


@FUZZ
@given(RECORD | JSON)
def test_any_value_is_a_record_or_has_a_problem(value: Any) -> None:
    problem = schemas.problem(value)
    assert problem is None or isinstance(problem, str)


def test_every_field_of_a_record_is_required_and_typed(recorded: Path) -> None:
    found = evidence.read(recorded, "tiny")
    kinds = {record["type"]: record for record in found.records.values()}
    assert set(kinds) == set(schemas.SCHEMAS) - {"attempt"}
    for kind, record in kinds.items():
        assert schemas.problem(record) is None
        for name in schemas.SCHEMAS[kind][1]:
            without = {key: value for key, value in record.items() if key != name}
            assert schemas.problem(without) == f"lacks {name}"
        assert "unknown field" in str(schemas.problem({**record, "further": 1}))
        assert "schema version" in str(schemas.problem({**record, "schema": 2}))


def test_an_older_version_stays_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer version of a type beside the old one: each record is held to its own."""
    newer = {**schemas.SCHEMAS["artifact"][1], "blake3": lambda v: isinstance(v, str)}
    monkeypatch.setitem(schemas.SCHEMAS["artifact"], 2, newer)
    old = {"type": "artifact", "schema": 1, "id": "0" * 64, "path": "a", "sha256": "1" * 64, "size": 1, "md5": "2" * 32}
    assert schemas.problem(old) is None
    assert schemas.problem({**old, "schema": 2}) == "lacks blake3"
    assert schemas.problem({**old, "schema": 2, "blake3": "3"}) is None
    assert "unknown field" in str(schemas.problem({**old, "blake3": "3"}))


@FUZZ
@given(st.data())
def test_a_ledger_with_damaged_lines_is_read_and_judged(recorded: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Cut, doubled, exchanged or foreign bytes in a ledger file: findings, never an exception; never silence."""
    from tests.audit.verify.conftest import LEDGER, Tree

    tree = Tree(tmp_path)
    for source in (recorded / LEDGER).iterdir():
        target = tmp_path / LEDGER / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    for name in ("config.yaml", "uv.lock", "tolerances.yaml"):
        (tmp_path / name).write_bytes((recorded / name).read_bytes())
    file = tmp_path / LEDGER / data.draw(st.sampled_from(["runs.jsonl", "artifacts.jsonl", "blobs.jsonl"]))
    content = file.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    damaged = content[:place] + data.draw(st.binary(max_size=8)) + content[place + data.draw(st.integers(0, 8)) :]
    file.write_bytes(damaged)
    context = opened(tree)
    found = [*records.check(context), *graph.check(context)]
    assert found or damaged.splitlines() == content.splitlines()


# Tables ----------------------------------------------------------------------------------------------------------------------
def test_a_table_that_declares_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pl.DataFrame({"a": [0] * 100_000}).write_parquet(tmp_path / "bomb.parquet")
    pl.DataFrame({"a": [[1, 2]]}).write_parquet(tmp_path / "nested.parquet")
    pl.DataFrame({f"c{i}": [1] for i in range(300)}).write_parquet(tmp_path / "wide.parquet")
    monkeypatch.setattr(reading, "MAX_TABLE_ROWS", 50_000)
    for name in ("bomb", "nested", "wide"):
        with pytest.raises(reading.Unsafe):
            reading.read_table(tmp_path, f"{name}.parquet")


@FUZZ
@given(st.data())
def test_a_damaged_table_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "c": [0.5, None, 1.5]}).write_parquet(buffer)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (tmp_path / "t.parquet").write_bytes(bytes(content[:cut] if data.draw(st.booleans()) else content))
    try:
        assert isinstance(reading.read_table(tmp_path, "t.parquet"), pl.DataFrame)
    except reading.Unsafe as error:
        assert error.where == "t.parquet"


@FUZZ
@given(st.binary(max_size=300))
def test_any_bytes_as_a_table_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(reading.Unsafe):
        reading.read_table(tmp_path, "t.parquet")


# Packed texts ----------------------------------------------------------------------------------------------------------------
def _pack(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def test_a_packed_text_is_unpacked_within_its_limit() -> None:
    assert reading.unpacked(_pack("żółw".encode()), "x", limit=8) == "żółw"
    bomb = _pack(b"0" * (1 << 20))
    assert len(bomb) < 2000
    with pytest.raises(reading.Unsafe, match="unpacks to more than"):
        reading.unpacked(bomb, "x", limit=(1 << 20) - 1)


@pytest.mark.parametrize(
    "damaged", ["!", _pack(b"text")[:-8], base64.b64encode(zlib.compress(b"a") + b"b").decode(), _pack(b"\xff")]
)
def test_a_damaged_packed_text_is_refused(damaged: str) -> None:
    with pytest.raises(reading.Unsafe):
        reading.unpacked(damaged, "x")
