"""Depth 3: the sample, its chance to meet forged jobs, and a job that is run again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.audit.verify.conftest import Tree, seen

from sae_assay.audit import verify
from sae_assay.audit.checks import recompute
from sae_assay.audit.context import Options
from sae_assay.ledger.files import hash_file
from sae_assay.tables import scores

SCORE = "results/scores/tiny/toy/toy_l0_02_seed_0/42.parquet"


def test_chance_to_meet_a_forged_job() -> None:
    assert recompute.detection(0.5, 1) == 0.5
    assert recompute.detection(0.1, 2) == pytest.approx(0.19)
    assert recompute.detection(1.0, 1) == 1.0
    assert recompute.detection(0.0, 20) == 0.0
    words = recompute.chance_in_words(0.05, 4, 70)
    assert "1 forged: 5.0 %, 5 forged: 22.6 %, 20 forged: 64.2 %" in words


def test_the_sample_depends_on_seed_and_ledger_and_is_the_same_for_everybody(recorded: Path, tree: Tree) -> None:
    def labels(root: Path, seed: int, share: float = 0.2) -> list[str]:
        options = Options(sample=share, seed=seed)
        context = verify.open_tree(root, "config.yaml", options)
        return [run.label for run in recompute.sample(context.evidence, options)]

    runs = len(tree.records("runs"))
    assert labels(recorded, 1) == labels(tree.root, 1)
    assert len(labels(recorded, 1)) == -(-runs // 5)
    assert len({tuple(labels(recorded, seed)) for seed in range(8)}) > 4
    assert len(labels(recorded, 1, 0.0)) == 1
    assert len(labels(recorded, 1, 1.0)) == runs
    before = [labels(recorded, seed) for seed in range(8)]
    tree.edit("runs", lambda r: r.update(duration_ms=2), seal=True)
    assert [labels(tree.root, seed) for seed in range(8)] != before


def only(rule: str, **wildcards: str) -> Any:
    """Instead of a random sample: the runs of one rule."""
    return lambda evidence, options: [
        run for run in evidence.runs if run.rule == rule and wildcards.items() <= run.wildcards.items()
    ]


def digests(root: Path) -> dict[str, str]:
    files = (p for p in root.rglob("*") if p.is_file() and ".git" not in p.relative_to(root).parts)
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.slow
def test_a_job_that_is_run_again_gives_the_same_bytes_and_the_tree_is_not_touched(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recompute, "sample", only("score_sae", sae="toy_l0_02_seed_0"))
    before = digests(tree.root)
    report = verify.verify(tree.root, options=Options(depth=3, sample=0.05))
    assert not report.failed, report.text()
    assert report.context.verdicts["recompute"] == {"score_sae sae=toy_l0_02_seed_0 substrate=toy": "BITWISE"}
    assert "20 forged: 64.2 %" in report.text()
    assert digests(tree.root) == before


@pytest.mark.slow
def test_a_forged_score_with_all_its_records_is_met_by_running_its_job_again(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, its artifact record and its run record agree with each other; only a rerun tells."""
    file = tree.path(SCORE)
    scores.write(scores.read(file).with_columns(value=pl.col("value") * 0.5), file)
    forged = hash_file(file)

    def artifact(record: dict[str, Any]) -> None:
        if record["path"] == SCORE:
            record.update(sha256=forged.sha256, size=forged.size, md5=forged.md5)

    def run(record: dict[str, Any]) -> None:
        if SCORE in record["outputs"]:
            record["outputs"][SCORE] = forged.sha256

    tree.edit("artifacts", artifact, seal=True)
    tree.edit("runs", run, seal=True)
    blobs = {b["id"]: b["value"] for b in tree.records("blobs")}
    folded = next(
        r for r in tree.records("runs") if r["rule"] == "score_sae" and r["wildcards"]["sae"] == "toy_l0_02_seed_0"
    )
    if "blob" in folded["outputs"]:
        blobs[folded["outputs"]["blob"]][SCORE] = forged.sha256
        tree.edit("blobs", lambda b: b.update(value=blobs[b["id"]]))
    tree.commit()
    monkeypatch.setattr(recompute, "sample", only("score_sae", sae="toy_l0_02_seed_0"))
    context = verify.open_tree(tree.root, "config.yaml", Options(depth=3))
    found = recompute.check(context)
    assert {(code, item) for code, item in seen(found)} == {("RERUN_DIFFERS", SCORE)}, context.not_checked
