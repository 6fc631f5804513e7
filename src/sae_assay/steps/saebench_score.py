"""Scores one SAE by one metric of the real SAEBench at one evaluation seed, in every mode that the study asks for."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from sae_assay import numerics
from sae_assay.errors import AssayError
from sae_assay.lms import model as models
from sae_assay.metrics import saebench
from sae_assay.saes import encoder, formats
from sae_assay.steps.lm_score import check, columns
from sae_assay.steps.saebench_cache import library_job
from sae_assay.steps.score import table
from sae_assay.tables import scores
from sae_assay.tables.collect import REPEAT_PREFIX


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write one score file.

    Args:
        inputs: card and weights (of the SAE), model (GGUF), cache (of saebench_cache), environment (its lock and code).
        outputs: scores.
        params: those of saebench_cache, `sae`, `panel`, and `components` of the metric.
    """
    device, section, metric = numerics.begin(params), params["section"], params["metric"]
    width = models.open_file(inputs.model).d_model
    sae = encoder.load(Path(inputs.card).parent)
    check(sae, params["sae"], width)
    _check_hook(inputs, params["sae"], params["lm"]["hook"])
    environment = saebench.Environment(Path(section["environment"]))
    with tempfile.TemporaryDirectory(dir=Path(outputs.scores).parent) as scratch:
        folder = Path(scratch, "all")
        saebench.unpack(inputs.cache, folder)
        if reason := _unfit(folder) or environment.sync():
            parts = params["components"]
            found = [r for mode in section["modes"] for r in saebench.unfit(metric, parts, section, reason, mode)]
        else:
            repeat = int(Path(outputs.scores).name.startswith(REPEAT_PREFIX))
            place = str(Path(inputs.card).parent.absolute())
            jobs = [
                {**library_job(folder, params, mode, inputs.model, width, device), "sae": place, "repeat": repeat}
                for mode in section["modes"]
            ]
            answers = environment.answers(jobs, Path(scratch))
            pairs = zip(section["modes"], answers, strict=True)
            found = [r for mode, rows in pairs for r in saebench.records(metric, rows, mode, section)]
    one = {"id": params["sae"], "panel": params["panel"]}
    scores.write(table(found, columns(sae, one, params), params["evaluation_seed"], outputs.scores), outputs.scores)


def _unfit(folder: Path) -> str | None:
    file = folder / saebench.UNFIT
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _check_hook(inputs: Any, sae_id: str, hook: str) -> None:
    own = formats.read_files(inputs.card, inputs.weights).config.get("metadata", {}).get("hook_name")
    if own not in (None, hook):
        raise AssayError(sae_id, f"was trained at {own}, the substrate is {hook}", "score it where it belongs")
