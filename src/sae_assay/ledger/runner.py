"""Runs one job of the workflow: cut-off, temporary outputs, the step in its own process, rename, record."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sae_assay.errors import AssayError
from sae_assay.ledger import environment as env
from sae_assay.ledger.canonical import digest
from sae_assay.ledger.files import Artifact, Hasher, hash_file
from sae_assay.ledger.job import Job
from sae_assay.ledger.records import (
    SCHEMA,
    attempt_of,
    fold,
    with_id,
    write_attempt,
    write_run,
)
from sae_assay.ledger.survey import candidates_of, differences

PARTIAL = ".partial-"


def run_job(job: Job, names: dict[str, dict[str, Any]], log: Path) -> str:
    """Run a job unless nothing that it depends on has changed.

    Args:
        job: what Snakemake asks for.
        log: takes what the step prints.
        names: `inputs` and `outputs`: the rule's names for its paths, as `name -> path or list of paths`.

    Returns:
        "ran" or "skipped" (early cut-off: same inputs, settings, code and packages as recorded, outputs intact).

    Raises:
        AssayError: an input is missing or changed while the job ran, or the step failed.
    """
    hasher = Hasher(store=None)
    inputs = _digest_inputs(job, hasher)
    if any(not differences(run, job, hasher) for run in candidates_of(job, job.settings["study"])):
        return "skipped"
    started = datetime.now(UTC)
    clock = time.monotonic()
    known = _known_before(job, inputs)
    try:
        with _partial_outputs(job) as partial:
            report = _run_step(job, names, partial, log)
            _check_outputs(job, partial)
            _check_inputs_unchanged(job, inputs)
            known = _known_before(job, inputs, report["code"])
            for final, temporary in partial.items():
                os.replace(temporary, final)  # noqa: PTH105
    except BaseException as error:
        _record_failure(job, known, started, clock, error)
        raise
    outputs = {path: hash_file(path) for path in sorted(job.outputs)}
    _record(job, known, report, outputs, started, clock)
    return "ran"


def names_of(files: Any) -> dict[str, str | list[str]]:
    """A rule's names for its input or output paths."""
    named = dict(files.items())
    return {
        name: str(value) if isinstance(value, str) else [str(path) for path in value] for name, value in named.items()
    }


def _digest_inputs(job: Job, hasher: Hasher) -> dict[str, str]:
    found = {path: hasher.sha256(path) for path in sorted(job.inputs)}
    missing = [path for path, sha in found.items() if sha is None]
    if missing:
        raise AssayError(
            missing[0], f"is missing, and {job.label} reads it", f"run `snakemake {missing[0]}`, or `dvc pull`"
        )
    return {path: sha for path, sha in found.items() if sha}


def _known_before(job: Job, inputs: dict[str, str], code: dict[str, str] | None = None) -> dict[str, Any]:
    """What is known before the job starts, and hence its run_id (the code closure is taken before the step imports it)."""
    settings = job.settings
    seeds = {name: value for name, value in settings.items() if "seed" in name}
    content = {
        "rule": job.rule,
        "step": job.step,
        "wildcards": job.wildcards,
        "group": job.group,
        "lock_digest": env.lock_digest(job.group),
        "params": settings,
        "params_digest": digest(settings),
        "seeds": seeds,
        "inputs": inputs,
        "code": code or {},
        "threads": settings["threads"],
        "numeric_profile": env.numeric_profile(settings["profile"]),
    }
    return {"run_id": digest(content), **content}


@contextmanager
def _partial_outputs(job: Job) -> Iterator[dict[str, str]]:
    """Final path -> temporary path in a hidden folder beside it, so that a name is given only to what is finished."""
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
    folder_name = f"{PARTIAL}{host}-{os.getpid()}"
    folders = {Path(path).parent for path in job.outputs}
    try:
        for folder in folders:
            _remove_abandoned(folder, host)
            (folder / folder_name).mkdir(parents=True, exist_ok=True)
        yield {path: str(Path(path).parent / folder_name / Path(path).name) for path in job.outputs}
    finally:
        for folder in folders:
            shutil.rmtree(folder / folder_name, ignore_errors=True)


def _remove_abandoned(folder: Path, host: str) -> None:
    """Remove the partial outputs of jobs of this host that were killed."""
    for left in folder.glob(f"{PARTIAL}{host}-*"):
        if not Path("/proc", left.name.rsplit("-", 1)[1]).exists():
            shutil.rmtree(left, ignore_errors=True)


def _run_step(job: Job, names: dict[str, dict[str, Any]], partial: dict[str, str], log: Path) -> dict[str, Any]:
    spec = {
        "step": job.step,
        "label": job.label,
        "settings": job.settings,
        "inputs": {"paths": list(job.inputs), "names": names["inputs"]},
        "outputs": {
            "paths": [partial[path] for path in job.outputs],
            "names": {name: _translate(value, partial) for name, value in names["outputs"].items()},
            "final": list(job.outputs),
        },
    }
    spec_file = Path(partial[job.outputs[0]]).parent / ".job.json"
    spec_file.write_text(json.dumps(spec), encoding="utf-8")
    variables = env.process_environment(job.settings["profile"], job.settings["threads"])
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sae_assay.ledger.child", str(spec_file)]
    with log.open("w", encoding="utf-8") as printed:
        child = subprocess.run(command, env=variables, stdout=printed, stderr=subprocess.STDOUT, check=False)
    report_file = Path(f"{spec_file}.report")
    report = json.loads(report_file.read_text(encoding="utf-8")) if report_file.exists() else {}
    if child.returncode == 0:
        return report
    if child.returncode == 3:
        raise StepError(report["error"])
    if child.returncode < 0:
        raise AssayError(
            job.label,
            f"was killed by signal {-child.returncode}",
            "if memory ran out, lower --cores or use a larger machine; finished jobs are kept",
        )
    raise AssayError(
        job.label, report.get("error", f"ended with code {child.returncode}"), f"read the traceback in {log}"
    )


class StepError(AssayError):
    """A step's own AssayError, whose sentence is passed on as it is."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)


def _translate(value: Any, partial: dict[str, str]) -> Any:
    return partial[value] if isinstance(value, str) else [partial[path] for path in value]


def _check_outputs(job: Job, partial: dict[str, str]) -> None:
    for final, temporary in partial.items():
        file = Path(temporary)
        if not file.is_file():
            raise AssayError(final, f"was not written by {job.label}", f"correct src/sae_assay/steps/{job.step}.py")


def _check_inputs_unchanged(job: Job, before: dict[str, str]) -> None:
    after = Hasher(store=None)
    for path, sha in before.items():
        if after.sha256(path) != sha:
            raise AssayError(path, f"changed while {job.label} ran", "let the workflow run alone, and run it again")


def _record(
    job: Job,
    known: dict[str, Any],
    report: dict[str, Any],
    outputs: dict[str, Artifact],
    started: datetime,
    clock: float,
) -> None:
    artifacts = [
        with_id({"type": "artifact", "schema": SCHEMA, "path": p, "sha256": a.sha256, "size": a.size, "md5": a.md5})
        for p, a in outputs.items()
    ]
    environment = env.environment_record(job.group)
    content = {
        "type": "run",
        "schema": SCHEMA,
        "study": job.settings["study"],
        **known,
        "outputs": {path: artifact.sha256 for path, artifact in outputs.items()},
        "environment": environment["id"],
        "libraries": report["libraries"],
        "cpu": env.cpu_model(),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        **_circumstances(job, started, clock),
    }
    short, blobs = fold(content, ("params", "inputs", "outputs", "code", "seeds", "wildcards"))
    write_run(job.settings["study"], job.key, [with_id(short), *blobs, *artifacts, environment])


def _circumstances(job: Job, started: datetime, clock: float) -> dict[str, Any]:
    return {
        "start": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "duration_ms": round((time.monotonic() - clock) * 1000),
        **env.source_state(["src", "rules", "envs", "Snakefile", "config.yaml", "studies", "uv.lock"]),
    }


def _record_failure(job: Job, known: dict[str, Any], started: datetime, clock: float, error: BaseException) -> None:
    study = job.settings["study"]
    content = {**known, **_circumstances(job, started, clock), "outputs": None}
    write_attempt(study, job.key, attempt_of(content, "failed", str(error)[:300] or type(error).__name__))
