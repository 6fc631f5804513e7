"""Measure the spread over training seeds, once, and declare it as the tolerance of `compare-recorded`.

    uv run python benchmarks/tolerances.py results/table/default/scores.parquet > tolerances.yaml

The mean score of an SAE that was retrained, or scored on evaluation sets that were drawn anew (a float in the last bit
moves a draw, and with it all later ones of its stream), may move by FACTOR times the root of two variances: between
training seeds (the study's replicates: one architecture at one L0, pooled) and between evaluation seeds (of the SAE with
the largest). Unfinished snapshots move more and have limits of their own: those of the step with the largest spread.
The same SAE file, scored on the same rows on another CPU, may move by a small fixed amount: instruction sets move float
sums by up to 2e-4, and one row of a small test set that crosses a probe's threshold moves an accuracy by a step. Where a
limit exceeds the whole range of the SAEs, a comparison would find nothing, and where there are no replicates to measure
one, it would be invented: it is null, and none is made.
"""

from __future__ import annotations

import sys

import polars as pl

FACTOR = 6.0
FLOOR = 0.02
SAME_SAE = 0.05
RECONSTRUCTION = ("dead_latents", "explained_variance", "l0")
SERIES = ["metric", "component", "hp_value", "mode", "task_kind"]


def spread(scores: pl.DataFrame, final: bool) -> pl.DataFrame:
    """Per metric and component, over hyper-parameters, modes, kinds of tasks and steps: the largest `sd` and `range`.

    Args:
        scores: the score table of a study with replicates.
        final: finished SAEs and controls, else unfinished snapshots.
    """
    ok = (pl.col("status") == "ok") & (pl.col("substrate") == "mini") & (pl.col("is_final") == final)
    run = ["arch", "target_l0", "step"]
    cells = scores.filter(ok).group_by("sae_id", "control", *run, "training_seed", "eval_seed", *SERIES)
    means = cells.agg(pl.col("value").mean())
    within = means.group_by("sae_id", *SERIES).agg(pl.col("value").var().alias("reseed"))
    saes = means.group_by("sae_id", "control", *run, "training_seed", *SERIES).agg(pl.col("value").mean())
    trained = saes.filter(pl.col("control").is_null())
    groups = trained.group_by(*run, *SERIES).agg(pl.col("value").var().alias("training"), pl.len().alias("seeds"))
    between = groups.filter(pl.col("seeds") > 1).group_by("step", *SERIES).agg(pl.col("training").mean())
    found = [
        part.group_by("metric", "component", *SERIES[2:]).agg(pl.col(name).max())
        for part, name in ((within, "reseed"), (between, "training"))
    ]
    ranges = saes.group_by(SERIES).agg((pl.col("value").max() - pl.col("value").min()).alias("range"))
    both = found[0].join(found[1], on=SERIES, nulls_equal=True).join(ranges, on=SERIES, nulls_equal=True)
    sd = (pl.col("reseed").fill_null(0) + pl.col("training")).sqrt().alias("sd")
    return both.with_columns(sd).group_by("metric", "component").agg(pl.col("sd", "range").max()).sort(SERIES[:2])


def main() -> None:
    print("# Tolerances of `sae-assay compare-recorded`, per metric.component; measured by benchmarks/tolerances.py.")
    print(f"same_sae:\n  default: {SAME_SAE}")
    print(
        f"# {FACTOR:g} standard deviations over training and evaluation seeds, at least {FLOOR}; null beyond the range."
    )
    scores = pl.read_parquet(sys.argv[1])
    for limits, final in (("retrained", True), ("retrained_snapshots", False)):
        print(f"{limits}:\n  default: null")
        for metric, component, sd, range_ in (
            spread(scores, final).select("metric", "component", "sd", "range").iter_rows()
        ):
            limit = max(FLOOR, FACTOR * sd)
            text = "null" if limit > range_ else f"{limit:.3g}"
            # The language model has one run an architecture: its reconstruction takes the world's limits.
            for name in (metric, "reconstruction") if component in RECONSTRUCTION else (metric,):
                print(f"  {name}.{component}: {text}")
    print(
        "# Damaged SAEs move more than the trained ones that they are made from, and have no replicates of their own."
    )
    print("retrained_controls:\n  default: null")


if __name__ == "__main__":
    main()
