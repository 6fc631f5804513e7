"""Measure the spread over training seeds, once, and declare it as the tolerance of `compare-recorded`.

    uv run python benchmarks/tolerances.py results/table/default/scores.parquet > tolerances.yaml

A retrained SAE's mean score may move by FACTOR times the standard deviation over training seeds of the study's
replicates (one architecture at one L0, pooled over both, largest hyper-parameter). The same SAE file, scored on another
CPU, may move by a small fixed amount: instruction sets move float sums by up to 2e-4, and one row of a small test set
that crosses a probe's threshold moves an accuracy by a step. Where FACTOR standard deviations exceed the whole range of
the panel's SAEs, a comparison of retrained SAEs would find nothing: the tolerance is null, and it is not made.
"""

from __future__ import annotations

import sys

import polars as pl

FACTOR = 6.0
FLOOR = 0.02
SAME_SAE = 0.05
SERIES = ["metric", "component", "hp_value", "mode", "task_kind"]


def spread(scores: pl.DataFrame) -> pl.DataFrame:
    """Per metric and component, the largest pooled SD over training seeds and the panel's largest range: sd, range."""
    ok = pl.col("status") == "ok"
    finished = scores.filter(ok & pl.col("is_final") & pl.col("control").is_null() & (pl.col("substrate") == "mini"))
    sae = ["substrate", "arch", "target_l0", "training_seed"]
    means = finished.group_by(*sae, *SERIES).agg(pl.col("value").mean())
    replicated = means.group_by("substrate", "arch", "target_l0", *SERIES).agg(
        pl.col("value").var().alias("variance"), pl.len().alias("seeds")
    )
    pooled = replicated.filter(pl.col("seeds") > 1).group_by(SERIES).agg(pl.col("variance").mean().sqrt().alias("sd"))
    ranges = means.group_by(SERIES).agg((pl.col("value").max() - pl.col("value").min()).alias("range"))
    both = pooled.join(ranges, on=SERIES, nulls_equal=True)
    return both.group_by("metric", "component").agg(pl.col("sd", "range").max()).sort("metric", "component")


def main() -> None:
    print(
        "# Tolerances of `sae-assay compare-recorded`, per metric.component; measured once by benchmarks/tolerances.py."
    )
    print(f"same_sae:\n  default: {SAME_SAE}")
    print(
        f"# {FACTOR:g} standard deviations over training seeds, at least {FLOOR}; null where that exceeds the panel's range."
    )
    print("retrained:\n  default: 0.2")
    for row in spread(pl.read_parquet(sys.argv[1])).iter_rows(named=True):
        limit = max(FLOOR, FACTOR * row["sd"])
        print(f"  {row['metric']}.{row['component']}: {'null' if limit > row['range'] else f'{limit:.3g}'}")


if __name__ == "__main__":
    main()
