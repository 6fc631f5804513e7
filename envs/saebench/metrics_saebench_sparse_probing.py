"""k-sparse probing by sae_bench.evals.sparse_probing: its sampling, selection of latents and probes."""

from __future__ import annotations

import random
from typing import Any

import local_sets
import sae_bench.evals.sparse_probing.main as library
import torch
from no_sae import without_an_sae
from run import row
from sae_bench.evals.sparse_probing.eval_config import SparseProbingEvalConfig

MODEL_FREE = True  # with filled caches only the SAE runs


def fill(job: dict[str, Any], model: Any, tokenizer: Any) -> None:
    """Activations and the accuracies of probes on them, a set at a time, each from the seed on."""
    config, _ = _configured(job)
    for name in config.dataset_names:
        random.seed(config.random_seed)
        torch.manual_seed(config.random_seed)
        with without_an_sae() as no_sae:
            library.run_eval_single_dataset(
                name, config, no_sae, model, job["layer"], job["hook"], job["device"], job["cache"], True
            )


def run(job: dict[str, Any], model: Any, tokenizer: Any, sae: Any) -> list[dict[str, Any]]:
    """Mean accuracy over a set's classes: `accuracy` at every k_probe, `accuracy_of_all` with every latent."""
    config, rows = _configured(job)
    width = int(sae.W_dec.shape[0])
    wide = [k for k in config.k_values if k > width]
    config.k_values = [k for k in config.k_values if k <= width]
    rows += [
        row("accuracy", None, task=name, hp=("k_probe", k), status="not_applicable", reason=reason)
        for name in config.dataset_names
        for k in wide
        for reason in [f"a probe reads {k} latents, the SAE has {width}"]
    ]
    if not config.dataset_names:
        return rows
    results, _ = library.run_eval_single_sae(config, sae, model, job["device"], job["cache"], True)
    for name in config.dataset_names:
        rows += [
            row("accuracy", results[name + "_results"][f"sae_top_{k}_test_accuracy"], task=name, hp=("k_probe", k))
            for k in config.k_values
        ]
        rows.append(row("accuracy_of_all", results[name + "_results"]["sae_test_accuracy"], task=name))
    return rows


def _configured(job: dict[str, Any]) -> tuple[SparseProbingEvalConfig, list[dict[str, Any]]]:
    """The library's configuration with the sets that have the rows, and rows that say why the others have no score."""
    sets, given = local_sets.use(job), dict(job["config"])
    names = given.pop("dataset_names")
    config = SparseProbingEvalConfig(
        random_seed=job["seed"], model_name=job["model"]["name"], llm_dtype="float32", **given
    )
    sizes = config.probe_train_set_size, config.probe_test_set_size
    reasons = {name: local_sets.too_few(sets[name], *sizes) for name in names if name in sets}
    config.dataset_names = [name for name in names if reasons.get(name) is None]
    rows = [
        row(part, None, task=name, hp=hp, status="too_few_rows", reason=reason)
        for name, reason in reasons.items()
        if reason
        for part, hp in [*(("accuracy", ("k_probe", k)) for k in config.k_values), ("accuracy_of_all", None)]
    ]
    return config, rows
