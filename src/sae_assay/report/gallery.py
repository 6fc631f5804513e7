"""Every chart of a study: the question in its title, the view that it draws, and what to say where it is empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import altair as alt
import polars as pl

from sae_assay.report import anatomy_chart, charts, views
from sae_assay.report.names import CHART_NAMES

Marts = Mapping[str, pl.DataFrame]

TITLES: dict[str, str] = {
    "scorecard": "Which metrics can be trusted, and for what?",
    "reseed_noise": "How much of a score is luck?",
    "reseed_noise_to_range": "Is the noise small beside the distance from random to perfect?",
    "truth_scatter": "Does the metric rank SAEs as the truth does?",
    "truth_validity": "Does it still, among SAEs of equal architecture and L0?",
    "truth_controls": "Does a perfect SAE come out on top, and a broken one at the bottom?",
    "trajectories": "Does the score rise as the SAE trains, like the truth?",
    "trajectory_decisions": "How often does one scoring order two SAEs as the truth does?",
    "fault_ablation": "What changes when one fault of the procedure is repaired?",
    "noise_anatomy": "Where does reseed noise come from?",
}
"""The question that each chart answers."""

SUBTITLES: dict[str, list[str]] = {
    "scorecard": ["Verdicts on each metric's primary setting: ✓ pass, ✗ fail, ? inconclusive, – not measured"],
    "reseed_noise": ["Standard deviation of a score under another evaluation seed, 95 % intervals"],
    "reseed_noise_to_range": ["Relative noise divided by oracle minus random; lower is better"],
    "truth_scatter": ["One mark an SAE, mean over evaluation seeds; 95 % reseed intervals"],
    "truth_validity": ["Correlation with the declared truth, 95 % intervals; dashed: zero and the declared threshold"],
    "truth_controls": ["Mean over evaluation seeds; 95 % reseed intervals"],
    "trajectories": ["A line a training run, with the band in which one reseed falls; dashed panels are the truth"],
    "trajectory_decisions": [
        "Pairs of runs at matched steps, 95 % intervals; dashed: chance and the declared threshold"
    ],
    "fault_ablation": ["TPP and SCR in mode saebench with one repair, and in strict mode; 95 % intervals"],
    "noise_anatomy": ["Each source of randomness reseeded alone: its share of the variance, with 95 % intervals"],
}

ABSENT: dict[str, str] = {
    "scorecard": "no metric has a primary setting",
    "reseed_noise": "it needs at least two SAEs at two evaluation seeds",
    "reseed_noise_to_range": "it needs an oracle and a random control",
    "truth_scatter": "no substrate has a known truth",
    "truth_validity": "it needs a world, at least two architectures and two L0 values",
    "truth_controls": "no substrate has controls",
    "trajectories": "no training run kept its snapshots",
    "trajectory_decisions": "it needs two training runs with snapshots",
    "fault_ablation": "it needs a world and a fault_ablation of TPP or SCR",
    "noise_anatomy": "the study declares no anatomy",
}

SOURCES: dict[str, tuple[str, ...]] = {
    "scorecard": ("scorecard",),
    "reseed_noise": ("reseed_noise", "seed_behaviour", "scorecard"),
    "reseed_noise_to_range": ("reseed_noise", "scorecard"),
    "truth_scatter": ("panel_points", "scorecard"),
    "truth_validity": ("validity", "scorecard"),
    "truth_controls": ("panel_points", "oracle_rank", "scorecard"),
    "trajectories": ("trajectory_points", "scorecard"),
    "trajectory_decisions": ("decision_accuracy", "scorecard"),
    "fault_ablation": ("fault_ablation",),
    "noise_anatomy": ("noise_anatomy",),
}
"""The marts that each chart draws."""

VIEWS: dict[str, Callable[[Marts], pl.DataFrame]] = {
    "scorecard": views.scorecard,
    "reseed_noise": views.reseed_noise,
    "reseed_noise_to_range": views.noise_to_range,
    "truth_scatter": views.truth_scatter,
    "truth_validity": views.validity,
    "truth_controls": views.truth_controls,
    "trajectories": views.trajectories,
    "trajectory_decisions": views.decisions,
    "fault_ablation": views.fault_ablation,
    "noise_anatomy": views.noise_anatomy,
}


def on_page(marts: Marts) -> tuple[str, ...]:
    """Charts that the page shows: all, but for a noise anatomy that the study does not declare."""
    return tuple(name for name in CHART_NAMES if name != "noise_anatomy" or not marts["noise_anatomy"].is_empty())


def draw(name: str, marts: Marts) -> alt.ConcatChart:
    """One chart of a study, by its name in CHART_NAMES; where its view is empty, a picture that says why."""
    table = VIEWS[name](marts)
    title, subtitle = TITLES[name], SUBTITLES[name]
    if table.is_empty():
        return charts.nothing(title, f"Not measured in this study: {ABSENT[name]}.")
    match name:
        case "scorecard":
            return charts.scorecard(table, title, subtitle)
        case "reseed_noise":
            return charts.intervals(table, title, subtitle, "noise (score units, logarithmic)", log=True)
        case "reseed_noise_to_range":
            return charts.by_setting(table, title, subtitle, "noise / range")
        case "truth_scatter":
            return charts.scatter(table, title, subtitle)
        case "truth_validity":
            rules = [(0.0, "no correlation"), *_threshold("D4", marts)]
            return charts.by_setting(table, title, subtitle, "correlation", rules=rules)
        case "truth_controls":
            return charts.strips(table, title, subtitle)
        case "trajectories":
            return charts.trajectories(table, title, subtitle)
        case "trajectory_decisions":
            rules = [(0.5, "chance"), *_threshold("D2", marts)]
            return charts.intervals(
                table, title, subtitle, "decision accuracy (share of pairs)", rules=rules, domain=(0.0, 1.0)
            )
        case "fault_ablation":
            return charts.repairs(table, title, subtitle)
        case "noise_anatomy":
            return anatomy_chart.noise_anatomy(table, title, subtitle)
    raise KeyError(f"{name} is no chart; use one of {', '.join(CHART_NAMES)}")


def _threshold(criterion: str, marts: Marts) -> list[tuple[float, str]]:
    """Where a criterion's declared threshold stands."""
    declared = marts["scorecard"].filter(pl.col("criterion") == criterion)["threshold"].unique().sort().to_list()
    return [(value, "declared threshold") for value in declared]
