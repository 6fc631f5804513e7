"""Which rows of the marts each chart draws, and the words that it shows: selection, joins and labels; no statistics.

Every view keeps the marts' raw values and their order (substrate, metric, setting), and is empty where nothing was
measured. `PRIMARY` columns are those that the study declared as a metric's one tested setting.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from sae_assay.report.names import CONTROLS, METRICS, PARTS, REPAIRS, SOURCES, TASK_KINDS, TRUTHS, label, setting

Marts = Mapping[str, pl.DataFrame]
CELL = ["substrate", "metric", "component", "hp_name", "hp_value", "mode"]
REFERENCES = {"ground_truth": ["mcc", "f1"], "reconstruction": ["explained_variance", "ce_recovered"]}
SYMBOLS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "NOT MEASURED": "–"}


def rank(table: pl.DataFrame) -> pl.DataFrame:
    """Metrics in the declared order (stable: the marts' own order decides the rest)."""
    order = {name: i for i, name in enumerate(METRICS)}
    kinds = {name: i for i, name in enumerate(TASK_KINDS)}
    ranks = [pl.col("metric").replace_strict(order, default=len(order)).alias("_metric")]
    if "task_kind" in table.columns:
        ranks.append(pl.col("task_kind").replace_strict(kinds, default=len(kinds)).alias("_kind"))
    ranked = table.with_columns(ranks)
    by = ["substrate", "_metric", "metric", *[c for c in ("hp_value", "_kind") if c in ranked.columns]]
    return ranked.sort(by, maintain_order=True, nulls_last=True).drop("_metric", "_kind", strict=False)


def _words(table: pl.DataFrame) -> pl.DataFrame:
    """Adds metric_name, tasks and setting, the words that charts show."""
    names = [label(METRICS, m) for m in table["metric"]]
    tasks = [label(TASK_KINDS, k) for k in table["task_kind"]]
    lines = [
        setting(r["metric"], r["hp_name"], r["hp_value"], r["component"] if r["metric"] in REFERENCES else None)
        + (f" · {task}" if task and task != TASK_KINDS["all"] else "")
        for r, task in zip(table.select(CELL).to_dicts(), tasks, strict=True)
    ]
    columns = {
        "metric_name": names,
        "tasks": [f"{t} tasks" if t in ("in", "out", "mixed") else "" for t in tasks],
        "setting": lines,
    }
    return table.with_columns(pl.Series(name, values, dtype=pl.String) for name, values in columns.items())


def apart(table: pl.DataFrame, kinds: tuple[str, ...] = ("in", "out")) -> pl.DataFrame:
    """`in` and `out` tasks apart where a metric has them; else its rows over all tasks."""
    split = table.filter(pl.col("task_kind").is_in(["in", "out"])).select("substrate", "metric").unique()
    has = table.join(split, on=["substrate", "metric"], how="semi", maintain_order="left")
    whole = table.join(split, on=["substrate", "metric"], how="anti", maintain_order="left")
    return pl.concat(
        [has.filter(pl.col("task_kind").is_in(kinds)), whole.filter(pl.col("task_kind").is_in(["all", "__all__"]))]
    )


def primary(table: pl.DataFrame, marts: Marts) -> pl.DataFrame:
    """The rows of a mart at each metric's primary setting, with the truth declared for it; words added."""
    declared = (
        marts["scorecard"]
        .group_by(CELL, maintain_order=True)
        .agg(pl.col("truth").drop_nulls().first().alias("declared_truth"))
    )
    return _words(rank(table.join(declared, on=CELL, how="inner", nulls_equal=True, maintain_order="left")))


def scorecard(marts: Marts) -> pl.DataFrame:
    """Headline verdicts, a row a substrate, metric and criterion."""
    table = rank(marts["scorecard"].filter("headline"))
    names = [label(METRICS, m) for m in table["metric"]]
    return table.select(
        "substrate",
        pl.Series("metric_name", names, dtype=pl.String),
        pl.col("criterion").alias("dimension"),
        "title",
        "verdict",
        pl.col("verdict").replace_strict(SYMBOLS, default="").alias("symbol"),
        "estimate",
        "low",
        "high",
        "threshold",
        "reason",
    ).sort("substrate", maintain_order=True)


def reseed_noise(marts: Marts) -> pl.DataFrame:
    """Relative and absolute noise at the primary settings, and of the truth and reconstruction for reference."""
    noise = marts["reseed_noise"]
    reference = pl.any_horizontal(
        (pl.col("metric") == metric) & pl.col("component").is_in(parts) for metric, parts in REFERENCES.items()
    )
    table = apart(rank(pl.concat([primary(noise, marts).select(noise.columns), noise.filter(reference)])))
    table = _words(rank(table)).join(
        marts["seed_behaviour"].select(*CELL, "task_kind", "behaviour"),
        on=[*CELL, "task_kind"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    kinds = {"relative noise": "sigma_e", "absolute noise": "sigma_absolute"}
    note = (
        pl.when(pl.col("behaviour") == "seed_inert")
        .then(pl.lit("seed-inert: no noise was measured"))
        .when(pl.col("value").is_null() | (pl.col("value") <= 0))
        .then(pl.coalesce("reason", pl.lit("zero or below: none seen")))
    )
    long = pl.concat(
        table.select(
            "substrate", "setting", "metric", "metric_name", "behaviour", "reason",
            pl.lit(kind).alias("kind"), pl.col(column).alias("value"),
            pl.col(f"{column}_low").alias("low"), pl.col(f"{column}_high").alias("high"),
        )
        for kind, column in kinds.items()
    ).with_columns(note.alias("note"))  # fmt: skip
    hidden = pl.col("note").is_not_null()  # a logarithmic axis has no place for 0
    long = long.with_columns(pl.when(~hidden).then(pl.col(c)).alias(c) for c in ("value", "low", "high"))
    first = pl.col("kind") == next(iter(kinds))
    return rank(long.with_columns(pl.when(first).then(pl.col("note")).alias("note")).drop("behaviour", "reason"))


def noise_to_range(marts: Marts) -> pl.DataFrame:
    """Relative noise over the oracle-random range along n or k_probe, primary mode; the range is taken as known."""
    table = _same_mode(marts["reseed_noise"], marts).filter(pl.col("noise_to_range").is_not_null())
    return _series(apart(table)).select(
        "substrate", "metric", "metric_name", "hp_name", "hp_value",
        pl.col("task_kind").replace(TASK_KINDS).alias("series"),
        pl.col("noise_to_range").alias("value"),
        (pl.col("sigma_e_low") / pl.col("oracle_range").abs()).alias("low"),
        (pl.col("sigma_e_high") / pl.col("oracle_range").abs()).alias("high"),
    )  # fmt: skip


def _same_mode(table: pl.DataFrame, marts: Marts) -> pl.DataFrame:
    """Rows of each metric's primary component and mode, every hyper-parameter."""
    keys = ["substrate", "metric", "component", "mode"]
    declared = (
        marts["scorecard"]
        .group_by(keys, maintain_order=True)
        .agg(pl.col("truth").drop_nulls().first().alias("declared_truth"))
    )
    return table.join(declared, on=keys, how="inner", nulls_equal=True, maintain_order="left")


def _series(table: pl.DataFrame) -> pl.DataFrame:
    return _words(rank(table.filter(pl.col("hp_value").is_not_null())))


def truth_scatter(marts: Marts) -> pl.DataFrame:
    """Every trained SAE and control of a world: its truth and its score at the primary setting."""
    table = apart(primary(marts["panel_points"], marts))
    truth = pl.when(pl.col("declared_truth") == "f1").then("f1").otherwise("mcc")
    return _marks(table).with_columns(
        truth.alias("truth"), pl.col("declared_truth").replace_strict(TRUTHS, default=None).alias("truth_name")
    ).filter(pl.col("truth").is_not_null(), pl.col("value").is_not_null()).select(
        "substrate", "metric_name", "tasks", "sae_id", "arch", "kind", "truth_name", "truth", "value", "low", "high"
    )  # fmt: skip


def _marks(points: pl.DataFrame) -> pl.DataFrame:
    """Colour (architecture) and shape (kind of control) of a point."""
    kind = pl.when("is_control").then("control").otherwise(pl.lit("trained"))
    names = {"trained": "Trained SAEs"} | CONTROLS
    return points.with_columns(
        kind.alias("kind"),
        pl.when(pl.col("control") == "oracle")
        .then(pl.lit("oracle"))
        .when("is_control")
        .then(pl.lit("control"))
        .otherwise("arch")
        .alias("arch"),
    ).with_columns(pl.col("kind").replace(names).alias("kind_name"))


def truth_controls(marts: Marts) -> pl.DataFrame:
    """Scores of trained SAEs and controls, where there are controls; the oracle's percentile in words."""
    table = apart(primary(marts["panel_points"], marts))
    controlled = table.filter("is_control").select("substrate").unique()
    rank = marts["oracle_rank"].select(*CELL, "task_kind", "percentile")
    percentile = pl.col("percentile").round(0).cast(pl.Int64).cast(pl.String)
    words = (
        pl.when(pl.col("percentile").is_not_null())
        .then(pl.format("oracle above {} % of trained SAEs", percentile))
        .otherwise(pl.lit("no oracle to compare with"))
    )
    return (
        _marks(table.join(controlled, on="substrate", how="semi", maintain_order="left"))
        .filter(pl.col("value").is_not_null())
        .join(rank, on=[*CELL, "task_kind"], how="left", nulls_equal=True, maintain_order="left")
        .select(
            "substrate", "metric_name", "tasks", "sae_id", "arch", "kind", "kind_name",
            "value", "low", "high", "percentile", words.alias("percentile_text"),
        )
    )  # fmt: skip


def validity(marts: Marts) -> pl.DataFrame:
    """Residual and plain correlation with the declared truth along n or k_probe, primary component and mode."""
    table = _same_mode(marts["validity"], marts).filter(pl.col("truth") == pl.col("declared_truth"))
    table = _series(apart(table))
    series = {"architecture, L0 fixed": "residual", "plain Spearman": "spearman"}
    return rank(
        pl.concat(
            table.select(
                "substrate", "metric", "metric_name", "tasks", "task_kind", "hp_name", "hp_value",
                pl.lit(name).alias("series"), pl.col(column).alias("value"),
                pl.col(f"{column}_low").alias("low"), pl.col(f"{column}_high").alias("high"),
            )
            for name, column in series.items()
        ).filter(pl.col("value").is_not_null())
    )  # fmt: skip


def trajectories(marts: Marts) -> pl.DataFrame:
    """Primary scores of every snapshot with their reseed band, after the truth's own."""
    points = marts["trajectory_points"]
    truth = points.filter(pl.col("metric") == "ground_truth", pl.col("component").is_in(list(TRUTHS)))
    scored = apart(primary(points, marts))
    name = pl.when(pl.col("tasks") == "").then("metric_name").otherwise(pl.format("{} · {}", "metric_name", "tasks"))
    parts = [
        truth.with_columns(pl.col("component").replace(TRUTHS).alias("quantity"), pl.lit(True).alias("is_truth")),
        scored.with_columns(name.alias("quantity"), pl.lit(False).alias("is_truth")),
    ]
    columns = [
        "substrate", "quantity", "is_truth", pl.col("run_id").alias("run"), "arch", "training_seed", "tokens",
        "value", pl.col("band_low").alias("low"), pl.col("band_high").alias("high"),
    ]  # fmt: skip
    return pl.concat(p.filter(pl.col("value").is_not_null()).select(columns) for p in parts).sort(
        "substrate", maintain_order=True
    )


def decisions(marts: Marts) -> pl.DataFrame:
    """Decision accuracy at the primary settings; on an LM the metric's agreement with itself."""
    table = apart(primary(marts["decision_accuracy"], marts))
    known = table.filter(pl.col("truth") != "self", pl.col("accuracy").is_not_null())["substrate"].unique().implode()
    judged = (
        pl.when(pl.col("substrate").is_in(known))
        .then(pl.col("truth") == pl.col("declared_truth"))
        .otherwise(pl.col("truth") == "self")
    )
    kind = pl.when(pl.col("truth") == "self").then(pl.lit("the metric's other seeds")).otherwise(pl.lit("the truth"))
    return table.filter(judged).select(
        "substrate", "setting", "metric", "metric_name", kind.alias("kind"), pl.col("accuracy").alias("value"), "low",
        "high", pl.when(pl.col("accuracy").is_null()).then(pl.coalesce("reason", pl.lit("not measured"))).alias("note"),
    )  # fmt: skip


def repairs(marts: Marts) -> pl.DataFrame:
    """Rows of the fault ablation, a metric's repairs in their declared order; kinds of tasks that no mode can use left out."""
    order = {mode: i for i, mode in enumerate(REPAIRS)}
    table = apart(marts["fault_ablation"], ("in", "out", "mixed"))
    usable = table.filter(pl.col("n_tasks") > 0).select("substrate", "metric", "hp_value", "task_kind").unique()
    table = table.join(usable, on=usable.columns, how="semi", nulls_equal=True, maintain_order="left")
    place = pl.col("mode").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    return _words(rank(table.sort(place, maintain_order=True))).with_columns(
        pl.col("mode").replace(REPAIRS).alias("repair")
    )


def fault_ablation(marts: Marts) -> pl.DataFrame:
    """What each repair changes, long: the validity (a difference) and the relative noise (a ratio)."""
    table = repairs(marts)
    kind = pl.when(pl.col("tasks") == "").then(pl.lit("all tasks")).otherwise("tasks")
    quantities = {"validity": ("residual_change", "residual_reason"), "noise": ("noise_ratio", "reason")}
    parts = [
        table.select(
            "substrate", "metric", "hp_value", pl.lit(quantity).alias("quantity"),
            pl.format("{}, {} = {}", "metric_name", "hp_name", "hp_value").alias("metric_name"),
            pl.col("repair").alias("setting"), kind.alias("kind"), pl.col(column).alias("value"),
            pl.col(f"{column}_low").alias("low"), pl.col(f"{column}_high").alias("high"),
            pl.when(pl.col("n_tasks") == 0).then(pl.lit("no common task"))
            .when(pl.col(column).is_null()).then(pl.coalesce(reason, pl.lit("not measured"))).alias("note"),
        )
        for quantity, (column, reason) in quantities.items()
    ]  # fmt: skip
    keys = table.select("substrate", "metric", "hp_value").unique(maintain_order=True).with_row_index("_place")
    long = pl.concat(parts).join(keys, on=["substrate", "metric", "hp_value"], maintain_order="left", nulls_equal=True)
    said = pl.struct("_place", "quantity", "setting", "note").is_first_distinct()  # kinds share a line: once is enough
    long = long.with_columns(pl.when(said).then("note").alias("note"))
    return long.sort("_place", maintain_order=True).drop("_place", "hp_value")


def anatomy(marts: Marts) -> pl.DataFrame:
    """Rows of the noise anatomy, `in` tasks where a metric has them, `saebench` before `strict`; words added."""
    table = apart(rank(marts["noise_anatomy"]), ("in",))
    mode = pl.when(pl.col("mode") == "strict").then(pl.lit(", strict")).otherwise(pl.lit(""))
    order = {name: i for i, name in enumerate(SOURCES)}
    place = pl.col("source").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    named = _words(table).with_columns(
        (pl.col("metric_name") + mode).alias("setting"),
        pl.col("part").replace(PARTS).alias("part_name"),
        pl.col("source").replace(SOURCES).alias("source_name"),
        place.alias("_place"),
    )
    return (
        named.sort("part", "substrate", maintain_order=True)
        .sort("substrate", "part", "metric", "mode", "_place", maintain_order=True, nulls_last=False)
        .drop("_place")
    )


def noise_anatomy(marts: Marts) -> pl.DataFrame:
    """Shares of every source, common shift and relative noise apart; a note where there is none."""
    table = anatomy(marts).filter(pl.col("source") != "all")
    return table.select(
        "substrate", "part_name", "setting", "source", "source_name", pl.col("share").alias("value"),
        pl.col("share_low").alias("low"), pl.col("share_high").alias("high"), "sd", "n_blocks", "reason",
    )  # fmt: skip
