"""Each check finds what it is there for, names the item, and says nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.audit.verify.conftest import LEDGER, Tree, codes, opened, seen

from sae_assay.audit.checks import (
    bytes as bytes_check,
)
from sae_assay.audit.checks import (
    cells,
    charts,
    code,
    environment,
    graph,
    lock,
    plan,
    records,
    statistics,
    table,
)
from sae_assay.audit.evidence import true_id
from sae_assay.audit.findings import Finding
from sae_assay.tables import scores

Audit = Callable[..., list[Finding]]
SCORE = "results/scores/tiny/toy/toy_l0_02_seed_0/42.parquet"
OTHER = "results/scores/tiny/toy/toy_l0_03_seed_0/42.parquet"


def run_of(tree: Tree, rule: str, **wildcards: str) -> dict[str, Any]:
    return next(r for r in tree.records("runs") if r["rule"] == rule and wildcards.items() <= r["wildcards"].items())


# Records -------------------------------------------------------------------------------------------------------------------
def test_an_edited_record_no_longer_has_its_id(tree: Tree, audit: Audit) -> None:
    first = tree.records("artifacts")[0]["id"]
    tree.edit("artifacts", lambda r: r.update(size=r["size"] + 1) if r["id"] == first else None)
    found = audit(tree, records)
    assert codes(found) == {"RECORD_ID_MISMATCH"}
    assert first[:12] in found[0].item and found[0].found == first


def test_a_resealed_run_no_longer_has_its_run_id(tree: Tree, audit: Audit) -> None:
    tree.edit("runs", lambda r: r.update(threads=2) if r["rule"] == "table" else None, seal=True)
    found = audit(tree, records)
    assert codes(found) == {"RECORD_ID_MISMATCH"}
    assert len(found) == 1 and found[0].item.endswith("run_id")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: r.update(commit="0" * 39), "GRAPH_INVALID"),
        (lambda r: r.update(schema=99), "GRAPH_INVALID"),
        (lambda r: r.update(type="blob"), "GRAPH_INVALID"),
        (lambda r: r.pop("cpu"), "GRAPH_INVALID"),
        (lambda r: r.update(comment="trust me"), "GRAPH_INVALID"),
        (lambda r: r.update(threads=True), "GRAPH_INVALID"),
        (lambda r: r.update(study="another"), "GRAPH_INVALID"),
        (lambda r: r.update(environment="0" * 64), "GRAPH_INVALID"),
        (lambda r: r.update(outputs={"blob": "0" * 64}), "GRAPH_INVALID"),
        (lambda r: r.update(cpu="AMD EPYC of /home/jane"), "SECRET_IN_RECORD"),
        (lambda r: r.update(cpu="jane@lab.example.org"), "SECRET_IN_RECORD"),
        (lambda r: r.update(cpu="token hf_" + "a" * 34), "SECRET_IN_RECORD"),
        (lambda r: r.update(rule="tаble"), "UNSAFE_INPUT"),  # a Cyrillic a
        (lambda r: r.update(cpu="٤"), "UNSAFE_INPUT"),  # an Arabic digit four
    ],
)
def test_records_that_break_their_schema_or_tell_too_much(
    tree: Tree, audit: Audit, change: Callable[[dict], None], code: str
) -> None:
    target = run_of(tree, "table")["id"]
    tree.edit("runs", lambda r: change(r) if r["id"] == target else None, seal=True)
    assert code in codes(audit(tree, records))


def test_paths_that_leave_the_tree_are_refused(tree: Tree, audit: Audit) -> None:
    first = tree.records("artifacts")[0]["id"]
    tree.edit("artifacts", lambda r: r.update(path="../../etc/passwd") if r["id"] == first else None, seal=True)
    assert "UNSAFE_INPUT" in codes(audit(tree, records, bytes_check, depth=2))


def test_a_line_that_is_no_json_or_names_a_key_twice_is_refused(tree: Tree, audit: Audit) -> None:
    file = tree.path(f"{LEDGER}/artifacts.jsonl")
    lines = file.read_text().splitlines()
    lines[0] = lines[0][:-1] + ',"size":1}'
    lines[1] = lines[1][:-5]
    file.write_text("\n".join([*lines, "[" * 100_000]) + "\n")
    where = [f"{LEDGER}/artifacts.jsonl:{n}" for n in (1, 2, len(lines) + 1)]
    assert {("UNSAFE_INPUT", item) for item in where} <= seen(audit(tree, records))


def test_a_left_over_blob_is_found(tree: Tree, audit: Audit) -> None:
    extra = {"type": "blob", "schema": 1, "value": [1]}
    tree.write("blobs", [*tree.records("blobs"), {**extra, "id": true_id(extra)}])
    assert seen(audit(tree, records)) == {("GRAPH_INVALID", f"blob {true_id(extra)[:12]}")}


# Graph ---------------------------------------------------------------------------------------------------------------------
def test_a_deleted_run_leaves_files_without_a_producer(tree: Tree, audit: Audit) -> None:
    gone = run_of(tree, "score_sae", sae="toy_l0_02_seed_0")["id"]
    tree.write("runs", [r for r in tree.records("runs") if r["id"] != gone])
    found = audit(tree, graph, plan)
    assert ("MISSING_PRODUCER", SCORE) in seen(found)
    assert ("COVERAGE_GAP", "score_sae sae=toy_l0_02_seed_0 substrate=toy") in seen(found)


def test_inputs_other_than_what_their_producer_made(tree: Tree, audit: Audit) -> None:
    world = "data/worlds/tiny/toy/world.json"

    def change(record: dict[str, Any]) -> None:
        if record["rule"] == "tasks":
            record["inputs"][world] = "0" * 64

    tree.edit("runs", change, seal=True)
    assert ("GRAPH_INVALID", world) in seen(audit(tree, graph))


def test_two_inputs_that_have_exchanged_digests_are_swapped(tree: Tree, audit: Audit) -> None:
    def change(record: dict[str, Any]) -> None:
        value = record["value"]
        if isinstance(value, dict) and SCORE in value and OTHER in value:
            value[SCORE], value[OTHER] = value[OTHER], value[SCORE]

    tree.edit("blobs", change)
    assert {("SWAPPED", SCORE), ("SWAPPED", OTHER)} == seen(audit(tree, graph))


def test_a_cycle_is_found(tree: Tree, audit: Audit) -> None:
    report = run_of(tree, "report")
    page, sha = next(iter(report["outputs"].items()))

    def change(record: dict[str, Any]) -> None:
        if record["rule"] == "world":
            record["inputs"][page] = sha

    tree.edit("runs", change, seal=True)
    found = [f for f in audit(tree, graph) if f.code == "GRAPH_INVALID"]
    assert any(f.expected == "no cycle" and page in str(f.found) for f in found)


def test_a_run_that_leads_nowhere_is_an_orphan(tree: Tree, audit: Audit) -> None:
    extra = {**run_of(tree, "score_sae", sae="oracle"), "wildcards": {"substrate": "toy", "sae": "ghost"}}
    extra["outputs"] = {"results/scores/tiny/toy/ghost/42.parquet": "0" * 64}
    tree.write("runs", [*tree.records("runs"), {**extra, "id": true_id(extra)}])
    found = seen(audit(tree, graph, plan))
    assert ("GRAPH_INVALID", "results/scores/tiny/toy/ghost/42.parquet") in found
    assert ("PLAN_CHANGED", "score_sae sae=ghost substrate=toy") in found


# Plan ----------------------------------------------------------------------------------------------------------------------
def test_a_threshold_changed_after_the_run(tree: Tree, audit: Audit) -> None:
    file = tree.path("config.yaml")
    file.write_text(file.read_text() + "  thresholds: {repeatable: 0.5}\n")
    found = seen(audit(tree, plan))
    assert {("PLAN_CHANGED", "plan record: thresholds"), ("PLAN_CHANGED", "plan record: study_digest")} <= found
    assert ("PLAN_CHANGED", "statistics: settings.scorecard.thresholds.repeatable") in found


def test_tolerances_changed_after_the_run(tree: Tree, audit: Audit) -> None:
    file = tree.path("tolerances.yaml")
    file.write_text(file.read_text().replace("default: 0.05", "default: 0.5"))
    assert seen(audit(tree, plan)) == {("TOLERANCE_CHANGED", "tolerances.yaml")}


def test_a_seed_of_a_record_changed_with_all_its_ids(tree: Tree, audit: Audit) -> None:
    tree.edit("runs", lambda r: None)
    target = run_of(tree, "score_repeat")
    parameters = target["params"]
    if set(parameters) == {"blob"}:
        parameters = next(b["value"] for b in tree.records("blobs") if b["id"] == parameters["blob"])
    changed = {**target, "params": {**parameters, "evaluation_seeds": [7]}, "seeds": {"evaluation_seeds": [7]}}
    tree.write("runs", [changed if r["id"] == target["id"] else r for r in tree.records("runs")], seal=True)
    found = seen(audit(tree, plan, table))
    label = f"score_repeat sae={target['wildcards']['sae']} substrate=toy"
    assert ("PLAN_CHANGED", f"{label}: settings.evaluation_seeds") in found
    assert (
        "ROW_RUN_MISMATCH",
        f"results/scores/tiny/toy/{target['wildcards']['sae']}/repeat_42.parquet: eval_seed",
    ) in found


def test_a_table_collected_from_fewer_score_files(tree: Tree, audit: Audit) -> None:
    def change(record: dict[str, Any]) -> None:
        if isinstance(record["value"], dict) and SCORE in record["value"] and OTHER in record["value"]:
            del record["value"][SCORE]

    tree.edit("blobs", change)
    assert ("COVERAGE_GAP", SCORE) in seen(audit(tree, plan))


def test_an_unlucky_run_that_was_dropped(tree: Tree, audit: Audit) -> None:
    """The same job again, with other outputs, and no word of the first: git remembers."""
    target = run_of(tree, "score_repeat")
    path = next(iter(target["outputs"]))
    tree.edit("runs", lambda r: r["outputs"].update({path: "0" * 64}) if r["id"] == target["id"] else None, seal=True)
    tree.commit()
    assert seen(audit(tree, plan)) == {("RERUN_UNDISCLOSED", f"run {target['id'][:12]} (score_repeat)")}
    told = {
        "type": "attempt", "schema": 1, "outcome": "superseded", "reason": None,
        "outputs_digest": hashlib.sha256(json.dumps(target["outputs"], separators=(",", ":")).encode()).hexdigest(),
        **{name: target[name] for name in ("run_id", "rule", "wildcards", "start", "duration_ms", "commit", "dirty")},
    }  # fmt: skip
    tree.write("attempts", [{**told, "id": true_id(told)}])
    found = audit(tree, plan)
    assert seen(found) == set()
    assert [f.code for f in found if f.note] == ["RERUN_UNDISCLOSED"]
    tree.commit()
    tree.path(f"{LEDGER}/attempts.jsonl").unlink()
    assert len(seen(audit(tree, plan))) == 2


# Code ----------------------------------------------------------------------------------------------------------------------
def test_an_edited_helper_and_an_edited_query(tree: Tree, audit: Audit) -> None:
    helper, query = "src/sae_assay/tables/scores.py", "src/sae_assay/statistics/sql/validity.sql"
    tree.path(helper).write_text(tree.path(helper).read_text() + "\n# harmless\n")
    tree.path(query).write_text(tree.path(query).read_text() + "\n-- WHERE true\n")
    assert seen(audit(tree, code)) == {("CODE_CLOSURE_MISMATCH", helper), ("QUERY_HASH_MISMATCH", query)}


def test_an_edited_query_recorded_and_committed_is_not_the_verifiers(tree: Tree, audit: Audit) -> None:
    query = "src/sae_assay/statistics/sql/validity.sql"
    tree.path(query).write_text(tree.path(query).read_text() + "\n-- WHERE true\n")
    sha = hashlib.sha256(tree.path(query).read_bytes()).hexdigest()
    tree.commit()
    head = tree.git("rev-parse", "HEAD").strip()

    def change(record: dict[str, Any]) -> None:
        if isinstance(record["value"], dict) and query in record["value"]:
            record["value"][query] = sha

    tree.edit("blobs", change)
    tree.edit("runs", lambda r: r.update(commit=head))
    found = audit(tree, code)
    assert seen(found) == {("QUERY_HASH_MISMATCH", query)}
    assert "in the verifier" in str(found[0].found)


def test_a_record_of_code_that_its_commit_does_not_hold(tree: Tree, audit: Audit) -> None:
    """The file in the tree is edited and recorded, but the commit that the run names holds another one."""
    helper = "src/sae_assay/seeds.py"
    tree.path(helper).write_text(tree.path(helper).read_text() + "\n# other\n")
    sha = hashlib.sha256(tree.path(helper).read_bytes()).hexdigest()

    def change(record: dict[str, Any]) -> None:
        if record["rule"] == "world" and "blob" not in record["code"]:
            record["code"][helper] = sha
        elif helper in record["code"] and record["rule"] != "world":
            del record["code"][helper]

    tree.edit("runs", change)
    tree.edit("blobs", lambda r: r["value"].pop(helper, None) if isinstance(r["value"], dict) else None)
    folded = "blob" in run_of(tree, "world")["code"]
    found = audit(tree, code)
    assert seen(found) == (set() if folded else {("CODE_CLOSURE_MISMATCH", helper)})


def test_a_commit_that_is_not_in_the_history(tree: Tree, audit: Audit) -> None:
    tree.edit("runs", lambda r: r.update(commit="1" * 40) if r["rule"] == "world" else None)
    assert seen(audit(tree, code)) == {("SOURCE_UNVERIFIABLE", "world substrate=toy")}


def test_a_dirty_run_is_a_note(tree: Tree, audit: Audit) -> None:
    tree.edit("runs", lambda r: r.update(dirty=True) if r["rule"] == "world" else None)
    found = audit(tree, code)
    assert seen(found) == set()
    assert [(f.code, f.item) for f in found] == [("SOURCE_UNVERIFIABLE", "world substrate=toy")]


# Environment and lock --------------------------------------------------------------------------------------------------------
def test_installed_and_locked_versions_that_differ(tree: Tree, audit: Audit) -> None:
    def change(record: dict[str, Any]) -> None:
        record["installed"]["polars"] = "0.0.1"

    tree.edit("environments", change)
    found = audit(tree, environment)
    assert codes(found) == {"ENV_MISMATCH"}
    assert all(f.item.endswith("polars") and f.found == "0.0.1" for f in found)
    assert len(found) == 2  # light and compute


def test_differences_that_the_record_admits(tree: Tree, audit: Audit) -> None:
    tree.edit("environments", lambda r: r.update(differing={"numpy": ["2.0.0", "1.0.0"]}))
    assert codes(audit(tree, environment)) == {"ENV_MISMATCH"}


def test_a_lock_of_other_versions(tree: Tree, audit: Audit) -> None:
    file = tree.path("uv.lock")
    text = file.read_text()
    start = text.index('name = "polars"\n') + len('name = "polars"\n')
    end = text.index("\n", start)
    file.write_text(text[:start] + 'version = "9.9.9"' + text[end:])
    assert codes(audit(tree, environment)) == {"ENV_MISMATCH"}


def test_a_lock_that_names_other_bytes(tree: Tree, audit: Audit) -> None:
    target = SCORE
    tree.edit("artifacts", lambda r: r.update(md5="0" * 32) if r["path"] == target else None)
    assert seen(audit(tree, lock)) == {("LOCK_LEDGER_DISAGREE", target)}


def test_a_lock_edited_alone(tree: Tree, audit: Audit) -> None:
    file = tree.path("dvc.lock")
    file.write_text(file.read_text().replace("nfiles: 5", "nfiles: 4"))
    assert seen(audit(tree, lock)) == {("LOCK_LEDGER_DISAGREE", "results/table/tiny: nfiles")}


def test_a_lock_that_expands_is_refused(tree: Tree, audit: Audit) -> None:
    tree.path("dvc.lock").write_text("a: &a [x, x]\nb: &b [*a, *a]\nstages: {c: [*b, *b]}\n")
    assert seen(audit(tree, lock)) == {("UNSAFE_INPUT", "dvc.lock")}


# Bytes ---------------------------------------------------------------------------------------------------------------------
def flip(file: Path) -> None:
    """Change one byte; size and modification time stay."""
    status, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    import os

    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("path", "depth", "code"),
    [
        ("data/saes/tiny/toy/oracle/sae_weights.safetensors", 2, "ARTIFACT_HASH_MISMATCH"),
        ("data/activations/tiny/toy/training.safetensors", 2, "ARTIFACT_HASH_MISMATCH"),
        (SCORE, 1, "ARTIFACT_HASH_MISMATCH"),
        ("results/table/tiny/scores.parquet", 1, "ARTIFACT_HASH_MISMATCH"),
        ("results/statistics/tiny/validity.parquet", 1, "OUTPUT_HASH_MISMATCH"),
        ("results/charts/tiny/scorecard.png", 1, "OUTPUT_HASH_MISMATCH"),
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


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_an_edited_picture(tree: Tree, audit: Audit, suffix: str) -> None:
    path = f"results/charts/tiny/truth_scatter.{suffix}"
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
