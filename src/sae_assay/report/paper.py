"""What the paper found, beside what this study found: like with like, and a difference is reported as it is.

Published numbers are the rows of `paper-numbers.csv` (most of them second hand: read from the paper's text, not
recomputed). A published number and a statistic of this study are set side by side where both exist at the same metric,
hyper-parameter and tasks. Correlations and ranks carry over between worlds in sign and rough size; noise in score units does
not carry over between models and procedures, and is shown without a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import polars as pl

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


def matching(published_row: dict[str, Any], table: pl.DataFrame) -> list[dict[str, Any]]:
    """This study's rows at the published metric, hyper-parameter and statistic, `in` tasks or all; compatible mode."""
    same = (pl.col("metric") == published_row["metric"]) & pl.col("hp_value").eq_missing(published_row["hp_value"])
    main = pl.col("component").is_in(["score", "accuracy", "auc"])
    mode = pl.col("mode").is_null() | (pl.col("mode") == "saebench")
    rows = table.filter(same, main, mode)
    if "truth" in table.columns:
        rows = rows.filter(pl.col("truth") == "mcc")
    split = rows.filter(pl.col("task_kind") == "in")["substrate"].to_list()
    whole = ~pl.col("substrate").is_in(split) & pl.col("task_kind").is_in(["all", "__all__"])
    return rows.filter((pl.col("task_kind") == "in") | whole).to_dicts()


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
