"""TPP and SCR by sae_bench.evals.scr_and_tpp: its sampling, probes, effects, ablations and scores."""

from __future__ import annotations

import random
from typing import Any

import local_sets
import sae_bench.evals.scr_and_tpp.main as library
import torch
from no_sae import without_an_sae
from run import row
from sae_bench.evals.scr_and_tpp.eval_config import ScrAndTppEvalConfig

MODEL_FREE = True  # with filled caches only the SAE runs
SMALLEST_DENOMINATOR = 0.001  # the library's own
TPP_PARTS = {"score": "total_metric", "intended": "intended_diff_only", "unintended": "unintended_diff_only"}
BIASED = "male_professor / female_nurse"  # the library's slot names, whatever the concepts are
DATA = {1: "professor / nurse", 2: "male / female"}  # a direction's evaluation data
ABLATED = {1: "male / female", 2: "professor / nurse"}


def fill(job: dict[str, Any], model: Any, tokenizer: Any) -> None:
    """Activations, probes and clean accuracies of every set that has the rows, each from the seed on."""
    config, _ = _configured(job)
    for name in config.dataset_names:
        for values in config.column1_vals_lookup[name] if config.perform_scr else [None]:
            random.seed(config.random_seed)
            torch.manual_seed(config.random_seed)
            with without_an_sae() as no_sae:
                library.run_eval_single_dataset(
                    name, config, no_sae, model, job["layer"], job["hook"], job["device"], job["cache"], True, values
                )


def run(job: dict[str, Any], model: Any, tokenizer: Any, sae: Any) -> list[dict[str, Any]]:
    """Every component at every n, a task a set."""
    config, rows = _configured(job)
    width = int(sae.W_dec.shape[0])
    wide = [n for n in config.n_values if n > width]
    config.n_values = [n for n in config.n_values if n <= width]
    reason = f"{{n}} latents are ablated, the SAE has {width}"
    rows += [
        row(part, None, task=name, hp=("n", n), status="not_applicable", reason=reason.format(n=n))
        for name in config.dataset_names
        for n in wide
        for part in _components(config)
    ]
    if not config.n_values or not config.dataset_names:
        return rows
    with _Recorder() as seen:
        results, _ = library.run_eval_single_sae(config, sae, model, job["device"], job["cache"], True)
    if config.perform_scr:
        return rows + [found for name, one in zip(_pairs(config), seen.calls, strict=True) for found in _scr(name, one)]
    return rows + [
        row(part, results[f"{name}_tpp_results"][f"tpp_threshold_{n}_{key}"], task=name, hp=("n", n))
        for name in config.dataset_names
        for n in config.n_values
        for part, key in TPP_PARTS.items()
    ]


def _configured(job: dict[str, Any]) -> tuple[ScrAndTppEvalConfig, list[dict[str, Any]]]:
    """The library's configuration with the sets that have the rows, and rows that say why the others have no score."""
    sets, scr = local_sets.use(job), job["metric"] == "saebench_scr"
    given = dict(job["config"])
    names = given.pop("dataset_names")
    config = ScrAndTppEvalConfig(
        random_seed=job["seed"], perform_scr=scr, model_name=job["model"]["name"], llm_dtype="float32", **given
    )
    why_not = local_sets.too_few_paired if scr else local_sets.too_few
    reasons = {n: why_not(sets[n], config.train_set_size, config.test_set_size) for n in names if n in sets}
    config.dataset_names = [name for name in names if reasons.get(name) is None]
    for name in config.dataset_names:
        library.COLUMN2_VALS_LOOKUP.setdefault(name, None)
        if scr and name in sets:
            target = sets[name]["classes"][0]
            config.column1_vals_lookup[name] = [(target[1], target[0])]
    rows = [
        row(part, None, task=name, hp=("n", n), status="too_few_rows", reason=reason)
        for name, reason in reasons.items()
        if reason
        for n in config.n_values
        for part in _components(config)
    ]
    return config, rows


def _pairs(config: ScrAndTppEvalConfig) -> list[str]:
    """Tasks in the library's order: a crossing's name, or a data set of the hub with the pair of values that it pairs."""
    lookup = config.column1_vals_lookup
    return [
        name if len(lookup[name]) == 1 else f"{name} {first} / {second}"
        for name in config.dataset_names
        for first, second in lookup[name]
    ]


def _components(config: ScrAndTppEvalConfig) -> tuple[str, ...]:
    return ("score", "compatible", "direction_1", "direction_2") if config.perform_scr else tuple(TPP_PARTS)


class _Recorder:
    """Keeps the accuracies that the library turns into SCR scores: its score alone does not say that one is undefined."""

    def __enter__(self) -> _Recorder:
        self.calls: list[tuple[dict[str, Any], dict[str, float], dict[str, float]]] = []
        self._own = library.get_scr_plotting_dict
        library.get_scr_plotting_dict = self._recorded
        return self

    def _recorded(self, changed: dict[str, Any], clean: dict[str, float]) -> dict[str, float]:
        scores = self._own(changed, clean)
        self.calls.append((changed, clean, scores))
        return scores

    def __exit__(self, *error: object) -> None:
        library.get_scr_plotting_dict = self._own


def _scr(name: str, seen: tuple[dict[str, Any], dict[str, float], dict[str, float]]) -> list[dict[str, Any]]:
    """Rows of a crossing. `compatible` is what the library reports, 0 where its denominator is too small."""
    accuracies, clean, scores = seen
    original = {d: clean[f"{BIASED} probe on {data} data"] for d, data in DATA.items()}
    gap = {d: clean[data] - original[d] for d, data in DATA.items()}
    tied = original[1] == original[2]
    chosen = None if tied else min(original, key=lambda d: original[d])
    rows = []
    for n in accuracies[ABLATED[1]]:
        rows += [_one(f"direction_{d}", d, gap[d], scores[f"scr_dir{d}_threshold_{n}"], name, n) for d in DATA]
        if chosen is None:
            why = f"the biased probe's accuracy is {original[1]:.4f} on both data sets, so SAEBench reports neither direction"
            rows += [
                row(part, None, task=name, hp=("n", n), status="tied_direction", reason=why)
                for part in ("score", "compatible")
            ]
            continue
        value = scores[f"scr_metric_threshold_{n}"]
        rows += [
            _one("score", chosen, gap[chosen], value, name, n),
            row("compatible", value, task=name, hp=("n", n), direction=chosen),
        ]
    return rows


def _one(part: str, direction: int, gap: float, value: float, name: str, n: int) -> dict[str, Any]:
    if gap < SMALLEST_DENOMINATOR:
        why = f"clean - original = {gap:.4f} is below {SMALLEST_DENOMINATOR}"
        return row(part, None, task=name, hp=("n", n), direction=direction, status="undefined_denominator", reason=why)
    return row(part, value, task=name, hp=("n", n), direction=direction)
