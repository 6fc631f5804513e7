"""What the report is made of, by name; light, so that the workflow can import it.

A chart's name is the stem of its files: NAME.json (Vega-Lite) and NAME.svg.
"""

from __future__ import annotations

CHART_NAMES: tuple[str, ...] = (
    "scorecard",
    "reseed_noise",
    "reseed_noise_to_range",
    "truth_scatter",
    "truth_validity",
    "truth_controls",
    "trajectories",
    "trajectory_decisions",
    "fault_ablation",
    "noise_anatomy",
)
"""Charts of a study, in the order in which the page shows them."""

CHART_SUFFIXES: tuple[str, ...] = ("json", "svg")

ARCHITECTURES: dict[str, str] = {
    "batchtopk": "BatchTopK",
    "matryoshka": "Matryoshka",
    "sampled_matryoshka": "Sampled Matryoshka",
    "matching_pursuit": "MatchingPursuit",
    "standard": "Standard",
    "jumprelu": "JumpReLU",
    "toy": "Toy",
}

METRICS: dict[str, str] = {
    "sae_probes": "sae-probes",
    "sparse_probing": "Sparse probing",
    "tpp": "TPP",
    "scr": "SCR",
    "reconstruction": "Reconstruction",
    "ground_truth": "Ground truth",
    "known_validity": "Known validity",
    "pure_noise": "Pure noise",
    "saebench_sparse_probing": "SAEBench’s probing",
    "saebench_tpp": "SAEBench’s TPP",
    "saebench_scr": "SAEBench’s SCR",
    "core": "SAEBench’s core",
    "absorption": "Absorption",
    "ravel": "RAVEL",
    "autointerp": "AutoInterp",
}
"""Display names, in the order in which metrics are shown everywhere."""

AUDIT_CONTROLS: tuple[str, ...] = ("known_validity", "pure_noise")
"""Metrics that put the audit itself on trial: one that must pass, one that must fail."""

CONTROLS: dict[str, str] = {
    "oracle": "Oracle",
    "best": "Best latents only",
    "random_init": "Random init",
    "random_l0_matched": "Random, L0-matched",
    "permuted_decoder": "Permuted decoder",
}

REPAIRS: dict[str, str] = {
    "fix_epoch": "Epoch by validation",
    "fix_overlap": "No overlap",
    "fix_cells": "Balanced cells",
    "fix_negatives": "Fixed negatives",
    "fix_ties": "Positive effects",
    "fix_direction": "Both directions",
    "strict": "Strict mode",
}
"""Repaired modes of TPP and SCR: `saebench` with one fault repaired, then those of `strict` together."""

SOURCES: dict[str, str] = {
    "data": "Rows or text",
    "tasks": "Tasks",
    "split": "Split",
    "probe": "Probe training",
    "negatives": "Scoring’s negatives",
}
"""Sources of randomness in a noise anatomy, in the order in which an evaluation draws them."""

PARTS: dict[str, str] = {"common": "common shift", "relative": "relative noise"}

TRUTHS: dict[str, str] = {"mcc": "MCC", "f1": "F1"}


def chart_files(study: str) -> list[str]:
    """Paths of every chart file of a study, relative to the project's root, in a fixed order."""
    return [f"results/charts/{study}/{name}.{suffix}" for name in CHART_NAMES for suffix in CHART_SUFFIXES]


def label(names: dict[str, str], key: str | None) -> str:
    """The display name of a key; the key itself where none is declared (a plug-in, a local SAE)."""
    return "–" if key is None else names.get(key, key)


def setting(metric: str, hp_name: str | None, hp_value: int | None, component: str | None = None) -> str:
    """A metric at one hyper-parameter, in words: `TPP, n = 10`."""
    parts = [label(METRICS, metric)]
    if metric in AUDIT_CONTROLS:
        parts.append("audit’s control")
    if component is not None:
        parts.append(TRUTHS.get(component, component.replace("_", " ")))
    if hp_name is not None and hp_value is not None:
        parts.append(f"{'L0' if hp_name == 'l0' else hp_name} = {hp_value}")
    return ", ".join(parts)


TASK_KINDS: dict[str, str] = {
    "in": "in",
    "out": "out",
    "mixed": "mixed",
    "all": "all tasks",
    "__all__": "",
}
"""Which features a task asks about: inside the SAE's dictionary, beyond it, or both."""
