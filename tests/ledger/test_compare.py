"""Comparison with recorded scores: equal bytes, the same SAE within a small tolerance, a retrained one within its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest

from sae_assay.errors import AssayError
from sae_assay.ledger import compare, records
from sae_assay.tables import scores

TOLERANCES = {
    "same_sae": {"default": 1e-3},
    "retrained": {"default": 0.05, "tpp.score": 0.2},
    "retrained_snapshots": {"default": 0.4},
    "retrained_controls": {"default": None},
}
WEIGHTS = {"a": b"weights of a", "a.step_0000007": b"weights of a snapshot"}


def rows(values: list[float | None], sae: str = "a", metric: str = "tpp") -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "study": "s",
            "substrate": "b",
            "panel": "trajectory" if ".step_" in sae else "panel",
            "sae_id": sae,
            "is_final": True,
            "metric": metric,
            "component": "score",
            "task": [f"t{i}" for i in range(len(values))],
            "eval_seed": 1,
            "value": values,
            "status": ["ok" if value is not None else "too_few_rows" for value in values],
        }
    )
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in scores.SCHEMA.items() if name not in frame.columns]
    return scores.conform(frame.with_columns(absent), "test")


def ledger_line(recorded: Path, path: Path, content: bytes) -> None:
    """Record an artifact's digest as git's ledger does."""
    file = recorded / records.LEDGER / "s" / "artifacts.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(content).hexdigest()
    with file.open("a") as opened:
        opened.write(records.line(records.with_id({"type": "artifact", "path": path.as_posix(), "sha256": digest})))


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    recorded, current = tmp_path / "recorded", tmp_path / "current"
    for side in (recorded, current):
        for sae, weights in WEIGHTS.items():
            run, dot, step = sae.partition(".step_")
            folder = side / (f"data/trajectories/s/b/{run}/{step}" if dot else f"data/saes/s/b/{sae}")
            folder.mkdir(parents=True)
            (folder / "sae_weights.safetensors").write_bytes(weights)
            ledger_line(recorded, folder.relative_to(side) / "sae_weights.safetensors", weights)
            score = side / f"results/scores/s/b/{sae}/1.parquet"
            score.parent.mkdir(parents=True)
            scores.write(rows([0.5, 0.7, None], sae), score)
    return recorded, current


def change(side: Path, values: list[float | None], sae: str = "a") -> None:
    scores.write(rows(values, sae), side / f"results/scores/s/b/{sae}/1.parquet")


def compared(sides: tuple[Path, Path]) -> compare.Comparison:
    return compare.compare_scores(*sides, "s", TOLERANCES)


def test_equal_bytes(sides: tuple[Path, Path]) -> None:
    result = compared(sides)
    assert result.verdict == "BITWISE" and result.files == result.equal_files == 2


def test_same_sae_within_tolerance(sides: tuple[Path, Path]) -> None:
    change(sides[1], [0.5, 0.7005, None])
    result = compared(sides)
    assert result.verdict == "WITHIN_TOLERANCE"
    assert result.largest["tpp.score"] == pytest.approx(0.0005)


def test_same_sae_beyond_tolerance_is_named(sides: tuple[Path, Path]) -> None:
    change(sides[1], [0.5, 0.71, None], "a.step_0000007")
    result = compared(sides)
    assert result.verdict == "DIFFERS"
    assert "a.step_0000007/1.parquet" in result.findings[0]["item"] and "tpp.score" in result.findings[0]["found"]


def test_retrained_sae_is_held_to_its_mean(sides: tuple[Path, Path]) -> None:
    (sides[1] / "data/saes/s/b/a/sae_weights.safetensors").write_bytes(b"other weights")
    change(sides[1], [0.65, 0.75, None])
    result = compared(sides)
    assert result.verdict == "WITHIN_TOLERANCE" and result.retrained_saes == {"b/a"}
    change(sides[1], [0.95, 0.95, None])
    assert compared(sides).verdict == "DIFFERS"


def test_other_evaluation_rows_make_it_another_sae(sides: tuple[Path, Path]) -> None:
    recorded, current = sides
    rows_file = Path("data/activations/s/b/evaluation_1.safetensors")
    ledger_line(recorded, rows_file, b"rows")
    change(current, [0.6, 0.6, None])
    (current / rows_file).parent.mkdir(parents=True)
    for content, retrained in ((b"rows", set()), (b"other rows", {"b/a"})):
        (current / rows_file).write_bytes(content)
        result = compared(sides)
        assert result.retrained_saes == retrained and bool(result.findings) != bool(retrained)


def test_an_anatomys_files_are_held_to_the_same_limits(sides: tuple[Path, Path]) -> None:
    for side in sides:
        file = side / "results/anatomy/s/b/a/blocks_0.parquet"
        file.parent.mkdir(parents=True)
        scores.write(rows([0.5, 0.7, None]), file)
    assert compared(sides).files == compared(sides).equal_files == 3
    scores.write(rows([0.5, 0.71, None]), file)
    assert "results/anatomy/s/b/a/blocks_0.parquet" in compared(sides).findings[0]["item"]
    text = Path("data/activations/s/b/text.safetensors")
    ledger_line(sides[0], text, b"text")
    (sides[1] / text).parent.mkdir(parents=True)
    (sides[1] / text).write_bytes(b"another text")
    assert compared(sides).verdict == "WITHIN_TOLERANCE" and compared(sides).retrained_saes == {"b/a"}


def test_a_retrained_snapshot_has_limits_of_its_own(sides: tuple[Path, Path]) -> None:
    _, current = sides
    (current / "data/trajectories/s/b/a/0000007/sae_weights.safetensors").write_bytes(b"others")
    change(current, [0.8, 1.0, None], "a.step_0000007")
    assert compared(sides).verdict == "WITHIN_TOLERANCE"
    change(current, [1.0, 1.2, None], "a.step_0000007")
    assert "differs by 0.5 > 0.4" in compared(sides).findings[0]["found"]


def test_a_metric_without_a_tolerance_is_not_compared_between_retrained_saes(sides: tuple[Path, Path]) -> None:
    (sides[1] / "data/saes/s/b/a/sae_weights.safetensors").write_bytes(b"other weights")
    change(sides[1], [0.95, 0.95, None])
    tolerances = {**TOLERANCES, "retrained": {"default": 0.05, "tpp.score": None}}
    result = compare.compare_scores(*sides, "s", tolerances)
    assert result.verdict == "WITHIN_TOLERANCE" and result.not_comparable == {"tpp.score"}


def test_another_status_of_the_same_sae_is_a_finding(sides: tuple[Path, Path]) -> None:
    change(sides[1], [0.5, 0.7, 0.9])
    assert "another status" in compared(sides).findings[0]["found"]


def test_missing_file_and_dropped_row_are_findings(sides: tuple[Path, Path]) -> None:
    change(sides[1], [0.5, 0.7])
    (sides[1] / "results/scores/s/b/a.step_0000007/1.parquet").unlink()
    assert {finding["found"] for finding in compared(sides).findings} == {"1 rows on one side only", "missing"}


def test_nothing_recorded_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="no recorded score"):
        compare.compare_scores(tmp_path, tmp_path, "s", TOLERANCES)
    with pytest.raises(AssayError, match="record"), compare.recorded_checkout("s", tmp_path):
        pass
