"""Feature absorption by sae_bench.evals.absorption, on the task of naming a word's first letter.

The library draws the split of the vocabulary and the examples of every prompt from Python's global generator and never
seeds it; torch's, which its probes use, starts from torch's own constant. So in mode `library` nothing is seeded here
either (`UNSEEDED`), and a score that is computed twice differs; `reseeded` seeds them all and puts the vocabulary, whose
order is that of a hash table, in order first.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import sae_bench.evals.absorption.common as common
import sae_bench.evals.absorption.feature_absorption as feature_absorption
from run import row
from sae_bench.evals.absorption.eval_config import AbsorptionEvalConfig
from sae_bench.evals.absorption.k_sparse_probing import run_k_sparse_probing_experiment
from sae_bench.evals.absorption.main import _aggregate_results_df
from sae_bench.evals.absorption.vocab import LETTERS, get_alpha_tokens

UNSEEDED = True
# Ours -> a column of the library's letters, and the key of its mean.
PARTS = {
    "mean_absorption_fraction": "mean_absorption_fraction",
    "full_absorption_rate": "full_absorption_rate",
    "num_split_features": "num_split_feats",
}


class _UnfitError(Exception):
    """The model or its vocabulary does not allow the task."""


def fill(job: dict[str, Any], model: Any, tokenizer: Any) -> None:
    """The split vocabulary, activations of its prompts, and the probe on them; nothing where `run` will say why not."""
    config, words = _configured(job)
    try:
        _use_vocabulary(job, words, tokenizer, config)
    except _UnfitError:
        return
    common.load_or_train_probe(
        model=model,
        base_template=config.prompt_template,
        pos_idx=config.prompt_token_pos,
        layer=job["layer"],
        probes_dir=job["cache"],
        device=job["device"],
    )


def run(job: dict[str, Any], model: Any, tokenizer: Any, sae: Any) -> list[dict[str, Any]]:
    """SAEBench's means over the letters whose probe is good enough."""
    config, words = _configured(job)
    try:
        _use_vocabulary(job, words, tokenizer, config)
        with tempfile.TemporaryDirectory() as folder:
            return _scored(job, config, model, sae, Path(folder))
    except _UnfitError as error:
        return [row(part, None, status="not_applicable", reason=str(error)) for part in PARTS]


def _configured(job: dict[str, Any]) -> tuple[AbsorptionEvalConfig, int | None]:
    given = dict(job["config"])
    words = given.pop("words", None)
    return AbsorptionEvalConfig(model_name=job["model"]["name"], random_seed=job["seed"], **given), words


def _use_vocabulary(job: dict[str, Any], words: int | None, tokenizer: Any, config: AbsorptionEvalConfig) -> None:
    """Give the library a vocabulary in order (`reseeded`), or some words of it, as many of each letter as there are.

    Raises:
        _UnfitError: a letter has no two words.
    """
    if words is None and job["mode"] == "library":
        return
    found = sorted(set(get_alpha_tokens(tokenizer)))
    if words is not None:
        found = _some(found, words, tokenizer, config.prompt_template, job)
    common.get_alpha_tokens = feature_absorption.get_alpha_tokens = lambda _tokenizer: list(found)


def _some(vocabulary: list[str], count: int, tokenizer: Any, template: str, job: dict[str, Any]) -> list[str]:
    """Words that stay one token in a prompt: the library needs prompts of one length, and finds out when it has them."""
    rng = random.Random(job["seed"] if job["mode"] == "reseeded" else 0)
    by_letter: dict[str, list[str]] = {letter: [] for letter in LETTERS}
    length = len(tokenizer("\n" + template.format(word=""), add_special_tokens=False)["input_ids"]) + 1
    for word in rng.sample(vocabulary, len(vocabulary)):
        kept = by_letter[word.strip()[0].lower()]
        prompt = "\n" + template.format(word=word)
        if (
            len(kept) < count // len(LETTERS)
            and len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) == length
        ):
            kept.append(word)
    if scarce := [letter for letter, kept in by_letter.items() if len(kept) < 2]:
        raise _UnfitError(f"the tokenizer has no two whole words that begin with {', '.join(scarce)}")
    return sorted(word for kept in by_letter.values() for word in kept)


def _scored(
    job: dict[str, Any], config: AbsorptionEvalConfig, model: Any, sae: Any, folder: Path
) -> list[dict[str, Any]]:
    shared = {
        "model": model,
        "sae": sae,
        "layer": job["layer"],
        "sae_name": "sae",
        "max_k_value": config.max_k_value,
        "prompt_template": config.prompt_template,
        "prompt_token_pos": config.prompt_token_pos,
        "device": job["device"],
        "probes_dir": job["cache"],
    }
    probing = run_k_sparse_probing_experiment(
        **shared,
        experiment_dir=folder / "k_sparse_probing",
        f1_jump_threshold=config.f1_jump_threshold,
        k_sparse_probe_l1_decay=config.k_sparse_probe_l1_decay,
        k_sparse_probe_batch_size=config.k_sparse_probe_batch_size,
        k_sparse_probe_num_epochs=config.k_sparse_probe_num_epochs,
        eval_batch_size=config.eval_k_sparse_probe_batch_size,
        precalc_k_sparse_probe_sae_acts=config.precalc_k_sparse_probe_sae_acts,
    )
    spelt = set(probing[probing["f1_probe"] > config.min_GT_probe_f1]["letter"])
    if len(spelt) < config.min_feats_for_eval:
        raise _UnfitError(
            f"the model's probes find {len(spelt)} first letters with F1 above {config.min_GT_probe_f1}, "
            f"{config.min_feats_for_eval} are needed: it does not spell well enough"
        )
    try:
        words = feature_absorption.run_feature_absortion_experiment(
            **shared,
            experiment_dir=folder / "feature_absorption",
            sparse_probing_experiment_dir=folder / "k_sparse_probing",
            feature_split_f1_jump_threshold=config.f1_jump_threshold,
            batch_size=config.llm_batch_size,
        )
    except ValueError as error:
        if "same token length" not in str(error):
            raise
        raise _UnfitError(f"SAEBench: {error}") from error
    return _rows(_aggregate_results_df(words), spelt)


def _rows(letters: Any, spelt: set[str]) -> list[dict[str, Any]]:
    kept = [one for _, one in letters.iterrows() if one["letter"] in spelt]
    return [row(part, statistics.mean(float(one[column]) for one in kept)) for part, column in PARTS.items()]
