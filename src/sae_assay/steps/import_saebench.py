"""Turns SAEBench's result files into score rows; light."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sae_assay.errors import AssayError
from sae_assay.tables import imports, saebench, scores


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write the scores of all files that are whole, and an account of every file.

    Args:
        inputs: files (JSON).
        outputs: scores (parquet, of many SAEs), account (JSON: file, digest, SAE, seed, versions, rows, or the problem).
        params: study, substrate, `imported` (paths, training_tokens, seeds_from_folders).
    """
    section = params["imported"]
    if not len(inputs):
        remedy = "fetch the result files first (docs/paper-study.md shows how), or leave the section `imported` out"
        raise AssayError(", ".join(section["paths"]), "hold no JSON file", remedy)
    options = saebench.Options(section["training_tokens"], section["seeds_from_folders"])
    found = imports.read(section["paths"], (params["study"], params["substrate"]), options)
    scores.write_pinned(imports.table(found), outputs.scores)
    account = [source.entry() for source in found]
    Path(outputs.account).write_text(json.dumps(account, indent=1, sort_keys=True) + "\n", encoding="utf-8")
