"""Caches a language model's activations of the training text in shards; a killed job goes on behind its last shard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_assay import numerics, scratch
from sae_assay.errors import AssayError
from sae_assay.lms import model as models
from sae_assay.lms import shards, stream
from sae_assay.lms.corpus import Corpus, context_of
from sae_assay.lms.layout import BYTES, block_rows
from sae_assay.lms.texts import Texts
from sae_assay.worlds import sample

if TYPE_CHECKING:
    from sae_assay.lms.tokens import Windows


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write the shards and their manifest.

    Args:
        inputs: training (the text, see lms/stream.py), corpus (the text, where it has a source of its own: lms/corpus.py),
            text (its norm limit), model (GGUF).
        outputs: shards: the manifest, then every shard.
        params: study, substrate, `lm` (hook, d_model, context, training_tokens, cache).
    """
    device, lm = numerics.begin(params), params["lm"]
    cache, (manifest, *files) = lm["cache"], list(outputs.shards)
    sizes = block_rows(lm["training_tokens"], cache["shard_tokens"])
    windows, _ = training_text(inputs, params)
    limit = Texts.load(inputs.text).about["norm_limit"]
    job = (params["study"], params["substrate"], "shards")
    folder = scratch.folder(job, params, [inputs.training, *inputs.corpus, inputs.text, inputs.model], device)
    there = shards.finished(folder, sizes)
    missing = sum(sizes[len(there) :]) * lm["d_model"] * BYTES[cache["dtype"]]
    scratch.check_space(folder, missing, "lm.cache", "lower lm.training_tokens, or set lm.cache to none")
    rows = open_text(inputs.model, windows, lm, limit, device)
    entries = shards.build(rows, sizes, cache["dtype"], folder, there)
    about = {name: lm[name] for name in ("hook", "d_model")} | {"context": context_of(lm)}
    about |= {"dtype": cache["dtype"], "norm_limit": limit}
    for entry, file in zip(entries, files, strict=True):
        scratch.hand_over(folder / entry["file"], file)
    content = {**about, "rows": sum(sizes), "shards": entries}
    Path(manifest).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder)


def training_text(inputs: Any, params: dict[str, Any]) -> tuple[Windows | Corpus, torch.Tensor]:
    """The text that the model reads, and calibration rows [m, d_model]."""
    if not inputs.corpus:
        return stream.load_text(inputs.training)
    tokens, lengths, _ = inputs.corpus
    corpus = Corpus(tokens, lengths, context_of(params["lm"]), (params["study"], params["substrate"], "corpus"))
    return corpus, torch.from_numpy(sample.load_rows(inputs.training)["calibration"])


def open_text(path: str, windows: Any, lm: dict[str, Any], limit: float, device: str) -> stream.TokenRows:
    """The training text's rows at the section's hook.

    Raises:
        AssayError: the model has no such hook, another width than the study says, or a smaller vocabulary than the text.
    """
    file = models.open_file(path)
    layer = models.layer_of(lm["hook"], file)
    width, wanted = file.d_model, lm.get("d_model")
    if wanted is not None and width != wanted:
        raise AssayError("lm.d_model", f"is {wanted}, the model's residual stream has {width}", "correct it")
    model = models.load(file, layers=layer + 1, device=device)
    return stream.TokenRows(model, windows, layer, limit, bool(lm.get("tf32")))
