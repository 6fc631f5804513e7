"""A recorded tree that nobody touched, or that was only moved, is clean; the same audit gives the same text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.audit.verify.conftest import SOURCE, Tree

from sae_assay.audit import certificate, verify
from sae_assay.audit.context import Options


def assay(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line, with the tests' package, outside the tree."""
    variables = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "sae_assay.cli", *arguments]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def test_an_untouched_tree_is_clean_in_every_check_at_depth_2(recorded: Path) -> None:
    report = verify.verify(recorded, options=Options(depth=2))
    assert [(finding.code, finding.note) for finding in report.findings] == [("UNSIGNED", True)]
    assert report.verdict == "BITWISE"
    found = report.as_dict()
    assert found["counts"]["DIFFERS"] == 0
    for name, _ in verify.CHECKS:
        assert found["checked"][name] > 0 or name == "signatures", name
    # Trained SAEs, controls, score files (3 SAEs and 2 replicates and 2 controls at 3 seeds; 6 snapshots at 2; 1 repeat).
    assert found["checked"]["table"] >= 7 * 3 + 1 + 5
    assert {item["check"] for item in found["not_checked"]} == {"bytes", "recompute", "signatures"}


def test_touched_moved_and_reordered_files_are_clean(tree: Tree) -> None:
    for file in tree.root.rglob("*"):
        if file.is_file() and ".git" not in file.parts:
            os.utime(file, (1, 1))
    for name in ("runs", "artifacts", "blobs"):
        file = tree.path(f"results/ledger/tiny/{name}.jsonl")
        file.write_text("\n".join(reversed(file.read_text().splitlines())) + "\n")
    moved = tree.root.rename(tree.root.with_name("elsewhere"))
    report = verify.verify(moved)
    assert not report.failed, [str(finding) for finding in report.findings]
    assert {finding.code for finding in report.findings} == {
        "GRAPH_INVALID",
        "UNSIGNED",
    }  # notes: lines in another order


def test_line_endings_by_git_are_clean(tree: Tree) -> None:
    from tests.audit.verify.conftest import opened

    from sae_assay.audit.checks import code, environment, graph, plan, records

    for pattern in ("src/**/*.py", "src/**/*.sql", "src/**/*.yml", "results/ledger/**/*.jsonl", "*.yaml", "uv.lock"):
        for file in tree.root.glob(pattern):
            file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    context = opened(tree)
    found = [f for check in (records, graph, plan, code, environment) for f in check.check(context) if not f.note]
    assert [str(finding) for finding in found] == []


def test_the_command_exits_with_0_and_writes_the_same_json_and_certificate_twice(tree: Tree, tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        page = tmp_path / f"{name}.html"
        done = assay("verify", "--root", str(tree.root), "--json", "--certificate", str(page), cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        texts.append((done.stdout, page.read_text()))
    assert texts[0] == texts[1]
    report = json.loads(texts[0][0])
    assert (report["study"], report["depth"], report["verdict"]) == ("tiny", 1, "BITWISE")
    assert [finding["code"] for finding in report["findings"] if not finding["note"]] == []
    assert report["verifier"]["package_digest"] in texts[0][1]
    assert "lies at the source" in texts[0][1]
    assert "<script" not in texts[0][1] and "http" not in texts[0][1].replace("http-equiv", "")


def test_exit_codes(tree: Tree, tmp_path: Path) -> None:
    file = tree.path("results/report/tiny/report.html")
    file.write_text(file.read_text().replace("</main>", "<p>9.99</p></main>"))
    done = assay("verify", "--root", str(tree.root), "--json", cwd=tmp_path)
    assert done.returncode == 1
    codes = {finding["code"] for finding in json.loads(done.stdout)["findings"] if not finding["note"]}
    assert codes == {"OUTPUT_HASH_MISMATCH", "UNTRACED_NUMBER"}
    assert assay("verify", "--root", str(tmp_path / "nowhere"), cwd=tmp_path).returncode == 2
    assert assay("verify", "--root", str(tree.root), "--study", "unheard_of", cwd=tmp_path).returncode == 2


def test_the_certificate_escapes_what_a_stranger_wrote(recorded: Path, tree: Tree) -> None:
    from tests.audit.verify.conftest import opened

    from sae_assay.audit.findings import Finding

    found = [Finding("UNTRACED_NUMBER", "<script>alert(1)</script>", None, '"><img src=x>', "look")]
    page = certificate.render(verify.Report("tiny", 1, found, opened(tree)))
    assert "<script>" not in page and "<img" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_nothing_of_the_tree_is_run(tree: Tree, tmp_path: Path, depth: int) -> None:
    """Its package, its Snakefile, its modules by common names and its git hooks would leave a mark."""
    mark = tmp_path / "mark"
    trap = f"open({str(mark)!r}, 'w').write('run')\n"
    for module in ("sae_assay", "polars", "duckdb", "json", "sitecustomize", "altair"):
        tree.path(f"{module}.py").write_text(trap)
    tree.path("Snakefile").write_text(trap)
    for file in tree.path("src/sae_assay").rglob("*.py"):
        file.write_text(trap + file.read_text())
    for name in ("post-checkout", "fsmonitor-watchman", "pre-commit"):
        hook = tree.path(f".git/hooks/{name}")
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
        hook.chmod(0o755)
    tree.git("config", "core.fsmonitor", f"touch {mark}")
    done = assay("verify", "--root", str(tree.root), "--depth", str(depth), "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "CODE_CLOSURE_MISMATCH" in done.stdout
    assert not mark.exists()


@pytest.mark.slow
def test_nothing_is_signed_unless_it_verifies(tree: Tree, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    at = ("--root", str(tree.root))
    assert assay("bundle", "keygen", str(key), cwd=tmp_path).returncode == 0
    assert assay("verify", *at, "--require-signed", cwd=tmp_path).returncode == 1
    file = tree.path("results/charts/tiny/scorecard.svg")
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    refused = assay("bundle", "sign", *at, "--key", str(key), cwd=tmp_path)
    assert refused.returncode == 2 and "scorecard.svg" in refused.stderr
    file.write_bytes(content)
    assert assay("bundle", "sign", *at, "--key", str(key), cwd=tmp_path).returncode == 0
    done = assay("verify", *at, "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert done.returncode == 1  # by a key that the tree does not trust
    assert {f["code"] for f in report["findings"] if not f["note"]} == {"UNTRUSTED_SIGNER"}
