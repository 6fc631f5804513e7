"""SAEBench's core metrics by sae_bench.evals.core: reconstruction, sparsity, and the model's loss with the SAE spliced in.

The library shuffles its text with the fixed seed 42, and nothing else is drawn: `reseeded` shuffles with the evaluation seed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sae_bench.evals.core.main as library
from run import BadInputError, row
from sae_bench.evals.core.eval_config import CoreEvalConfig

LIBRARY_SEED = 42
# Ours -> the library's group and name. Its explained variance divides by no variance (method.md), hence its own name.
PARTS = {
    "explained_variance_saebench": ("reconstruction_quality", "explained_variance"),
    "explained_variance_legacy": ("reconstruction_quality", "explained_variance_legacy"),
    "mse": ("reconstruction_quality", "mse"),
    "cossim": ("reconstruction_quality", "cossim"),
    "l0": ("sparsity", "l0"),
    "l1": ("sparsity", "l1"),
    "l2_ratio": ("shrinkage", "l2_ratio"),
    "relative_reconstruction_bias": ("shrinkage", "relative_reconstruction_bias"),
    "ce_loss_score": ("model_performance_preservation", "ce_loss_score"),
    "kl_div_score": ("model_behavior_preservation", "kl_div_score"),
}


def fill(job: dict[str, Any], model: Any, tokenizer: Any) -> None:
    """Nothing that SAEs share is computed: the text alone is theirs in common."""


def run(job: dict[str, Any], model: Any, tokenizer: Any, sae: Any) -> list[dict[str, Any]]:
    """One number a component, over all text."""
    given = dict(job["config"])
    dataset = given.pop("dataset")
    config = CoreEvalConfig(
        model_name=job["model"]["name"],
        dataset=dataset,
        compute_kl=True,
        compute_ce_loss=True,
        compute_l2_norms=True,
        compute_sparsity_metrics=True,
        compute_variance_metrics=True,
        compute_featurewise_density_statistics=True,
        **given,
    )
    store = library.ActivationsStore.from_sae(
        model,
        sae,
        context_size=config.context_size,
        dataset=_text(job, dataset, config, tokenizer),
        dataset_trust_remote_code=True,
    )
    store.shuffle_input_dataset(seed=LIBRARY_SEED if job["mode"] == "library" else job["seed"])
    special = {tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}
    scalars, features = library.run_evals(
        sae=sae, activation_store=store, model=model, eval_config=config, ignore_tokens=special
    )
    rows = [_row(part, scalars[group][name]) for part, (group, name) in PARTS.items()]
    alive = sum(density > 0 for density in features["feature_density"]) / len(features["feature_density"])
    return [*rows, row("frac_alive", alive)]


def _row(part: str, value: float) -> dict[str, Any]:
    if value == value and abs(value) != float("inf"):
        return row(part, value)
    return row(part, None, status="non_finite", reason=f"computed as {value}; SAEBench reports -1")


def _text(job: dict[str, Any], dataset: str, config: CoreEvalConfig, tokenizer: Any) -> Any:
    """The local text, or the library's own data set by its name.

    Raises:
        BadInputError: the local text is shorter than what is asked for; the library would begin anew in silence.
    """
    if not Path(job["data"].get("text", "")).is_file():
        return dataset
    from datasets import Dataset

    prompts = json.loads(Path(job["data"]["text"]).read_text(encoding="utf-8"))
    batches = max(config.n_eval_reconstruction_batches, config.n_eval_sparsity_variance_batches)
    wanted = batches * config.batch_size_prompts * config.context_size
    there = sum(len(ids) for ids in tokenizer(prompts)["input_ids"])
    if there < wanted:
        problem = f"{dataset} holds {there} tokens, {wanted} are to be read"
        raise BadInputError("core", problem, "lower batches or context, or raise rows_per_dataset")
    return Dataset.from_dict({"text": prompts})
