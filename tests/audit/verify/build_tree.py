"""Builds a recorded miniature project: the toy study, run in one process by its own steps, with a ledger and a dvc.lock.

Run as a script: `python build_tree.py FOLDER`. It knows the order of the jobs from the plan and needs no Snakemake.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from sae_assay.audit.checks.lock import listing
from sae_assay.audit.expected import ExpectedJob, jobs
from sae_assay.ledger import declared, records
from sae_assay.ledger.canonical import digest
from sae_assay.ledger.environment import lock_digest, locked_packages
from sae_assay.ledger.files import hash_file
from sae_assay.ledger.stages import STAGES
from sae_assay.plan import Plan
from sae_assay.study import Study

ROOT = Path(__file__).parents[3]
STUDY = "tiny"
# A fixed part of what each step imports; the real runner records all of it.
CODE = ("errors.py", "tables/scores.py", "seeds.py")


def build(tree: Path) -> None:
    """Write the whole project."""
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("rules", "profiles"):
        shutil.copytree(ROOT / name, tree / name)
    for name in ("Snakefile", "pyproject.toml", "uv.lock", "tolerances.yaml", "data/registry.yaml", ".gitignore"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    (tree / "config.yaml").write_text(yaml.safe_dump(config(), sort_keys=False))
    commit = save(tree, "code")
    plan = Plan(Study.load("config.yaml"))
    found: list[dict[str, Any]] = [declared.plan_record(plan)]
    for job in jobs(plan).values():
        run(job)
        found += record(job, commit)
    records.write_ledger(STUDY, list({r["id"]: r for r in found}.values()))
    write_lock(found)
    save(tree, "results")


def config() -> dict[str, Any]:
    """The tiny study, with fewer rows."""
    study = yaml.safe_load((ROOT / "studies/tiny.yaml").read_text())
    study["substrates"]["toy"]["samples"] = {
        "training_rows": 400,
        "calibration_rows": 50,
        "task_rows": 100,
        "pool_rows": 200,
    }
    study["substrates"]["toy"]["training"] = {"samples": 16000, "batch_size": 1000}
    return study


def save(tree: Path, message: str) -> str:
    """Commit everything; returns the commit."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", message]):
        subprocess.run([*git, *arguments], cwd=tree, check=True, capture_output=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tree, check=True, capture_output=True, text=True)
    return head.stdout.strip()


def run(job: ExpectedJob) -> None:
    """Run a job's step."""
    for path in job.outputs:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    step = importlib.import_module(f"sae_assay.steps.{job.step}")
    if job.step in ("charts", "report"):
        step.run(job.inputs, job.outputs, job.settings)
    elif job.step == "table":
        step.run(job.inputs, _by_stem(job.outputs), job.settings)
    elif job.step == "statistics":
        step.run(_by_stem(job.inputs[:5]), _by_stem(job.outputs), job.settings)
    else:
        step.run(_inputs(job), _outputs(job), job.settings)


def _by_stem(paths: tuple[str, ...]) -> SimpleNamespace:
    return SimpleNamespace(**{Path(path).stem: path for path in paths})


def _pick(paths: tuple[str, ...], *parts: str) -> list[str]:
    return [path for path in paths if any(part in path for part in parts)]


def _first(paths: list[str]) -> str | None:
    return paths[0] if paths else None


def _inputs(job: ExpectedJob) -> SimpleNamespace:
    world = _pick(job.inputs, "world.safetensors")
    saes = _pick(job.inputs, "sae_weights")
    return SimpleNamespace(
        card=_first(_pick(job.inputs, "world.json")),
        training=_first(_pick(job.inputs, "training.safetensors")),
        task_pool=_first(_pick(job.inputs, "pool_tasks")),
        tasks=_first(_pick(job.inputs, "tasks.json")),
        pools=[p for p in _pick(job.inputs, "/pool_") if "pool_tasks" not in p],
        evaluations=_pick(job.inputs, "/evaluation_"),
        cards=_pick(job.inputs, "cfg.json"),
        weights=saes if job.rule.startswith("score") else _first(world),
        world_weights=_first(world),
        base_weights=saes,
    )


def _outputs(job: ExpectedJob) -> SimpleNamespace:
    return SimpleNamespace(
        weights=_first(_pick(job.outputs, "world.safetensors")) or _pick(job.outputs, "sae_weights"),
        card=_first(_pick(job.outputs, "world.json")),
        cards=_pick(job.outputs, "cfg.json"),
        training=_first(_pick(job.outputs, "training.safetensors")),
        task_pool=_first(_pick(job.outputs, "pool_tasks")),
        pools=[p for p in _pick(job.outputs, "/pool_") if "pool_tasks" not in p],
        tasks=_first(_pick(job.outputs, "tasks.json")),
        evaluations=_pick(job.outputs, "/evaluation_"),
        scores=_pick(job.outputs, ".parquet"),
    )


def record(job: ExpectedJob, commit: str) -> list[dict[str, Any]]:
    """The records of a finished job, as the runner writes them."""
    group = "light" if job.rule in ("table", "statistics", "charts", "report") else "compute"
    files = [*CODE, f"steps/{job.step}.py"]
    known = {
        "rule": job.rule,
        "step": job.step,
        "wildcards": job.wildcards,
        "group": group,
        "lock_digest": lock_digest(group),
        "params": job.settings,
        "params_digest": digest(job.settings),
        "seeds": {name: value for name, value in job.settings.items() if "seed" in name},
        "inputs": {path: hash_file(path).sha256 for path in sorted(job.inputs)},
        "code": {f"src/sae_assay/{name}": hash_file(f"src/sae_assay/{name}").sha256 for name in files},
        "threads": 1,
        "numeric_profile": {"profile": "portable", "machine": "x86_64", "instruction_set": "avx2", "numpy": None},
    }
    installed = {name: version.split(",")[0] for name, version in locked_packages(group).items()}
    environment = records.with_id(
        {
            "type": "environment",
            "schema": 1,
            "group": group,
            "lock_digest": lock_digest(group),
            "python": "3.11.7",
            "installed": installed,
            "differing": {},
        }
    )
    outputs = {path: hash_file(path) for path in sorted(job.outputs)}
    content = {
        "type": "run",
        "schema": 1,
        "study": STUDY,
        "run_id": digest(known),
        **known,
        "outputs": {path: artifact.sha256 for path, artifact in outputs.items()},
        "environment": environment["id"],
        "libraries": {"device": "cpu"},
        "cpu": "test",
        "peak_memory_bytes": 1,
        "start": "2026-01-01T00:00:00Z",
        "duration_ms": 1,
        "commit": commit,
        "dirty": False,
    }
    short, blobs = records.fold(content, ("params", "inputs", "outputs", "code", "seeds", "wildcards"))
    artifacts = [
        records.with_id({"type": "artifact", "schema": 1, "path": p, "sha256": a.sha256, "size": a.size, "md5": a.md5})
        for p, a in outputs.items()
    ]
    return [records.with_id(short), *blobs, *artifacts, environment]


def write_lock(found: list[dict[str, Any]]) -> None:
    """dvc.lock, and the cache with its folder lists, as DVC writes them."""
    stages = {}
    artifacts = [r for r in found if r["type"] == "artifact"]
    for family, (folder, _) in STAGES.items():
        out = f"{folder}/{STUDY}"
        members = [r for r in artifacts if r["path"].startswith(out + "/")]
        text = json.dumps(listing(out, members), sort_keys=True).encode()
        md5 = hashlib.md5(text, usedforsecurity=False).hexdigest()
        store(md5 + ".dir", text)
        for r in members:
            store(r["md5"], Path(r["path"]).read_bytes())
        outs = {"path": out, "hash": "md5", "md5": md5 + ".dir", "size": sum(r["size"] for r in members)}
        stages[family] = {"cmd": "snakemake", "outs": [{**outs, "nfiles": len(members)}]}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))


def store(md5: str, content: bytes) -> None:
    """Put an object into the DVC cache."""
    file = Path(".dvc/cache/files/md5", md5[:2], md5[2:])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    os.chdir(target)
    build(target)
