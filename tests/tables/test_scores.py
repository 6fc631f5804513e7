"""The score table's schema, file format and ids."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from sae_assay.errors import AssayError
from sae_assay.tables import scores

ROW: dict[str, Any] = {
    "study": "s", "substrate": "w", "panel": "panel", "sae_id": "batchtopk_l0_08_seed_0", "arch": "batchtopk",
    "target_l0": 8.0, "variant": None, "training_seed": 0, "step": None, "tokens": None, "is_final": True,
    "control": None, "base_sae_id": None, "metric": "tpp", "component": "score", "hp_name": "n", "hp_value": 10,
    "task": "group_1", "task_kind": "in", "eval_seed": 42, "value": 0.25, "mode": "strict", "direction": None,
    "n_train": 100, "n_test": 25, "status": "ok", "reason": None,
}  # fmt: skip


def frame(*changes: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{**ROW, **change} for change in changes or ({},)], schema=scores.SCHEMA)


def test_a_lawful_table_survives_the_round_trip(tmp_path: Path) -> None:
    df = frame({"task": "b"}, {"task": "a", "value": None, "status": "failed", "reason": "it broke"})
    scores.write(df, tmp_path / "x.parquet")
    back = scores.read(tmp_path / "x.parquet")
    assert back.schema == scores.SCHEMA
    assert back.equals(df.sort("task"))


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    df = frame(*({"task": f"t{i}", "eval_seed": seed, "value": i / 7} for i in range(50) for seed in (1, 2)))
    shuffled = pl.concat([df[60:], df[:60]], rechunk=False).sample(fraction=1, shuffle=True, seed=1)
    scores.write(df, tmp_path / "a.parquet")
    scores.write(shuffled, tmp_path / "b.parquet")
    scores.write(scores.read(tmp_path / "a.parquet"), tmp_path / "c.parquet")
    digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.glob("*.parquet")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": float("nan")}, "not finite"),
        ({"value": float("inf")}, "not finite"),
        ({"value": None}, "beside status ok"),
        ({"status": "failed", "reason": "x"}, "other than ok"),
        ({"reason": "why"}, "reason"),
        ({"component": "accuracy", "value": 1.2}, "impossible"),
        ({"panel": "pannel"}, "panel"),
        ({"hp_name": None}, "hp_value"),
        ({"panel": "control"}, "control"),
        ({"n_test": -1}, "negative"),
        ({"task": "a\x1fb"}, "control character"),
        ({"metric": None}, "column metric is null"),
    ],
)
def test_an_unlawful_row_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(AssayError, match=said) as caught:
        scores.check(frame(change), "some.parquet")
    assert str(caught.value).startswith("some.parquet")
    assert "What to do" in str(caught.value)


def test_columns_are_enforced() -> None:
    with pytest.raises(AssayError, match=r"unknown column taks.*task"):
        scores.check(frame().rename({"task": "taks"}), "x")
    with pytest.raises(AssayError, match="column mode is missing"):
        scores.check(frame().drop("mode"), "x")
    with pytest.raises(AssayError, match="column eval_seed has type Int32"):
        scores.check(frame().cast({"eval_seed": pl.Int32}), "x")
    with pytest.raises(AssayError, match="order"):
        scores.check(frame().select(reversed(scores.SCHEMA.names())), "x")


def test_a_key_twice_is_an_error_even_with_nulls_in_it() -> None:
    with pytest.raises(AssayError, match="twice in 2 row"):
        scores.check(frame({"value": 0.1}, {"value": 0.2}), "x")
    scores.check(frame({"direction": 1}, {"direction": 2}), "x")


def test_conform_casts_and_names_what_it_cannot() -> None:
    loose = frame().cast({"mode": pl.String, "direction": pl.Int64, "status": pl.String})
    assert scores.conform(loose, "x").schema == scores.SCHEMA
    with pytest.raises(AssayError, match="column mode"):
        scores.conform(loose.with_columns(mode=pl.lit("sloppy")), "x")


def test_a_damaged_or_missing_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(AssayError, match="no such table"):
        scores.read(path)
    scores.write(frame(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AssayError, match="no readable parquet"):
        scores.read(path)


def test_python_and_sql_derive_the_same_id() -> None:
    df = frame({}, {"hp_name": None, "hp_value": None, "mode": None}, {"direction": 2}, {"task": "ä='1'"})
    table = df.to_arrow()
    with duckdb.connect() as db:
        db.register("t", table)
        by_sql = [row[0] for row in db.execute(f"SELECT {scores.SCORE_ID_SQL} FROM t").fetchall()]
    assert by_sql == [scores.score_id(row) for row in df.iter_rows(named=True)]
    assert len(set(by_sql)) == 4


def test_score_id_is_the_digest_of_the_canonical_key() -> None:
    parts = ["=s", "=w", "=batchtopk_l0_08_seed_0", "=tpp", "=score", "=n", "=10", "=group_1", "=42", "=strict", ""]
    text = "\x1f".join(parts)
    assert scores.score_id(ROW) == hashlib.sha256(text.encode()).hexdigest()
