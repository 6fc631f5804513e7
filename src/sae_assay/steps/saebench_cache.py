"""What all SAEs share in the real SAEBench at one evaluation seed: text, activations, probes on them. No SAE takes part."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sae_assay import numerics
from sae_assay.lms import library_text, registry, texts
from sae_assay.lms import model as models
from sae_assay.lms.hub_model import HubModelFile
from sae_assay.metrics import saebench
from sae_assay.steps.lm_activations import draw_rows

REPLIES = ".sae-assay/judge"
"""Replies of a judge that were paid for, and what was spent, by study: no output, so that no failed job loses them."""
SETS = "sets.json"
"""Names of the substrate's sets by kind, in the cache."""


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write a tar file with a folder a mode: `sets/`, `text.json`, and `cache/`, which is the library's own.

    Args:
        inputs: registry (data/registry.yaml), model (GGUF), environment (its lock and code).
        outputs: cache; holds `unfit.json` alone where this machine has no Python for the environment.
        params: study, substrate, metric, `section` (of the metric), `evaluation_seed`, `lm` (of the substrate).
    """
    device, section = numerics.begin(params), params["section"]
    environment = saebench.Environment(Path(section["environment"]))
    with tempfile.TemporaryDirectory(dir=Path(outputs.cache).parent) as scratch:
        folder = Path(scratch, "all")
        folder.mkdir()
        if reason := environment.sync():
            (folder / saebench.UNFIT).write_text(json.dumps(reason), encoding="utf-8")
        else:
            jobs = _jobs(inputs, params, folder, device)
            if params["metric"] not in saebench.TEXT_ALONE:
                environment.answers(jobs, Path(scratch))
        saebench.pack(folder, outputs.cache)


def _jobs(inputs: Any, params: dict[str, Any], folder: Path, device: str) -> list[dict[str, Any]]:
    """A job a mode, whose text is written."""
    lm, modes = params["lm"], params["section"]["modes"]
    file = models.open_file(inputs.model)
    models.layer_of(lm["hook"], file)
    source = registry.installed_folder(lm["text_input"], inputs.registry)
    drawn = draw_rows(source, file.tokenizer(), lm, (params["study"], params["substrate"], "rows"))
    names = by_kind(lm, [one.source.name for one in drawn])
    (folder / SETS).write_text(json.dumps(names), encoding="utf-8")
    for mode in modes:
        write_text(drawn, names, folder / mode, params, mode)
        copy_ravel(list(inputs.get("ravel", [])), folder / mode)
    width = file.d_model
    return [{**library_job(folder, params, mode, inputs.model, width, device), "sae": None} for mode in modes]


def write_text(
    drawn: list[texts.Drawn], names: dict[str, list[str]], folder: Path, params: dict[str, Any], mode: str
) -> None:
    """The sets that the metric reads; `reseeded` splits and orders them by the evaluation seed."""
    wanted = saebench.config(params["metric"], params["section"], names, "").get("dataset_names", [])
    purpose = [params["study"], params["substrate"], "saebench_split"]
    reseeded = mode == "reseeded"
    (folder / "sets").mkdir(parents=True)
    (folder / "cache").mkdir()
    for one in drawn:
        if one.source.name in wanted:
            path = folder / "sets" / f"{one.source.name}.json"
            seed = [params["evaluation_seed"]] if reseeded else []
            library_text.write_set(one, path, [*purpose, *seed], shuffled=reseeded)
    if not wanted:  # text without labels, as core reads it
        library_text.write_text(drawn, folder / "text.json")


def copy_ravel(files: list[str], folder: Path) -> None:
    """RAVEL's own data, if the study names any."""
    if files:
        (folder / "ravel").mkdir()
    for file in files:
        shutil.copy(file, folder / "ravel" / Path(file).name)


def by_kind(lm: dict[str, Any], names: list[str]) -> dict[str, list[str]]:
    """Names of drawn sets: binary ones, crossings, and the set of several classes, in `draw_rows`'s order."""
    binary = len(lm["probe_datasets"])
    return {"binary": names[:binary], "crossed": names[binary:-1], "many": names[-1:]}


def library_job(folder: Path, params: dict[str, Any], mode: str, model: str, width: int, device: str) -> dict[str, Any]:
    """A job as run.py takes it, without its SAE and where its answer goes.

    Args:
        folder: of all modes.
        width: of the model's residual stream.
    """
    lm, files = params["lm"], sorted((folder / mode / "sets").glob("*.json"))
    listed = json.loads((folder / SETS).read_text(encoding="utf-8"))
    return {
        "metric": params["metric"],
        "model": {**_place(model), "name": lm["input"]},
        "hook": lm["hook"],
        "layer": models.layer_of(lm["hook"]),
        "d_model": width,
        "seed": params["evaluation_seed"],
        "mode": mode,
        "cache": str(folder / mode / "cache"),
        "config": saebench.config(params["metric"], params["section"], listed, lm["text_input"]),
        "data": {
            "sets": {file.stem: str(file) for file in files},
            "text": str(folder / mode / "text.json"),
            "ravel": str(folder / mode / "ravel") if (folder / mode / "ravel").exists() else None,
            "responses": str(Path(REPLIES, params["study"]).absolute()),
        },
        "device": device,
    }


def _place(model: str) -> dict[str, str]:
    """The model as the library's environment loads it: a GGUF file, or the folder behind a manifest, checked."""
    if model.endswith(".json"):
        return {"kind": "hf", "path": str(HubModelFile(model).folder.absolute())}
    return {"kind": "gguf", "path": str(Path(model).absolute())}
