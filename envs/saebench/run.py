"""Runs one SAEBench metric on one SAE at one evaluation seed, or fills that seed's caches. `python run.py JOB.json ...`.

Several jobs (the modes of one score, say) share a process: importing the libraries costs 20 seconds of CPU.

The job, a JSON object:
    metric   "saebench_sparse_probing", "saebench_tpp", "saebench_scr", "core", "absorption", "ravel" or "autointerp"
    model    {"kind": "gguf" (path: the file) or "hf" (path: a folder), "path": ..., "name": the model's name}
    hook     "blocks.L.hook_resid_post"
    layer    L
    sae      a folder in SAELens's format (cfg.json, sae_weights.safetensors); null to fill the caches alone
    seed     the evaluation seed
    repeat   0, or 1 for a second scoring at one seed (0 where it is left out)
    mode     "library": SAEBench as it is; "reseeded": the seed also moves what the library leaves fixed
    cache    a folder for what this seed's SAEs share: activations, probes on them
    config   the metric's own settings, by SAEBench's names
    data     what it reads: {"sets": {NAME: file}, "text": file} (local_sets.py, metrics_core.py)
    d_model  the model's width; known without loading it
    device   "cpu" or "cuda"
    out      where the answer goes

`metrics_METRIC.py` has `run(job, model, tokenizer, sae) -> rows`, and `fill(job, model, tokenizer)`,
which builds the caches in a pass that no SAE is part of. Python's, numpy's and torch's global generators are seeded with
`seed` right before either, but for a module with `UNSEEDED = True` in mode `library`: there the library itself seeds
nothing. A module with `MODEL_FREE = True` scores from its caches: `run` gets no model. A row is what `row` returns.

The answer, written whole or not at all: {"rows": [...], "versions": {...}, "cpu_seconds": of the metric alone}, or {"error": {where, problem, remedy}} where
the input does not fit. An unforeseen error leaves no answer, a traceback and a return code that is not 0.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("JAXTYPING_DISABLE", "1")  # sparse probing trips over it where train and test sizes differ

PACKAGES = ("sae-bench", "sae-lens", "transformer-lens", "transformers", "torch", "numpy", "scikit-learn")


class BadInputError(Exception):
    """What was given does not fit: the sentence says what, where, and what to do."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}; {remedy}")
        self.answer = {"where": where, "problem": problem, "remedy": remedy}


def row(
    component: str,
    value: float | None,
    *,
    task: str = "__all__",
    hp: tuple[str, int] | None = None,
    status: str = "ok",
    reason: str | None = None,
    direction: int | None = None,
) -> dict[str, Any]:
    """One score; `value` is None exactly where `status` is not `ok`."""
    if (value is None) == (status == "ok"):
        raise ValueError(f"{component} of {task}: value {value} with status {status}")
    name, number = hp or (None, None)
    found = None if value is None else float(value)
    return {
        "component": component,
        "hp_name": name,
        "hp_value": number,
        "task": task,
        "direction": direction,
        "value": found,
        "status": status,
        "reason": reason,
    }


def seed_everything(seed: int) -> None:
    """Seed every global generator that a library may draw from."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the library draws from this generator
    torch.manual_seed(seed)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """The rows of one job; none where it fills the caches."""
    import loading

    metric = importlib.import_module(f"metrics_{job['metric']}")
    free = getattr(metric, "MODEL_FREE", False) and job["sae"] is not None
    model, tokenizer, sae = loading.load(job, with_model=not free)
    if job["mode"] != "library" or not getattr(metric, "UNSEEDED", False):
        seed_everything(job["seed"])
    started, rows = time.process_time(), []
    if sae is None:
        metric.fill(job, model, tokenizer)
    else:
        rows = metric.run(job, model, tokenizer, sae)
    spent = {"cpu_seconds": round(time.process_time() - started, 3)}
    return {"rows": rows, "versions": {name: version(name) for name in PACKAGES}, **spent}


def main(path: str) -> None:
    """Read the job, do it, write the answer."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = answer(job)
    except BadInputError as error:
        found = {"error": error.answer}
    part = Path(job["out"] + ".part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.replace(job["out"])


if __name__ == "__main__":
    sys.modules["run"] = sys.modules[__name__]  # metrics import `row` and `BadInputError` from here, once
    for argument in sys.argv[1:]:
        main(argument)
