"""Checks of the results: each finds what it is there for, names the item, and says nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.audit.verify.conftest import OTHER, SCORE, Audit, Tree, codes, opened, seen

from sae_assay.audit.checks import (
    bytes as bytes_check,
)
from sae_assay.audit.checks import (
    cells,
    charts,
    statistics,
    table,
)
from sae_assay.tables import scores


# Bytes ---------------------------------------------------------------------------------------------------------------------
def flip(file: Path) -> None:
    """Change one byte; size and modification time stay."""
    status, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("path", "depth", "code"),
    [
        ("data/saes/tiny/toy/oracle/sae_weights.safetensors", 2, "ARTIFACT_HASH_MISMATCH"),
        ("data/activations/tiny/toy/training.safetensors", 2, "ARTIFACT_HASH_MISMATCH"),
        (SCORE, 1, "ARTIFACT_HASH_MISMATCH"),
        ("results/table/tiny/scores.parquet", 1, "ARTIFACT_HASH_MISMATCH"),
        ("results/statistics/tiny/validity.parquet", 1, "OUTPUT_HASH_MISMATCH"),
        ("results/charts/tiny/scorecard.svg", 1, "OUTPUT_HASH_MISMATCH"),
        ("results/report/tiny/report.html", 1, "OUTPUT_HASH_MISMATCH"),
    ],
)
def test_one_flipped_byte(tree: Tree, audit: Audit, path: str, depth: int, code: str) -> None:
    flip(tree.path(path))
    assert seen(audit(tree, bytes_check, depth=depth)) == {(code, path)}


def test_a_flipped_byte_in_the_cache_is_found_at_depth_2_only(tree: Tree, audit: Audit) -> None:
    md5 = next(r["md5"] for r in tree.records("artifacts") if r["path"] == SCORE)
    name = f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"
    flip(tree.path(name))
    assert seen(audit(tree, bytes_check, depth=1)) == set()
    assert seen(audit(tree, bytes_check, depth=2)) == {("ARTIFACT_HASH_MISMATCH", name)}


def test_the_remote_is_hashed_on_request(tree: Tree, audit: Audit) -> None:
    shutil.copytree(tree.path(".dvc/cache"), tree.path("data/remote"))
    md5 = next(r["md5"] for r in tree.records("artifacts") if r["path"] == SCORE)
    name = f"data/remote/files/md5/{md5[:2]}/{md5[2:]}"
    flip(tree.path(name))
    assert seen(audit(tree, bytes_check, depth=2)) == set()
    assert seen(audit(tree, bytes_check, depth=2, remote=True)) == {("ARTIFACT_HASH_MISMATCH", name)}


def test_two_files_with_exchanged_bytes(tree: Tree, audit: Audit) -> None:
    first, second = tree.path(SCORE), tree.path(OTHER)
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert seen(audit(tree, bytes_check)) == {("SWAPPED", SCORE), ("SWAPPED", OTHER)}


def test_missing_extra_and_linked_files(tree: Tree, audit: Audit, tmp_path: Path) -> None:
    tree.path(SCORE).unlink()
    extra = "results/scores/tiny/toy/extra.parquet"
    tree.path(extra).write_bytes(b"x")
    outside = tmp_path / "outside.parquet"
    shutil.move(tree.path(OTHER), outside)
    tree.path(OTHER).symlink_to(outside)
    assert seen(audit(tree, bytes_check)) == {
        ("COVERAGE_GAP", SCORE),
        ("MISSING_PRODUCER", extra),
        ("UNSAFE_INPUT", OTHER),
    }


# Table ---------------------------------------------------------------------------------------------------------------------
def rewrite(file: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    if "scores/tiny" in file.as_posix():
        scores.write(change(scores.read(file)), file)
    else:
        scores.write_pinned(change(pl.read_parquet(file)), file)


def first_value(frame: pl.DataFrame, add: float) -> pl.DataFrame:
    """Add something to the value of the first row."""
    return frame.with_columns(value=pl.when(pl.int_range(pl.len()) == 0).then(pl.col("value") + add).otherwise("value"))


def test_a_value_edited_in_the_table(tree: Tree, audit: Audit) -> None:
    path = "results/table/tiny/scores.parquet"
    rewrite(tree.path(path), lambda frame: first_value(frame, 1e-9))
    found = audit(tree, table)
    assert codes(found) == {"ROW_RUN_MISMATCH"} and len(found) == 1
    assert found[0].item.startswith(f"{path}: study=tiny, substrate=toy") and found[0].item.endswith(": value")


def test_a_row_dropped_from_the_table_and_one_doubled(tree: Tree, audit: Audit) -> None:
    path = "results/table/tiny/scores.parquet"
    rewrite(tree.path(path), lambda frame: frame.slice(1))
    assert codes(audit(tree, table)) == {"COVERAGE_GAP"}
    rewrite(tree.path(path), lambda frame: pl.concat([frame, frame.head(2)]))
    assert codes(audit(tree, table)) >= {"ROW_RUN_MISMATCH"}


@pytest.mark.parametrize(
    ("column", "value"), [("eval_seed", 123), ("sae_id", "oracle"), ("substrate", "moon"), ("panel", "trajectory")]
)
def test_rows_that_do_not_agree_with_their_file(tree: Tree, audit: Audit, column: str, value: Any) -> None:
    kind = scores.SCHEMA[column]
    rewrite(tree.path(SCORE), lambda frame: frame.with_columns(pl.lit(value, dtype=kind).alias(column)))
    assert ("ROW_RUN_MISMATCH", f"{SCORE}: {column}") in seen(audit(tree, table))


def test_one_seed_passed_off_as_two(tree: Tree, audit: Audit) -> None:
    second = SCORE.replace("42.parquet", "456.parquet")
    shutil.copy(tree.path(SCORE), tree.path(second))
    rewrite(tree.path(second), lambda frame: frame.with_columns(eval_seed=pl.lit(456, dtype=pl.Int64)))
    assert ("ROW_RUN_MISMATCH", second) in seen(audit(tree, table))


def test_a_metric_dropped_from_one_file(tree: Tree, audit: Audit) -> None:
    rewrite(tree.path(SCORE), lambda frame: frame.filter(pl.col("metric") != "pure_noise"))
    assert ("ROW_RUN_MISMATCH", f"{SCORE}: metric") in seen(audit(tree, table))


def test_a_task_that_one_sae_lacks(tree: Tree, audit: Audit) -> None:
    """Every file but one gets a second task: that one is named."""
    for file in tree.path("results/scores/tiny/toy").rglob("*.parquet"):
        if file != tree.path(SCORE):
            rewrite(file, lambda frame: pl.concat([frame, frame.with_columns(task=pl.lit("extra"))]))
    found = [f for f in audit(tree, table) if f.expected == "tasks extra, which other SAEs have"]
    assert found and all("sae_id=toy_l0_02_seed_0" in f.item and "eval_seed=42" in f.item for f in found)


def test_a_missing_and_a_damaged_score_file(tree: Tree, audit: Audit) -> None:
    tree.path(SCORE).unlink()
    tree.path(OTHER).write_bytes(b"PAR1 not really PAR1")
    assert {("COVERAGE_GAP", SCORE), ("UNSAFE_INPUT", OTHER)} <= seen(audit(tree, table))


# Statistics, charts, cells ---------------------------------------------------------------------------------------------------
def test_an_edited_statistic_is_named_with_row_and_column(tree: Tree, audit: Audit) -> None:
    path = "results/statistics/tiny/reseed_noise.parquet"
    before = pl.read_parquet(tree.path(path))
    column = next(c for c in before.columns if before.schema[c] == pl.Float64 and before[c].null_count() == 0)
    rewrite(tree.path(path), lambda f: f.with_columns((pl.col(column).head(1) * 2).append(pl.col(column).slice(1))))
    found = audit(tree, statistics)
    assert len(found) == 1 and found[0].code == "OUTPUT_HASH_MISMATCH"
    assert found[0].item.startswith(f"{path}: substrate=toy") and found[0].item.endswith(f": {column}")
    assert str(before[column][0]) in str(found[0].expected)


def test_statistics_of_a_filtered_table_differ(tree: Tree) -> None:
    """Table and file are consistent with each other; the recorded marts are of another table."""
    rewrite(tree.path("results/table/tiny/scores.parquet"), lambda f: f.filter(pl.col("sae_id") != "toy_l0_02_seed_0"))
    context = opened(tree)
    try:
        assert codes(statistics.check(context)) == {"OUTPUT_HASH_MISMATCH"}
    finally:
        context.close()


def test_a_datum_edited_in_a_chart(tree: Tree, audit: Audit) -> None:
    path = "results/charts/tiny/scorecard.json"
    text = tree.path(path).read_text()
    tree.path(path).write_text(text.replace('"FAIL"', '"PASS"', 1))
    found = audit(tree, charts)
    assert codes(found) == {"CHART_MISMATCH"} and all(f.item.startswith(path) for f in found)
    assert '"FAIL"' in str(found[0].expected) and '"PASS"' in str(found[0].found)


def test_an_edited_picture(tree: Tree, audit: Audit) -> None:
    path = "results/charts/tiny/truth_scatter.svg"
    flip(tree.path(path))
    assert seen(audit(tree, charts, depth=2)) == {("CHART_MISMATCH", path)}


PAGE, LIST = "results/report/tiny/report.html", "results/report/tiny/cells.json"


def test_a_number_edited_on_the_page(tree: Tree, audit: Audit) -> None:
    cell = next(c for c in json.loads(tree.path(LIST).read_text())["cells"] if c["format"].startswith("fixed"))
    html = tree.path(PAGE).read_text()
    start = html.index(f'data-cell="{cell["id"]}"')
    place = html.index(f">{cell['shown']}<", start)
    tree.path(PAGE).write_text(html[: place + 1] + "7.77" + html[place + 1 + len(cell["shown"]) :])
    found = seen(audit(tree, cells))
    assert found == {("CELL_DISPLAY_MISMATCH", f"{PAGE}: {cell['id']}"), ("OUTPUT_HASH_MISMATCH", PAGE)}


@pytest.mark.parametrize(
    ("field", "value"),
    [("shown", "7.77"), ("raw", "0x1.0p+0"), ("column", "no_such"), ("mart", "no_such"), ("shown", "٧")],
)
def test_a_cell_edited_in_the_list(tree: Tree, audit: Audit, field: str, value: str) -> None:
    listed = json.loads(tree.path(LIST).read_text())
    listed["cells"][5][field] = value
    tree.path(LIST).write_text(json.dumps(listed))
    assert ("CELL_DISPLAY_MISMATCH", f"{LIST}: {listed['cells'][5]['id']}") in seen(audit(tree, cells))


def test_page_and_list_edited_together(tree: Tree, audit: Audit) -> None:
    """The number, its cell in both lists: the table still has the true value."""
    listed = json.loads(tree.path(LIST).read_text())
    cell = next(c for c in listed["cells"] if c["format"].startswith("fixed"))
    cell["shown"] = "7.77"
    tree.path(LIST).write_text(json.dumps(listed, ensure_ascii=False, indent=1) + "\n")
    assert ("CELL_DISPLAY_MISMATCH", f"{LIST}: {cell['id']}") in seen(audit(tree, cells))


@pytest.mark.parametrize("extra", ["<p>0.97</p>", '<p title="0.97">x</p>', "<p>९७</p>", "<!-- 0.97 -->"])
def test_a_number_without_a_cell(tree: Tree, audit: Audit, extra: str) -> None:
    html = tree.path(PAGE).read_text()
    tree.path(PAGE).write_text(html.replace("</main>", f"{extra}</main>"))
    assert seen(audit(tree, cells)) == {("UNTRACED_NUMBER", PAGE), ("OUTPUT_HASH_MISMATCH", PAGE)}


def test_further_fields_of_a_cell_are_fine(tree: Tree) -> None:
    listed = json.loads(tree.path(LIST).read_text())
    for cell in listed["cells"]:
        cell["witness"] = {"rows": 3}
    tree.path(LIST).write_text(json.dumps(listed))
    assert cells._cells(opened(tree), listed, LIST) == []
