"""`sae-assay record`: folds the overlay into git's ledger and tells DVC what is current; refuses while work is planned."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import digest
from sae_assay.ledger.declared import plan_record
from sae_assay.ledger.records import Ledger, Run, attempt_of, write_ledger
from sae_assay.ledger.restore import read_current
from sae_assay.ledger.stages import STAGES
from sae_assay.ledger.survey import unknown_files
from sae_assay.plan import Plan

ACTIVATIONS = Path("data/activations")
CONFIG = "config.yaml"  # the default study
READS: dict[str, tuple[str, ...]] = {
    "worlds": (),
    "saes": (),
    "trajectories": (),
    "scores": ("saes", "trajectories"),
    "anatomy": ("saes",),
    "table": ("scores", "anatomy"),
    "statistics": ("table",),
    "charts": ("statistics",),
    "report": ("statistics", "charts"),
}


def planned_jobs(study: str, config: str) -> list[str]:
    """Ask Snakemake what is left to do, which also leaves the ledger's findings for `why` and `record`.

    Returns:
        The planned rules, one a job; empty where there is nothing to be done.

    Raises:
        AssayError: Snakemake could not plan.
    """
    command = [sys.executable, "-m", "snakemake", "-n", "--nocolor", "--config", f"study={config}", "--"]
    run = subprocess.run([*command, "all"], capture_output=True, text=True, check=False)
    text = run.stdout + run.stderr
    if run.returncode != 0:
        tail = " ".join(text.strip().splitlines()[-3:])
        raise AssayError(
            f"snakemake -n ({study})", tail, "correct what it names; after a killed run: `snakemake --unlock`"
        )
    if "Nothing to be done" in text:
        return []
    words = [line.split() for line in text.splitlines()]
    return [w[1].rstrip(":") for w in words if len(w) == 2 and w[0] in ("rule", "localrule") and w[1] != "all:"]


def record(plan: Plan, config: str, prune: bool = False, push: bool = False) -> dict[str, Any]:
    """Record a study whose workflow is up to date.

    Args:
        plan: the study's plan.
        config: the study's file or name, as for `snakemake --config study=`.
        prune: delete files of the study's folders that no record names.
        push: `dvc push` at the end.

    Returns:
        What was done, for --json.

    Raises:
        AssayError: work is planned, a file has no record, or DVC failed.
    """
    study = plan.name
    jobs = planned_jobs(study, config)
    if jobs:
        shown = ", ".join(sorted(set(jobs)))
        raise AssayError(
            f"study {study}",
            f"{len(jobs)} jobs are planned ({shown})",
            "run `snakemake` first; `sae-assay why PATH` tells why",
        )
    ledger = Ledger(study)
    runs = _runs_to_keep(ledger)
    removed = _unrecorded(plan, runs, prune)
    attempts = [record for record in ledger.records.values() if record["type"] == "attempt"] + _replaced(ledger, runs)
    write_ledger(study, [*ledger.referenced(runs), *attempts, plan_record(plan)])
    for file in ledger.overlay_files:
        file.unlink(missing_ok=True)
    done: dict[str, Any] = {"study": study, "runs": len(runs), "removed": removed, "dvc": []}
    if is_default(plan):
        done["dvc"] = commit(plan, runs, config)
    if push:
        dvc("push")
    return done | {"pushed": push}


def is_default(plan: Plan) -> bool:
    """Whether the plan is that of config.yaml, whose results the bundled remote holds."""
    config = Path(CONFIG)
    return config.exists() and yaml.safe_load(config.read_text(encoding="utf-8")).get("study") == plan.name


def _runs_to_keep(ledger: Ledger) -> list[Run]:
    """The runs that the last sync found current; a job that the study no longer asks for is dropped."""
    current = read_current(ledger.study)
    return [run for runs in ledger.runs.values() for run in runs if run.id in current]


def _replaced(ledger: Ledger, kept: list[Run]) -> list[dict[str, Any]]:
    """Recorded runs of the very same jobs that gave other outputs: they stay known, as superseded attempts."""
    outputs = {run.raw["run_id"]: digest(run.raw["outputs"]) for run in kept}
    every = [run.raw for runs in ledger.runs.values() for run in runs]
    other = [raw for raw in every if outputs.get(raw["run_id"], digest(raw["outputs"])) != digest(raw["outputs"])]
    return [attempt_of(raw, "superseded") for raw in other]


def _unrecorded(plan: Plan, runs: Iterable[Run], prune: bool) -> list[str]:
    left = unknown_files(plan.folders, {path for run in runs for path in run.outputs})
    if left and not prune:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise AssayError(
            left[0], f"has no current record{more}", "delete what is left over, or `sae-assay record --prune`"
        )
    for path in left:
        Path(path).unlink()
    return left


# DVC -------------------------------------------------------------------------------------------------------------------
def commit(plan: Plan, runs: list[Run], config: str) -> list[str]:
    """Write dvc.yaml for what is recorded, and commit it to the DVC cache (root, and the activations' subrepo)."""
    Path("dvc.yaml").write_text(stages_text(plan, runs), encoding="utf-8")
    dvc("commit", "-f")
    done = ["dvc.yaml"]
    if (ACTIVATIONS / ".dvc").is_dir() and (ACTIVATIONS / plan.name).is_dir():
        text = _header() + yaml.safe_dump({"stages": {"activations": _activations_stage(plan)}}, sort_keys=False)
        (ACTIVATIONS / "dvc.yaml").write_text(text, encoding="utf-8")
        dvc("commit", "-f", cwd=ACTIVATIONS)
        done.append("data/activations/dvc.yaml")
    return done


def stages_text(plan: Plan, runs: list[Run]) -> str:
    """dvc.yaml: a stage per recorded family, whose dependencies are the very modules that its jobs ran."""
    stages: dict[str, Any] = {}
    before: dict[str, str] = {}
    for family, (folder, keys) in STAGES.items():
        out = f"{folder}/{plan.name}"
        members = [run for run in runs if any(path.startswith(out + "/") for path in run.outputs)]
        if not members:
            continue
        code = sorted({path for run in members for path in run.code})
        stages[family] = {
            "cmd": f"uv run snakemake {family}_all",
            "deps": [*code, *(before[name] for name in READS[family] if name in before)],
            "params": [{CONFIG: [key for key in keys if key in plan.study.model_fields_set]}],
            "outs": [{out: {"persist": True}}],
        }
        before[family] = out
    return _header() + yaml.safe_dump({"stages": stages}, sort_keys=False, width=120)


def _activations_stage(plan: Plan) -> dict[str, Any]:
    command = "cd ../.. && uv run snakemake activations_all"
    return {"cmd": command, "outs": [{plan.name: {"persist": True}}]}


def _header() -> str:
    return "# Written by `sae-assay record`, which alone knows what has been recorded and from what. Do not edit.\n"


def dvc(*arguments: str, cwd: Path | None = None) -> str:
    """Run a DVC command.

    Raises:
        AssayError: it failed.
    """
    variables = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    run = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise AssayError(
            f"dvc {' '.join(arguments)}", (run.stderr or run.stdout).strip()[-400:], "see `dvc doctor` and .dvc/config"
        )
    return run.stdout
