"""What the paper found, beside what this study found: like with like, and a difference is reported as it is.

Published numbers are the rows of `paper-numbers.csv` (most of them second hand: read from the paper's text, not
recomputed). A published number and a statistic of this study are set side by side where both exist at the same metric,
hyper-parameter and tasks. Correlations and ranks carry over between worlds in sign and rough size; noise in score units does
not carry over between models and procedures, and is shown without a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

import polars as pl

from sae_assay.report.names import ARCHITECTURES

AGREES, DIFFERS, NOT_COMPARABLE, OPEN = "AGREES", "DIFFERS", "NOT COMPARABLE", "UNDECIDED"


@dataclass(frozen=True)
class Match:
    """How a published statistic is found here.

    Args:
        mart, column, low, high: where this study's statistic and its interval stand.
        words: what the statistic is.
        rule: `covers` (agrees if the interval holds the published value), `below` (a count above 0 agrees), `sign` (the
            interval lies on the published side of 0), or `shown` (no verdict).
        form, paper_form: how this study's and the published value are shown; the latter's
            unit follows it where `with_unit`.
        where: what else this study's row says, column by column.
        level: the column that holds the published hyper-parameter's value.
        extreme: of the rows over all hyper-parameters, the one of `min` or `max` value.
        world: the number belongs to one world, SynthSAEBench-16k, and to no other.
    """

    mart: str
    column: str
    low: str | None
    high: str | None
    words: str
    rule: str
    form: str
    paper_form: str
    with_unit: bool = False
    where: Mapping[str, Any] = field(default_factory=dict)
    level: str | None = "hp_value"
    extreme: str | None = None
    world: bool = False


MATCHES: dict[str, Match] = {
    "cv": Match("reseed_noise", "cv_absolute", None, None, "CV under a reseed", "shown", "significant2", "significant2"),
    "min_reliable_difference": Match(
        "reseed_noise", "mrd_fixed_sae", None, None, "smallest reliable difference, one seed each", "shown",
        "significant2", "significant2",
    ),
    "spearman_mcc": Match(
        "validity", "spearman", "spearman_low", "spearman_high", "plain Spearman correlation with MCC", "covers",
        "+fixed2", "+fixed2",
    ),
    "oracle_rank_below": Match(
        "oracle_rank", "n_above", None, None, "trained SAEs that score above the oracle", "below", "integer", "integer",
        True,
    ),
    "training_trend": Match(
        "trajectory_contrast", "difference", "low", "high", "change from early to late training", "sign", "+fixed3",
        "+integer", True,
    ),
}  # fmt: skip
for _component, _truth in {"mcc": "MCC", "f1": "F1"}.items():
    for _arch, _name in ARCHITECTURES.items():
        MATCHES[f"{_component}_{_arch}"] = Match(
            "architecture_truths", "mean", "low", "high", f"{_truth} of {_name}, mean over training seeds", "covers",
            "fixed3", "fixed3", where={"component": _component, "arch": _arch}, level="target_l0", world=True,
        )  # fmt: skip
for _extreme, _word in {"min": "smallest", "max": "largest"}.items():
    MATCHES[f"spearman_mcc_{_extreme}"] = replace(
        MATCHES["spearman_mcc"], words=f"{_word} plain Spearman correlation with MCC over k_probe", extreme=_extreme
    )
_POINT = Match("panel_points", "value", None, None, "", "shown", "fixed3", "fixed3", level=None, world=True)
MATCHES["mcc_random"] = replace(
    _POINT, words="MCC of a random SAE", where={"component": "mcc", "control": "random_init"}
)
MATCHES["mcc_batchtopk_l0_15_seed0"] = replace(
    _POINT, words="MCC of BatchTopK, one SAE",
    where={"component": "mcc", "sae_id": "batchtopk_l0_15_seed_0"},
)  # fmt: skip

SYNTH_SAE_BENCH = {"num_features": 16_384, "hidden_dim": 768, "d_sae": 4_096}
"""What a substrate has in common with the published world and its SAEs (method.md, Substrates)."""


def same_world(substrate: Mapping[str, Any]) -> bool:
    """Whether a substrate's section declares SynthSAEBench-16k and SAEs of the published width."""
    world = substrate.get("world") or {}
    return all(({"d_sae": substrate["d_sae"]} | world).get(name) == size for name, size in SYNTH_SAE_BENCH.items())


def published() -> pl.DataFrame:
    """The published numbers: lens, substrate, metric, hp_name, hp_value, statistic, value, unit, confidence, note."""
    text = resources.files("sae_assay.report").joinpath("paper-numbers.csv").read_bytes()
    return pl.read_csv(text, schema_overrides={"hp_value": pl.Int64, "value": pl.Float64})


def verdict(match: Match, paper: float, row: dict[str, Any]) -> str:
    """AGREES, DIFFERS, UNDECIDED (the interval does not tell) or NOT COMPARABLE."""
    value = row.get(match.column)
    low, high = (row.get(end) if end else None for end in (match.low, match.high))
    if match.rule == "shown" or value is None:
        return NOT_COMPARABLE
    if match.rule == "below":
        return AGREES if value > 0 else DIFFERS
    if low is None or high is None:
        return OPEN
    if match.rule == "sign":
        return OPEN if low <= 0 <= high else AGREES if value * paper > 0 else DIFFERS
    return AGREES if low <= paper <= high else DIFFERS


def matching(published_row: dict[str, Any], match: Match, table: pl.DataFrame) -> list[dict[str, Any]]:
    """This study's rows at the published metric, hyper-parameter and statistic, `in` tasks or all; compatible mode."""
    wanted = {"metric": published_row["metric"], **match.where}
    if match.level and not match.extreme:
        wanted[match.level] = published_row["hp_value"]
    rows = table.filter(pl.col(name).eq_missing(value) for name, value in wanted.items() if name in table.columns)
    if "component" not in wanted:
        rows = rows.filter(pl.col("component").is_in(["score", "accuracy", "auc"]))
    if "mode" in table.columns:
        rows = rows.filter(pl.col("mode").is_null() | (pl.col("mode") == "saebench"))
    if "truth" in table.columns:
        rows = rows.filter(pl.col("truth") == "mcc")
    if "task_kind" in table.columns:
        split = rows.filter(pl.col("task_kind") == "in")["substrate"].to_list()
        whole = ~pl.col("substrate").is_in(split) & pl.col("task_kind").is_in(["all", "__all__"])
        rows = rows.filter((pl.col("task_kind") == "in") | whole)
    if match.extreme:
        rows = rows.sort(match.column, descending=match.extreme == "min", maintain_order=True, nulls_last=False)
    return rows.to_dicts()


FINDINGS: dict[str, list[str]] = {
    "reseed": [
        "TPP and SCR move most under a reseed; sae-probes, sparse probing and RAVEL move least.",
        "Differences smaller than the reseed noise are reported as progress. (Its formula for several seeds lacks a factor √2.)",
    ],
    "ground_truth": [
        "TPP does not rank SAEs as MCC does, SCR ranks them the wrong way round, and more so the more latents are ablated.",
        "SCR puts a perfect oracle below many trained SAEs. Sparse probing follows the truth best.",
    ],
    "trajectory": [
        "TPP declines while the SAE trains once many latents are ablated.",
        "sae-probes is the most reliable metric, yet struggles to separate variants of one architecture.",
    ],
}
"""The paper's findings on each lens, in words."""
