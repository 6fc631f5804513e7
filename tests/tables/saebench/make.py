"""Writes one result file of each evaluation with the real output classes of sae_bench; the numbers are drawn, no results.

uv run --project envs/saebench python tests/tables/saebench/make.py tests/tables/saebench
"""

from __future__ import annotations

import random
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from sae_bench.evals.absorption import eval_config as absorption_config
from sae_bench.evals.absorption import eval_output as absorption
from sae_bench.evals.autointerp import eval_config as autointerp_config
from sae_bench.evals.autointerp import eval_output as autointerp
from sae_bench.evals.core import eval_config as core_config
from sae_bench.evals.core import eval_output as core
from sae_bench.evals.ravel import eval_config as ravel_config
from sae_bench.evals.ravel import eval_output as ravel
from sae_bench.evals.scr_and_tpp import eval_config as scr_and_tpp_config
from sae_bench.evals.scr_and_tpp import eval_output as scr_and_tpp
from sae_bench.evals.sparse_probing import eval_config as probing_config
from sae_bench.evals.sparse_probing import eval_output as probing
from sae_bench.evals.sparse_probing_sae_probes import eval_config as sae_probes_config
from sae_bench.evals.sparse_probing_sae_probes import eval_output as sae_probes
from sae_bench.sae_bench_utils import general_utils

DRAWN = random.Random(0)
SAE = {"architecture": "jumprelu", "d_in": 2304, "d_sae": 16384, "hook_name": "blocks.12.hook_resid_post"}
RELEASE, SAE_ID = "gemma-scope-2b-pt-res-canonical", "layer_12/width_16k/canonical"
SETS, KS, NS = ["fancyzhx/ag_news", "codeparrot/github-code"], [1, 5], [2, 20]


def number() -> float:
    return round(DRAWN.uniform(0.1, 0.9), 6)


def drawn(cls: Any) -> Any:
    return cls(**{f.name: number() for f in fields(cls)})


def write(folder: Path, output: Any, config: Any, metrics: Any, details: Any = (), **more: Any) -> None:
    found = output(
        eval_config=config,
        eval_id="stand-in",
        datetime_epoch_millis=1_700_000_000_000,
        eval_result_metrics=metrics,
        eval_result_details=list(details),
        sae_bench_commit_hash="0" * 40,
        sae_lens_id=SAE_ID,
        sae_lens_release_id=RELEASE,
        sae_lens_version="6.54.12",
        sae_cfg_dict=SAE,
        **more,
    )
    target = folder / found.eval_type_id
    target.mkdir(exist_ok=True)
    found.to_json_file(general_utils.get_results_filepath(str(target), RELEASE, SAE_ID), indent=1)


def mean(details: list[Any], names: list[str]) -> dict[str, float]:
    return {name: sum(getattr(one, name) for one in details) / len(details) for name in names}


def main(folder: Path) -> None:
    categories = {f.name: f.type for f in fields(core.CoreMetricCategories)}
    metrics = {n: drawn(cls) for n, cls in categories.items() if n != "token_stats"}
    metrics["token_stats"] = core.TokenStatsMetrics(
        total_tokens_eval_reconstruction=1000, total_tokens_eval_sparsity_variance=100
    )
    write(folder, core.CoreEvalOutput, core_config.CoreEvalConfig(), core.CoreMetricCategories(**metrics))

    names = [f"sae_top_{k}_test_accuracy" for k in KS]
    details = [
        probing.SparseProbingResultDetail(
            dataset_name=f"{s}_results", llm_test_accuracy=number(), **{n: number() for n in names}
        )
        for s in SETS
    ]
    whole = probing.SparseProbingMetricCategories(
        llm=probing.SparseProbingLlmMetrics(llm_test_accuracy=0.9),
        sae=probing.SparseProbingSaeMetrics(**mean(details, names)),
    )
    config = probing_config.SparseProbingEvalConfig(random_seed=123, dataset_names=SETS, k_values=KS)
    write(folder, probing.SparseProbingEvalOutput, config, whole, details)

    parts = ["test_accuracy", "test_auc", "test_f1"]
    found = [
        sae_probes.SaeProbesResultDetail(
            dataset_name=s, sae_metrics_by_k={k: {part: number() for part in parts} for k in KS}
        )
        for s in ("87_glue_cola", "96_spam_is")
    ]
    config = sae_probes_config.SparseProbingSaeProbesEvalConfig(
        random_seed=42, dataset_names=["87_glue_cola", "96_spam_is"], ks=KS
    )
    whole = sae_probes.SaeProbesMetricCategories(
        llm=sae_probes.SaeProbesLlmMetrics(), sae=sae_probes.SaeProbesSaeMetrics()
    )
    write(folder, sae_probes.SparseProbingSaeProbesEvalOutput, config, whole, found)

    config = scr_and_tpp_config.ScrAndTppEvalConfig(random_seed=42, perform_scr=False, n_values=NS)
    names = [
        f"tpp_threshold_{n}_{p}" for n in NS for p in ("total_metric", "intended_diff_only", "unintended_diff_only")
    ]
    found = [
        scr_and_tpp.TppResultDetail(dataset_name=f"{s}_tpp_results", **{n: number() for n in names})
        for s in config.dataset_names
    ]
    whole = scr_and_tpp.TppMetricCategories(tpp_metrics=scr_and_tpp.TppMetrics(**mean(found, names)))
    write(folder, scr_and_tpp.TppEvalOutput, config, whole, found)

    config = scr_and_tpp_config.ScrAndTppEvalConfig(random_seed=42, perform_scr=True, n_values=NS)
    names = [f"scr_{p}_threshold_{n}" for n in NS for p in ("dir1", "metric", "dir2")]
    found = [
        scr_and_tpp.ScrResultDetail(dataset_name=f"{s}_scr_{a}_{b}_results", **{n: number() for n in names})
        for s in config.dataset_names
        for a, b in config.column1_vals_lookup[s]
    ]
    found[0].scr_metric_threshold_2 = None  # as where both directions begin at one accuracy
    whole = scr_and_tpp.ScrMetricCategories(scr_metrics=scr_and_tpp.ScrMetrics())
    write(folder, scr_and_tpp.ScrEvalOutput, config, whole, found)

    found = [
        absorption.AbsorptionResultDetail(
            first_letter=letter,
            mean_absorption_fraction=number(),
            full_absorption_rate=number(),
            num_full_absorption=3,
            num_probe_true_positives=40,
            num_split_features=DRAWN.randrange(1, 4),
        )
        for letter in "abc"
    ]
    keys = ["mean_absorption_fraction", "full_absorption_rate", "num_split_features"]
    means = dict(zip(["absorption_fraction_score", "full_absorption_score", "num_split_features"], keys, strict=True))
    values = {f"mean_{n}": mean(found, [key])[key] for n, key in means.items()}
    values |= {f"std_dev_{n}": 0.1 for n in means}
    whole = absorption.AbsorptionMetricCategories(mean=absorption.AbsorptionMeanMetrics(**values))
    write(folder, absorption.AbsorptionEvalOutput, absorption_config.AbsorptionEvalConfig(), whole, found)

    parts = ["cause_score", "isolation_score", "disentangle_score"]
    config = ravel_config.RAVELEvalConfig()
    classes = {
        f"{entity}_results": {f"{entity}_{a}": {part: number() for part in parts} for a in attributes}
        for entity, attributes in config.entity_attribute_selection.items()
    }
    every = [one for group in classes.values() for one in group.values()]
    means = {part: sum(one[part] for one in every) / len(every) for part in parts}
    means["disentanglement_score"] = means.pop("disentangle_score")
    whole = ravel.RAVELMetricCategories(ravel=ravel.RAVELMetricResults(**means))
    write(folder, ravel.RAVELEvalOutput, config, whole, eval_result_unstructured=classes)

    whole = autointerp.AutoInterpMetricCategories(
        autointerp=autointerp.AutoInterpMetrics(autointerp_score=number(), autointerp_std_dev=0.1)
    )
    config = autointerp_config.AutoInterpEvalConfig(model_name="gemma-2-2b")
    write(folder, autointerp.AutoInterpEvalOutput, config, whole)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
