"""Tokenises a language model's training text where it comes from a source of its own; a killed job goes on where it was."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from sae_assay import scratch
from sae_assay.errors import AssayError
from sae_assay.lms import corpus, hub, registry
from sae_assay.lms import model as models
from sae_assay.lms.layout import SPARE, TOKEN_BYTES


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write the token windows of the first documents of a registered text that hold enough tokens.

    Args:
        inputs: registry (data/registry.yaml), model (whose tokenizer it is).
        outputs: corpus: tokens and lengths (lms/corpus.py), and which documents of which files they are (JSON).
        params: study, substrate, `lm` (training_text, context or training_context, training_tokens).
    """
    lm, wanted = params["lm"], int(params["lm"]["training_tokens"] * SPARE)
    source = _source(lm["training_text"], inputs.registry)
    job, settings = (
        (params["study"], params["substrate"], "corpus"),
        params | {"source": source.model_dump(mode="json")},
    )
    folder = scratch.folder(job, settings, [inputs.model], "cpu")
    there = sum(file.stat().st_size for file in folder.iterdir())
    scratch.check_space(folder, wanted * TOKEN_BYTES - there, "lm.training_text", "or lower lm.training_tokens")
    tokenizer = models.open_file(inputs.model).tokenizer()
    files = [partial(hub.download, source, path) for path in source.paths]
    found = corpus.build(files, tokenizer, corpus.context_of(lm), wanted, folder)
    if found.counted < wanted:
        problem = (
            f"is {lm['training_tokens']}, of which 8 % more are read; {lm['training_text']} has {found.counted} tokens in "
            f"{len(files)} files, the last of them {source.paths[-1]}"
        )
        remedy = f"lower it and training.samples, or add files to {lm['training_text']} in data/registry.yaml"
        raise AssayError("lm.training_tokens", problem, remedy)
    tokens, lengths, about = outputs.corpus
    for name, target in ((corpus.TOKENS, tokens), (corpus.LENGTHS, lengths)):
        scratch.hand_over(folder / name, target)
    account = _account(lm, source, found)
    Path(about).write_text(json.dumps(account, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder)


def _source(name: str, path: str) -> registry.HubSource:
    """The text's files; AssayError where it is not pinned, or not of documents."""
    source = hub.pinned(name, path)
    if foreign := [file for file in source.paths if not file.endswith(corpus.SUFFIX)]:
        problem = f"{name} has {foreign[0]}, no {corpus.SUFFIX} file"
        raise AssayError(str(path), problem, "name a text of such files as lm.training_text")
    return source


def _account(lm: dict[str, Any], source: registry.HubSource, found: corpus.Place) -> dict[str, Any]:
    """The documents: the first so many of each file, and the file's SHA-256."""
    files = [
        {"file": path, "sha256": registry.file_digest(hub.download(source, path)), "documents": count}
        for path, count in zip(source.paths, found.documents, strict=False)
    ]
    about = {"input": lm["training_text"], "repository": source.repository, "revision": source.revision}
    return {**about, "context": corpus.context_of(lm), "windows": found.windows, "tokens": found.tokens, "files": files}
