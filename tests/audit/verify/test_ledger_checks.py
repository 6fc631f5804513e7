"""Checks of the records: each finds what it is there for, names the item, and says nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.audit.verify.conftest import LEDGER, OTHER, SCORE, Audit, Tree, codes, seen

from sae_assay.audit.checks import (
    bytes as bytes_check,
)
from sae_assay.audit.checks import (
    code,
    environment,
    graph,
    lock,
    plan,
    records,
    table,
)
from sae_assay.audit.evidence import true_id


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
    """The file in the tree is edited and recorded, but the commit that the runs name holds another one."""
    helper = "src/sae_assay/seeds.py"
    tree.path(helper).write_text(tree.path(helper).read_text() + "\n# other\n")
    sha = hashlib.sha256(tree.path(helper).read_bytes()).hexdigest()

    def change(code: Any) -> None:
        if isinstance(code, dict) and helper in code:
            code[helper] = sha

    tree.edit("runs", lambda r: change(r["code"]))
    tree.edit("blobs", lambda r: change(r["value"]))
    found = audit(tree, code)
    assert seen(found) == {("CODE_CLOSURE_MISMATCH", helper)}
    assert any("at commit" in str(finding.found) for finding in found)
    assert not any("in the tree" in str(finding.found) for finding in found)


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
