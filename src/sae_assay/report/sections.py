"""The page's tables: which rows and columns of the marts, every number through `Cells`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl
from markupsafe import Markup

from sae_assay.report import paper, views
from sae_assay.report.cells import Cells
from sae_assay.report.names import ARCHITECTURES, CONTROLS, METRICS, TASK_KINDS, TRUTHS, label, setting
from sae_assay.report.views import CELL, Marts

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Head:
    text: Markup | str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page. The first column names the row; a row of one entry heads a group of rows.

    `summary` titles the table where it is folded away, `css` is its class.
    """

    caption: Markup | str
    heads: list[Head]
    rows: list[list[Markup | str]] = field(default_factory=list)
    summary: str = ""
    css: str = ""


def traced(table: Table, cells: Cells) -> Table:
    """The table with the numbers in its caption and heads made cells."""
    names = [Head(cells.text(head.text), head.numeric) for head in table.heads]
    return replace(table, caption=cells.text(table.caption), heads=names)


def grouped(caption: Markup | str, names: list[Head], rows: list[list[Markup | str]], summary: str = "") -> Table:
    """A table whose second column, the substrate, becomes headings of groups of rows."""
    body: list[list[Markup | str]] = []
    for substrate in dict.fromkeys(row[1] for row in rows):
        body.append([substrate])
        body.extend([row[0], *row[2:]] for row in rows if row[1] == substrate)
    return Table(caption, [names[0], *names[2:]], body, summary)


def heads(*names: str) -> list[Head]:
    """Columns; a leading `#` marks a numeric one."""
    return [Head(name.removeprefix("#"), name.startswith("#")) for name in names]


def chip(verdict: str, symbols: Mapping[str, str] = views.SYMBOLS) -> Markup:
    """A verdict as a word with its symbol, coloured."""
    name = verdict.lower().replace(" ", "_")
    symbol = Markup('<span aria-hidden="true">{}</span>').format(symbols[verdict]) if verdict in symbols else ""
    return Markup('<span class="verdict {}">{}<span class="word">{}</span></span>').format(name, symbol, verdict)


def verdict(cells: Cells, row: Row, mart: str = "scorecard") -> Markup:
    """The chip of a row's verdict, registered as a cell."""
    cells.show(mart, row, "verdict", "text")
    name = cells.id(mart, row, "verdict")
    return Markup('<data data-cell="{}">{}</data>').format(name, chip(row["verdict"]))


def _name(row: Row) -> str:
    kind = label(TASK_KINDS, row["task_kind"])
    tasks = f" · {kind}" if row["task_kind"] in ("in", "out", "mixed") else ""
    return setting(row["metric"], row["hp_name"], row["hp_value"]) + tasks


def _with_interval(cells: Cells, mart: str, row: Row, column: str, low: str, high: str, form: str) -> Markup:
    return cells.show(mart, row, column, form) + Markup(" ") + cells.interval(mart, row, low, high, form)


def _primary(marts: Marts, mart: str) -> list[dict[str, Any]]:
    return views.apart(views.primary(marts[mart], marts)).to_dicts()


def verdicts(marts: Marts, cells: Cells) -> Table:
    """The scorecard: a row a metric, grouped by substrate, a column a criterion."""
    headline = views.rank(marts["scorecard"].filter("headline")).sort("substrate", maintain_order=True)
    criteria = headline["criterion"].unique().sort().to_list()
    rows: list[list[Markup | str]] = []
    for (substrate,), group in headline.group_by(["substrate"], maintain_order=True):
        rows.append([substrate])
        for _, metric in group.group_by(["metric"], maintain_order=True):
            found = {row["criterion"]: row for row in metric.to_dicts()}
            first = next(iter(found.values()))
            name = setting(first["metric"], first["hp_name"], first["hp_value"])
            rows.append([name, *(verdict(cells, found[c]) if c in found else "" for c in criteria)])
    caption = (
        "Verdicts on each metric’s primary setting, declared before the run. Known validity should pass and pure noise "
        "should not: they put the audit itself on trial."
    )
    titles = dict(headline.select("criterion", "title").rows())
    columns = [Head(Markup('{} <small class="word">{}</small>').format(c, titles[c])) for c in criteria]
    return Table(caption, [Head("Metric"), *columns], rows, css="scorecard")


def evidence(marts: Marts, cells: Cells) -> Table:
    """Every headline verdict with its estimate, interval, threshold and reason."""
    rows = []
    ranked = views.rank(marts["scorecard"].filter("headline")).to_dicts()
    place = {metric: i for i, metric in enumerate(dict.fromkeys(row["metric"] for row in ranked))}
    for row in sorted(ranked, key=lambda row: (row["substrate"], place[row["metric"]], row["criterion"])):
        estimate = _with_interval(cells, "scorecard", row, "estimate", "low", "high", "fixed3")
        reason = cells.show("scorecard", row, "reason", "text") if row["reason"] else ""
        flips = "flips" if row["flips"] else "holds"
        rows.append(
            [
                setting(row["metric"], row["hp_name"], row["hp_value"]), row["substrate"],
                Markup("{} {}").format(row["criterion"], cells.show("scorecard", row, "statistic", "text")), estimate,
                cells.show("scorecard", row, "threshold", "fixed2"), verdict(cells, row), flips,
                cells.show("scorecard", row, "n_units", "integer"), reason,
            ]
        )  # fmt: skip
    names = heads(
        "Metric",
        "Substrate",
        "Statistic",
        "#Estimate (95 %)",
        "#Threshold",
        "Verdict",
        "At threshold ± 20 %",
        "#Units",
        "Why",
    )
    caption = "PASS: the interval lies wholly above the threshold. FAIL: wholly below. Otherwise INCONCLUSIVE."
    return grouped(caption, names, rows)


def between_worlds(marts: Marts, cells: Cells) -> Table:
    """Headline criteria over worlds of one recipe: mean, interval, SD between worlds; no rows where there is one world."""
    rows = []
    headline = marts["between_worlds"].filter("headline").with_columns(substrate="family")
    for row in views.rank(headline).to_dicts():
        counts = [cells.show("between_worlds", row, name, "integer") for name in ("n_pass", "n_fail", "n_worlds")]
        rows.append(
            [
                setting(row["metric"], row["hp_name"], row["hp_value"]), row["family"],
                Markup("{} {}").format(row["criterion"], row["title"]),
                _with_interval(cells, "between_worlds", row, "mean", "low", "high", "fixed3"),
                cells.show("between_worlds", row, "sd_between", "fixed3"),
                cells.show("between_worlds", row, "threshold", "fixed2"),
                verdict(cells, row, "between_worlds"),
                Markup("{} PASS, {} FAIL of {}").format(*counts),
                cells.show("between_worlds", row, "reason", "text") if row["reason"] else "",
            ]
        )  # fmt: skip
    names = heads(
        "Metric", "Worlds like", "Criterion", "#Mean over worlds (95 %)", "#SD between worlds", "#Threshold", "Verdict",
        "In single worlds", "Why",
    )  # fmt: skip
    caption = "The same recipe under other world seeds: what may be said of more than one world."
    return grouped(caption, names, rows, "Do the verdicts hold in other worlds?")


def noise(marts: Marts, cells: Cells) -> Table:
    """Lens 1 at the primary settings."""
    behaviour = {_key(row): row for row in marts["seed_behaviour"].to_dicts()}
    rows = []
    for row in _primary(marts, "reseed_noise"):
        seeds = behaviour.get(_key(row))
        rows.append(
            [
                _name(row), row["substrate"], cells.show("reseed_noise", row, "mean", "fixed3"),
                _with_interval(cells, "reseed_noise", row, "sigma_e", "sigma_e_low", "sigma_e_high", "significant2"),
                _with_interval(cells, "reseed_noise", row, "sigma_absolute", "sigma_absolute_low", "sigma_absolute_high", "significant2"),
                cells.show("reseed_noise", row, "cv_absolute", "significant2"),
                cells.show("reseed_noise", row, "mrd_relative", "significant2"),
                cells.show("reseed_noise", row, "mrd_absolute", "significant2"),
                Markup('<span class="nowrap">{}</span>').format(seeds["behaviour"].replace("_", " ") if seeds else "–"),
            ]
        )  # fmt: skip
    names = heads(
        "Metric", "Substrate", "#Mean", "#Relative noise (95 %)", "#Absolute noise (95 %)", "#CV",
        "#Reliable difference, same seed", "#Other seeds", "Seed",
    )  # fmt: skip
    caption = (
        "Reseed noise in score units. Two SAEs scored once each differ reliably only beyond the reliable difference."
    )
    return grouped(caption, names, rows)


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in [*CELL, "task_kind"])


def truth(marts: Marts, cells: Cells) -> Table:
    """Lens 2 at the primary settings."""
    oracle = {_key(row): row for row in marts["oracle_rank"].to_dicts()}
    rows = []
    for row in _primary(marts, "validity"):
        if row["truth"] != row["declared_truth"]:
            continue
        place = oracle.get(_key(row))
        above = ""
        if place is not None and row["task_kind"] in ("in", "__all__") and place["percentile"] is not None:
            counts = (
                cells.show("oracle_rank", place, "n_above", "integer"),
                cells.show("oracle_rank", place, "n_saes", "integer"),
            )
            above = Markup("{} of {}").format(*counts)
        rows.append(
            [
                _name(row), row["substrate"], label(TRUTHS, row["truth"]),
                _with_interval(cells, "validity", row, "residual", "residual_low", "residual_high", "+fixed2"),
                cells.show("validity", row, "residual_df", "integer"),
                _with_interval(cells, "validity", row, "spearman", "spearman_low", "spearman_high", "+fixed2"),
                cells.show("validity", row, "kendall", "+fixed2"), cells.show("validity", row, "n_saes", "integer"), above,
            ]
        )  # fmt: skip
    names = heads(
        "Metric", "Substrate", "Truth", "#Architecture and L0 fixed (95 %)", "#Degrees of freedom", "#Plain Spearman (95 %)",
        "#Kendall τ", "#SAEs", "#Above the oracle",
    )  # fmt: skip
    return grouped("Correlation of the metric with the truth declared for it, over trained SAEs.", names, rows)


def margins(marts: Marts, cells: Cells) -> Table:
    """Lens 2: what each control loses against its base, at the primary settings, on `in` tasks."""
    rows = []
    for row in views.apart(views.primary(marts["control_margins"], marts), ("in",)).to_dicts():
        if row["margin"] != "base_minus_control":
            continue
        expected = "equal" if row["expected_equal"] else "above zero" if row["applicable"] else "not applicable"
        low, high = (
            ("simultaneous_low", "simultaneous_high") if row["simultaneous_low"] is not None else ("low", "high")
        )
        rows.append(
            [
                _name(row), row["substrate"], label(CONTROLS, row["control"]), Markup("<code>{}</code>").format(cells.show("control_margins", row, "sae_id", "text")),
                _with_interval(cells, "control_margins", row, "difference", low, high, "+fixed3"), expected,
            ]
        )  # fmt: skip
    names = heads("Metric", "Substrate", "Control", "Base", "#Base minus control (simultaneous 95 %)", "A sane metric")
    return grouped(
        "How far each control falls below the SAE it was made from.", names, rows, "Margins over every control"
    )


def training(marts: Marts, cells: Cells) -> Table:
    """Lens 3 at the primary settings."""
    decided = {(*_key(row), row["truth"]): row for row in marts["decision_accuracy"].to_dicts()}
    parted = {_key(row): row for row in marts["separated_pairs"].filter(pl.col("step").is_null()).to_dicts()}
    rows = []
    for row in _primary(marts, "trajectory_contrast"):
        pairs = parted.get(_key(row))
        truth = row["declared_truth"]
        decision = decided.get((*_key(row), truth))
        contrast = f"truth_{truth}"
        share: Markup | str = ""
        if pairs is not None:
            share = _with_interval(cells, "separated_pairs", pairs, "share", "share_low", "share_high", "percent0")
        rows.append(
            [
                _name(row), row["substrate"], cells.show("trajectory_contrast", row, "n_runs", "integer"),
                _with_interval(cells, "trajectory_contrast", row, "difference", "low", "high", "+fixed3"),
                cells.show("trajectory_contrast", row, contrast, "+fixed3") if contrast in row else "",
                cells.show("trajectory_contrast", row, "spearman", "+fixed2"),
                _with_interval(cells, "decision_accuracy", decision, "accuracy", "low", "high", "percent0") if decision else "",
                share,
            ]
        )  # fmt: skip
    names = heads(
        "Metric", "Substrate", "#Runs", "#Late minus early (95 %)", "#The truth’s", "#ρ with log samples",
        "#Pairs ordered as the truth", "#Pairs separated (chance 5 %)",
    )  # fmt: skip
    caption = "Training runs: late third minus early third without the first step, and pairs of runs at matched steps."
    return grouped(caption, names, rows)


def recalibration(marts: Marts, cells: Cells) -> Table:
    """Lens 3: snapshots as trained and at their nominal L0, a row a metric and step at the primary settings."""
    mart = "recalibration"
    active = {
        (row["substrate"], row["step"]): row
        for row in marts[mart].filter(metric="reconstruction", component="l0").to_dicts()
    }
    rows = []
    for row in _primary(marts, mart):
        l0 = active.get((row["substrate"], row["step"]))
        rows.append(
            [
                _name(row), row["substrate"], cells.show(mart, row, "step", "integer"), cells.show(mart, row, "n_runs", "integer"),
                *(cells.show(mart, l0, form, "significant2") if l0 else "" for form in ("trained", "recalibrated")),
                cells.show(mart, row, "trained", "fixed3"), cells.show(mart, row, "recalibrated", "fixed3"),
                _with_interval(cells, mart, row, "difference", "low", "high", "+fixed3"),
            ]
        )  # fmt: skip
    names = heads(
        "Metric", "Substrate", "#Step", "#Runs", "#L0 as trained", "#L0 recalibrated", "#Score as trained", "#Recalibrated",
        "#Difference (95 %)",
    )  # fmt: skip
    caption = (
        "A BatchTopK snapshot carries the threshold that training has reached by then, and early on fires far more latents "
        "than its k says. The same snapshots with the threshold moved to the nominal L0 on held-out rows, same tasks and seeds."
    )
    return grouped(caption, names, rows, "How much of a trajectory is its threshold?")


def repairs(marts: Marts, cells: Cells) -> Table:
    """The fault ablation: a row a metric, kind of tasks and repaired mode."""
    rows = []
    for row in views.repairs(marts).to_dicts():

        def show(column: str, form: str, row: Row = row) -> Markup:
            return cells.show("fault_ablation", row, column, form)

        def span(column: str, form: str, row: Row = row) -> Markup:
            return _with_interval(cells, "fault_ablation", row, column, f"{column}_low", f"{column}_high", form)

        rows.append(
            [
                f"{_name(row)}: {row['repair']}", row["substrate"],
                Markup("{} of {}").format(show("n_tasks", "integer"), show("n_tasks_saebench", "integer")),
                show("residual_saebench", "+fixed2"), show("residual_repaired", "+fixed2"), span("residual_change", "+fixed2"),
                show("sigma_e_saebench", "significant2"), span("noise_ratio", "fixed2"),
                show("rho_1_saebench", "fixed2"), show("rho_1_repaired", "fixed2"),
            ]
        )  # fmt: skip
    names = heads(
        "Repair", "Substrate", "#Common tasks", "#Validity, saebench", "#Repaired", "#Change (95 %)", "#Noise, saebench",
        "#Times (95 %)", "#E ρ², saebench", "#Repaired",
    )  # fmt: skip
    caption = (
        "Both modes on the tasks that are defined in both for every SAE and seed, of those defined in mode saebench. Noise is "
        "relative reseed noise; E ρ² is the share of a score at one seed that is the SAE’s own, whatever the score’s scale."
    )
    return grouped(caption, names, rows, "Validity and noise under every repair")


def coverage(marts: Marts, cells: Cells) -> Table:
    """Planned and scored cells, and why the rest is null: a row a substrate, panel and metric."""
    table = views.rank(marts["coverage"])
    rows = []
    for (substrate, panel, metric), group in table.group_by(["substrate", "panel", "metric"], maintain_order=True):
        lines = {row["status"]: row for row in group.to_dicts()}
        first = next(iter(lines.values()))
        why = [
            Markup("{} {}{}").format(
                cells.show("coverage", row, "n_rows", "count"),
                status.replace("_", " "),
                Markup(": {}").format(cells.show("coverage", row, "reason", "text")) if row["reason"] else "",
            )
            for status, row in lines.items()
            if status != "ok" and row["n_rows"]
        ]
        ok = cells.show("coverage", lines["ok"], "n_rows", "count") if "ok" in lines else "none"
        rows.append(
            [
                label(METRICS, metric), substrate, panel, cells.show("coverage", first, "n_planned", "count"),
                cells.show("coverage", first, "n_scored", "count"), ok, Markup("<br>").join(why),
            ]
        )  # fmt: skip
    names = heads(
        "Metric", "Substrate", "SAEs", "#Planned (SAE × seed)", "#Scored", "#Rows with a number", "Rows without"
    )
    return grouped("Cells planned and scored, and rows that have no number.", names, rows)


def comparison(lens: str, marts: Marts, cells: Cells, design: Mapping[str, Any]) -> Table:
    """Published numbers of a lens beside this study's: a row a statistic, a column a substrate."""
    reference = {name for name, section in design["substrates"].items() if paper.same_world(section)}
    substrates = marts["scorecard"]["substrate"].unique().sort().to_list()
    if lens == "ground_truth":  # a language model has none
        known = {name for name, section in design["substrates"].items() if section["kind"] != "lm"}
        substrates = [name for name in substrates if name in known]
    rows: list[list[Markup | str]] = []
    for published in paper.published().filter(pl.col("lens") == lens).to_dicts():
        match = paper.MATCHES.get(published["statistic"])
        if match is None:
            continue
        theirs = cells.show("paper", published, "value", match.paper_form)
        if match.with_unit:
            theirs += Markup(" ") + cells.show("paper", published, "unit", "text")
        if published["confidence"] != "primary":
            theirs += Markup(' <small class="hand">{}</small>').format(
                cells.show("paper", published, "confidence", "text")
            )
        what = f"{setting(published['metric'], published['hp_name'], published['hp_value'])}: {match.words}"
        found = {row["substrate"]: row for row in paper.matching(published, match, marts[match.mart])}
        judged = {name: not match.world or name in reference for name in substrates}
        here = [_beside(cells, match, published["value"], found.get(name), judged[name]) for name in substrates]
        rows.append([what, theirs, *here])
    caption = {
        "reseed": "Published numbers are of other SAEs, on Gemma-2-2b and with an unknown cache policy: shown, not judged.",
        "ground_truth": (
            "Published numbers are of the world SynthSAEBench-16k"
            + ("" if reference else ", which is not this study’s: sizes of scores do not carry over")
            + ". AGREES: the 95 % interval holds the published value, or the same order is seen."
        ),
        "trajectory": "AGREES: the 95 % interval lies on the published side of zero; UNDECIDED: it holds zero.",
    }[lens]
    numeric = [f"#{name}" for name in substrates]
    caption += " Second hand: read from the paper’s text or from a summary of it, not recomputed from its data."
    return Table(
        caption, heads("Published statistic", "#Paper", *numeric), rows, "Published numbers beside this study’s"
    )


def _beside(
    cells: Cells, match: paper.Match, value: float, row: dict[str, Any] | None, comparable: bool
) -> Markup | str:
    if row is None or row.get("n_saes") == 0:
        return "not measured"
    here = cells.show(match.mart, row, match.column, match.form)
    if match.low and match.high:
        here += Markup(" ") + cells.interval(match.mart, row, match.low, match.high, match.form)
    if match.rule == "below":
        here = Markup("{} of {}").format(here, cells.show(match.mart, row, "n_saes", "integer"))
    if not comparable:
        return here + Markup("<br>") + chip(paper.NOT_COMPARABLE)
    return here if match.rule == "shown" else here + Markup("<br>") + chip(paper.verdict(match, value, row))


def joined(parts: Iterable[str], names: Mapping[str, str] = ARCHITECTURES) -> str:
    """`A, B and C`, by display name."""
    words = [label(dict(names), part) for part in parts]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" and {words[-1]}" if words else "none"
