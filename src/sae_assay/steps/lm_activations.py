"""Runs a language model once over all text that a substrate needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from sae_assay.errors import AssayError
from sae_assay.lms import activations, registry, stream, text, texts
from sae_assay.lms.layout import SPARE
from sae_assay.lms.tokens import windows
from sae_assay.worlds import sample

_PROMPT_CHARACTERS = 2_000


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Write the rows that SAEs are trained on and the token activations of the evaluation text.

    Args:
        inputs: model (GGUF, or the manifest of a model of the hub), registry (data/registry.yaml).
        outputs: training (safetensors: `rows`, `calibration`, float32; where the study streams activations, the training
            text's tokens in place of `rows`), text (safetensors, see lms/texts.py).
        params: study, substrate, `lm` (the substrate's section: layer, hook, context, training_tokens, max_norm_ratio,
            text_input, probe_datasets, scr_crossings, class_dataset, rows_per_dataset, reconstruction_rows; `cache` and
            `calibration_tokens` where activations are streamed).
    """
    from sae_assay import numerics
    from sae_assay.lms import model as models

    device = numerics.begin(params)
    lm, purpose = params["lm"], (params["study"], params["substrate"])
    folder = registry.installed_folder(lm["text_input"], inputs.registry)
    file = models.open_file(inputs.model)
    layer, tokenizer = models.layer_of(lm["hook"], file), file.tokenizer()
    model = models.load(file, layers=layer + 1, device=device)

    drawn = draw_rows(folder, tokenizer, lm, (*purpose, "rows"))
    excluded = {prompt for d in drawn for prompt in d.prompts}
    wanted = lm["training_tokens"] + lm.get("calibration_tokens", 0)
    count = 4 * wanted // lm["context"] + 10 * lm["reconstruction_rows"]
    prompts = text.pool(folder, count, excluded, (*purpose, "pool"), _PROMPT_CHARACTERS)
    found = windows(tokenizer, prompts, lm["context"], "beginning")
    found.check(len(model.embedding))
    passages, rest = _divide(found, lm)
    training, later = _hold_out(rest, lm) if "cache" in lm else (rest.take(range(_enough(rest, wanted))), None)
    hidden, _, _ = activations.residuals(model, training, layer, "training text")
    limit = activations.norm_limit(hidden, lm["max_norm_ratio"])
    rows = hidden[hidden.norm(dim=1) <= limit]
    # Rows that no SAE is trained on stand in the same file, as for a world.
    if later is not None:
        stream.save_text(outputs.training, later, rows[: lm["calibration_tokens"]])
    else:
        held = rows[lm["training_tokens"] :][: lm.get("calibration_tokens")]
        if len(held) < lm.get("calibration_tokens", 0):
            problem = f"is {lm['calibration_tokens']}, {lm['text_input']} has {len(held)} tokens for it"
            raise AssayError("lm.calibration_tokens", problem, "lower it, or name a larger text_input")
        sample.save_rows(outputs.training, rows[: lm["training_tokens"]].numpy(), held.numpy())

    sets = [texts.read_set(model, d, layer, limit) for d in drawn]
    about = {
        "hook": lm["hook"],
        "context": lm["context"],
        "norm_limit": limit,
        "training_tokens_read": len(hidden),
        "training_tokens_beyond_limit": int((hidden.norm(dim=1) > limit).sum()),
    }
    binary, kept = len(lm["probe_datasets"]), texts.read_passages(model, passages, layer, limit)
    texts.Texts(sets[:binary], sets[binary:-1], sets[-1], kept, about).save(outputs.text)


def draw_rows(folder: Any, tokenizer: Any, lm: dict[str, Any], purpose: tuple[Any, ...]) -> list[texts.Drawn]:
    """The evaluation text of a study: binary sets, crossed ones, and the set of several classes."""
    known, per_class = text.names(folder), lm["rows_per_dataset"] // 2
    binary = [text.read(folder, text.resolve(name, known)) for name in lm["probe_datasets"]]
    crossed = [text.crossed(folder, *(text.resolve(name, known) for name in pair)) for pair in lm["scr_crossings"]]
    many = text.read(folder, text.resolve(lm["class_dataset"], known))

    def draw(source: text.LabelledText, rows: int, keep: Any) -> texts.Drawn:
        return texts.draw(source, tokenizer, lm["context"], rows, keep, purpose)

    # A cell of a crossing is half a class.
    return [
        *(draw(source, per_class, "end") for source in binary),
        *(draw(source, per_class // 2 + 25, "beginning") for source in crossed),
        draw(many, per_class, "beginning"),
    ]


def _divide(found: Any, lm: dict[str, Any]) -> tuple[Any, Any]:
    """Full windows for cross-entropy, and the other prompts."""
    full = np.flatnonzero(found.lengths == lm["context"])[: lm["reconstruction_rows"]]
    rest = np.setdiff1d(np.flatnonzero(found.lengths >= texts.FEWEST_TOKENS), full)
    return found.take(full), found.take(rest)


def _enough(found: Any, tokens: int) -> int:
    """How many of these prompts hold so many tokens and some spare ones; all, where they do not."""
    return min(len(found), int(np.searchsorted(np.cumsum(found.lengths - 1), tokens * SPARE)) + 1)


def _hold_out(found: Any, lm: dict[str, Any]) -> tuple[Any, Any]:
    """The first prompts, whose rows no SAE is trained on, and a stream's training text behind them.

    Raises:
        AssayError: the text holds fewer tokens than are asked for.
    """
    first = _enough(found, lm["calibration_tokens"])
    later = found.take(range(first, len(found)))
    there = int((later.lengths - 1).sum())
    if there < lm["training_tokens"] * SPARE:
        problem = f"is {lm['training_tokens']}, of which 8 % more are read; {lm['text_input']} has {there} tokens left"
        raise AssayError("lm.training_tokens", problem, "lower it and training.samples, or name a larger text_input")
    return found.take(range(first)), later.take(range(_enough(later, lm["training_tokens"])))
