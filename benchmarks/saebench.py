"""CPU seconds a score of TPP, SCR and sparse probing, by the real SAEBench and by our fast code, on the same activations.

    uv run python benchmarks/saebench.py STUDY SUBSTRATE SAE SEED [--write FILE] [--json]

reads what a run of the study left: the caches of saebench_tpp, saebench_scr and saebench_sparse_probing (those that it
has) and the SAE. Both sides score one SAE at every n or k_probe of the study, with the same rows, probes and draws; the
library's are noted in its process (envs/saebench/parity_probing.py). Both read the cached activations from disk. Not
counted is what SAEs share (text, the model's pass, probes on activations), imports, reading the SAE, and the library's
probe on all latents, which ours has not. Median of three runs a side, one thread, user and system time.

A score is one value of a metric: of a set (with sparse probing: of a class of a set) at one n or k_probe. The largest
difference is over all of them; where one side has no value and the other has, it is null. `--write` keeps the result for
the report of a study that names the file (`report: {seconds: FILE}`, docs/saebench.md).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import harness
import saebench_ours
import torch

from sae_assay.ledger.environment import cpu_model
from sae_assay.lms import model as models
from sae_assay.metrics import saebench
from sae_assay.plan import Plan
from sae_assay.saes import encoder
from sae_assay.steps.saebench_cache import library_job
from sae_assay.study import Study

RUNS, MODE = 3, "library"
PROBING = "saebench_sparse_probing"
Values = dict[tuple[str, int], float | None]
Answer = dict[str, Any]


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """The record that a report shows."""
    torch.set_num_threads(1)
    plan = Plan(Study.load(chosen.study))
    metrics = [metric for metric in saebench_ours.METRICS if metric in plan.library_metrics(chosen.substrate)]
    card = Path(plan.sae("cfg.json", chosen.sae, chosen.substrate))
    if not metrics:
        sys.exit(f"{chosen.study}: {chosen.substrate} is scored with none of {', '.join(saebench_ours.METRICS)}")
    environments = {plan.study.metrics.library[metric].environment for metric in metrics}
    if len(environments) > 1:
        sys.exit(f"{chosen.study}: its metrics run in {sorted(environments)}; compare one version at a time")
    with tempfile.TemporaryDirectory() as scratch:
        jobs = {metric: _job(plan, metric, chosen, card, Path(scratch, metric)) for metric in metrics}
        answers = _answers(environments.pop(), jobs, Path(scratch))
        sae = encoder.load(card.parent)
        found = {metric: _compared(metric, job, answers[metric], sae) for metric, job in jobs.items()}
    return {
        "study": plan.name,
        **{name: getattr(chosen, name) for name in ("substrate", "sae", "seed")},
        "command": f"uv run python benchmarks/saebench.py {chosen.study} {chosen.substrate} {chosen.sae} {chosen.seed}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": chosen.machine,
        "sae_bench": answers[metrics[0]][0]["versions"]["sae-bench"],
        "metrics": found,
    }


def _job(plan: Plan, metric: str, chosen: argparse.Namespace, card: Path, scratch: Path) -> dict[str, Any]:
    """The library's job, its cache unpacked; hyper-parameters that the SAE is too narrow for left out."""
    words = SimpleNamespace(substrate=chosen.substrate, sae=chosen.sae, metric=metric, seed=chosen.seed)
    params, model = plan.library_score_settings(words), plan.lm_model(chosen.substrate)
    saebench.unpack(plan.library_cache(metric, chosen.seed, chosen.substrate), scratch / "all")
    job = library_job(scratch / "all", params, MODE, model, models.open_file(model).d_model, "cpu")
    name, width = _hp_name(metric), encoder.load(card.parent).d_sae
    config = job["config"] | {name: [value for value in job["config"][name] if value <= width]}
    return {**job, "config": config, "sae": str(card.parent.absolute())}


def _hp_name(metric: str) -> str:
    return "k_values" if metric == PROBING else "n_values"


def _answers(environment: str, jobs: Mapping[str, dict[str, Any]], scratch: Path) -> dict[str, list[Answer]]:
    """The library's answers to each job, done several times by one process."""
    named = {metric: [scratch / f"{metric}_{i}.json" for i in range(RUNS)] for metric in jobs}
    files = [file for several in named.values() for file in several]
    for metric, several in named.items():
        for file in several:
            file.write_text(json.dumps({**jobs[metric], "out": f"{file}.out"}), encoding="utf-8")
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [str(saebench.Environment(Path(environment)).python.absolute()), f"{environment}/parity_probing.py"]
    done = subprocess.run([*command, *map(str, files)], env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    read = {file: json.loads(Path(f"{file}.out").read_text(encoding="utf-8")) for file in files}
    return {metric: [read[file] for file in several] for metric, several in named.items()}


def _compared(metric: str, job: dict[str, Any], answers: Sequence[Answer], sae: encoder.LightSAE) -> dict[str, Any]:
    """Seconds of both sides and how their scores differ."""
    probing = answers[0]["probing"]
    theirs = median(one["cpu_seconds"] - sum(part["seconds"] for part in one["probing"]) for one in answers)
    names = [row["task"] for row in answers[0]["rows"] if row["status"] != "too_few_rows"]
    wanted = [name for name in job["config"]["dataset_names"] if name in names]
    sets = saebench_ours.prepare(metric, Path(job["cache"]).parent, wanted, job["seed"])
    states, hps = [bytes.fromhex(one["state"]) for one in probing], job["config"][_hp_name(metric)]
    seconds = []
    for _ in range(RUNS):
        started = time.process_time()
        rows = saebench_ours.score(metric, sets, sae, hps, job["seed"], states)
        seconds.append(time.process_time() - started)
    values = _values(answers[0]["rows"]) if metric != PROBING else _of_cells(wanted, probing)
    return {"library": theirs, "ours": median(seconds), **_differences(values, _values(rows))}


def _values(rows: Sequence[Mapping[str, Any]]) -> Values:
    """The scores of a metric by task and hyper-parameter."""
    kept = [row for row in rows if row["component"] in ("score", "accuracy") and row["status"] != "too_few_rows"]
    return {(row["task"], row["hp_value"]): row["value"] for row in kept}


def _of_cells(names: Sequence[str], probing: Sequence[Mapping[str, Any]]) -> Values:
    """The library's accuracies by class, numbered as ours."""
    found: Values = {}
    for name, one in zip(names, probing, strict=True):
        classes = list(dict.fromkeys(cell["class"] for cell in one["cells"]))
        found |= {(f"{name}/{classes.index(c['class'])}", c["k_probe"]): c["accuracy"] for c in one["cells"]}
    return found


def _differences(theirs: Values, ours: Values) -> dict[str, Any]:
    """Numbers of scores and of unequal ones, and the largest difference: null where a side alone has a value."""
    if theirs.keys() != ours.keys():
        raise ValueError(f"other scores than the library's: {sorted(theirs.keys() ^ ours.keys())[:4]}")
    pairs = [(theirs[key], ours[key]) for key in theirs]
    gaps = [abs(a - b) for a, b in pairs if a is not None and b is not None]
    alone = any((a is None) != (b is None) for a, b in pairs)
    return {
        "scores": len(pairs),
        "unequal": sum(a != b for a, b in pairs),
        "largest_difference": None if alone else max(gaps, default=0.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("study", "substrate", "sae", "seed"):
        parser.add_argument(name)
    machine = f"{os.cpu_count()} cores of {cpu_model()}"
    parser.add_argument("--machine", default=machine, help=f"in words, for the record (default: {machine})")
    parser.add_argument("--write", metavar="FILE", help="keep the record here, for a report")

    def kept(chosen: argparse.Namespace) -> dict[str, Any]:
        found = measure(chosen)
        if chosen.write:
            Path(chosen.write).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return found

    harness.run(parser, "portable", kept)


if __name__ == "__main__":
    main()
