"""A small committed ledger of a made-up study, for bundles and exports."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from sae_assay.ledger.records import LEDGER, line, with_id

STUDY = "small"
COMMITTED = "2026-01-02T03:04:05+00:00"


def git(root: Path, *arguments: str) -> str:
    """Run git without the user's own settings, at a fixed time."""
    variables = {
        **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_DATE": COMMITTED,
        "GIT_COMMITTER_DATE": COMMITTED,
    }
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *arguments], cwd=root, env=variables, capture_output=True, text=True, check=True
    ).stdout.strip()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def artifact(path: str, data: bytes) -> dict:
    """The record of a file."""
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return with_id(
        {"type": "artifact", "schema": 1, "path": path, "sha256": sha256(data), "size": len(data), "md5": md5}
    )


def run(rule: str, inputs: dict[str, bytes], outputs: dict[str, bytes], start: str, environment: str) -> dict:
    """The record of a job."""
    return with_id(
        {
            "type": "run",
            "schema": 1,
            "study": STUDY,
            "rule": rule,
            "step": rule,
            "wildcards": {"substrate": "mini"},
            "params": {"study": STUDY, "threads": 1},
            "params_digest": "0" * 64,
            "seeds": {"seed": 42},
            "inputs": {path: sha256(data) for path, data in inputs.items()},
            "outputs": {path: sha256(data) for path, data in outputs.items()},
            "code": {f"src/sae_assay/steps/{rule}.py": "1" * 64},
            "environment": environment,
            "group": "light",
            "lock_digest": "2" * 64,
            "run_id": sha256(rule.encode()),
            "threads": 1,
            "numeric_profile": {"profile": "portable"},
            "libraries": {"device": "cpu"},
            "cpu": "made up",
            "peak_memory_bytes": 1000,
            "start": start,
            "duration_ms": 1500,
            "commit": "a" * 40,
            "dirty": False,
        }
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with files, a ledger of nine records, a dvc.lock and a study file, all committed."""
    root = tmp_path / "tree"
    table, report = b"table", b"<p>report</p>"
    files = {f"results/table/{STUDY}/scores.parquet": table, f"results/report/{STUDY}/report.html": report}
    world = {f"data/worlds/{STUDY}/mini/world.json": b"{}"}
    for path, data in (files | world).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    environment = with_id({"type": "environment", "schema": 1, "group": "light", "python": "3.11.9", "installed": {}})
    table_file, report_file = files
    records = [
        environment,
        *(artifact(path, data) for path, data in (files | world).items()),
        run("world", {}, world, "2026-01-01T00:00:00Z", environment["id"]),
        run("table", world, {table_file: table}, "2026-01-01T00:00:02Z", environment["id"]),
        run("report", {table_file: table}, {report_file: report}, "2026-01-01T00:00:04Z", environment["id"]),
        with_id({"type": "plan", "schema": 1, "study": STUDY, "study_digest": "3" * 64}),
        with_id({"type": "attempt", "schema": 1, "rule": "table", "outcome": "failed", "reason": "disk full"}),
    ]
    write_records(root, records)
    source = Path(__file__).parents[2]
    for name in ("Snakefile", "LICENSE", "CITATION.cff", "README.md", "uv.lock"):
        (root / name).write_bytes((source / name).read_bytes())
    (root / "config.yaml").write_text((source / "studies/tiny.yaml").read_text().replace("study: tiny", "study: small"))
    (root / "dvc.lock").write_text("schema: '2.0'\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "records")
    return root


def write_records(root: Path, records: list[dict]) -> None:
    """Write a ledger as `record` does."""
    folder = root / LEDGER / STUDY
    folder.mkdir(parents=True, exist_ok=True)
    for kind in {record["type"] for record in records}:
        lines = sorted(line(record) for record in records if record["type"] == kind)
        (folder / f"{kind}s.jsonl").write_text("".join(lines))
