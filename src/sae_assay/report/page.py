"""The page: one HTML file that opens offline, built from the marts, the charts and the study's design.

Nothing is computed here. Numbers come from `Cells`, which registers each; words come from this module and the template.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup, escape

from sae_assay.report import anatomy, claims, gallery, paper, seconds, sections, sources, style, views
from sae_assay.report.cells import Cells, prose, shown
from sae_assay.statistics import contracts, findings

Marts = Mapping[str, pl.DataFrame]

TITLE = "Can these sparse-autoencoder benchmarks be trusted?"
QUESTION = (
    "Each metric is put on trial: is its score repeatable under a reseed, does it follow the ground truth, "
    "and can it tell SAEs apart along a training trajectory?"
)
LENSES = {
    "reseed": "Lens 1 · Reseed noise",
    "ground_truth": "Lens 2 · Ground truth",
    "trajectory": "Lens 3 · Trajectories",
}
ASKS = {
    "reseed": "One fixed SAE is scored again and again; only the evaluation seed changes. How much of a score is luck?",
    "ground_truth": "SAEs of a synthetic world whose true features are known. Does the metric rank them as the truth does, put a perfect oracle on top and broken controls at the bottom?",
    "trajectory": "Snapshots of SAEs along their training. Does the score rise as the SAE trains, and can it order two runs at the same step as the truth does?",
}
FAULTS = "How much is the idea, how much the implementation?"
FAULTS_WORDS = (
    "SAEBench’s and the audit’s own procedures have faults: a probe’s epoch is chosen on test rows, SCR’s test rows train its "
    "biased probe and come at the cells’ natural rates, TPP draws new negatives for every accuracy and may ablate latents of no "
    "effect, and SCR may report another direction at another seed. Each is repaired alone, and all but the last together. What a "
    "repair changes is the implementation’s; what stays is the idea’s."
)
LENS_CHARTS = {
    "reseed": ("reseed_noise", "reseed_noise_to_range"),
    "ground_truth": ("truth_scatter", "truth_validity", "truth_controls"),
    "trajectory": ("trajectories", "trajectory_decisions"),
}
HELP = {
    "scorecard": "The last two metrics put the audit itself on trial: known validity is the truth plus a little noise and should pass, pure noise should fail.",
    "reseed_noise": "Relative noise is what remains after the shift that all SAEs share at one seed: it matters when SAEs are compared on one evaluation set. Absolute noise includes the shift: it matters across seeds and papers. Further left is better.",
    "reseed_noise_to_range": "A noise of one tenth means that one standard deviation of luck is a tenth of the way from a random SAE to a perfect one. This compares between metrics. Bands show the noise’s interval; the range is taken as known.",
    "truth_scatter": "A valid metric climbs from left to right within each colour, not only from colour to colour. The oracle is judged on `in` tasks: it has no latent for `out` features.",
    "truth_validity": "Metric and truth both change smoothly with L0 and by architecture, so a plain rank correlation can be high by accident. The solid line removes both effects; a wide band means that the panel is too small to tell.",
    "truth_controls": "A sane metric has the oracle at the right end, and random or damaged SAEs at the left. An encoder-only metric must give a permuted decoder exactly its base’s score.",
    "trajectories": "Where the lines of the truth rise and a metric’s fall, the metric punishes training. Lines inside each other’s bands cannot be told apart by one scoring.",
    "fault_ablation": "Left: above zero, the repair makes the metric follow the truth better among SAEs of equal architecture and L0. Right: below one, it makes scores steadier, or all of them smaller: the table’s E ρ² tells which. Strict mode keeps SCR’s choice of direction.",
    "noise_anatomy": anatomy.HELP,
    "trajectory_decisions": "A coin scores one half. Only pairs whose truth clearly differs count. On a language model there is no truth: shown is how often a scoring agrees with the metric’s other seeds.",
}
NOTHING = Markup("Not measured in this study.")
CRITERIA = (
    ("D1", "Repeatable: most of a score’s variance at one seed is the SAE’s own (E ρ²)."),
    ("D1n", "Repeatable as a mean over all of the study’s evaluation seeds."),
    ("D2", "Discriminating: one scoring orders a pair of SAEs as the truth does (share of pairs)."),
    ("D3", "Improves with training: late minus early is above zero, with the truth’s sign."),
    ("D4", "Valid: it follows the truth among SAEs of equal architecture and L0 (residual correlation)."),
    ("D5", "Sane on controls: oracle above trained SAEs, every base above its damaged controls."),
)
LIMITS = (
    "Absorption, RAVEL, AutoInterp and unlearning are not scored.",
    "A verdict speaks of this world and these SAEs: one world seed, small SAEs, short training.",
    "On fixed text, reseed noise is that of another seed of this benchmark, not of new text.",
    "No step of this study touches Gemma-2-2b, the model of the paper; published noise is shown, not judged.",
)


@dataclass(frozen=True)
class Chart:
    """A chart's files as the page embeds them: the specification's JSON text and the SVG's."""

    spec: str
    svg: str


VEGA_SHA256 = "53ed99f67b5980bad38b75111a1a0ac977d40a3e2926085ef02ed4810f06e3f7"
"""SHA-256 of `vega_bundle` as the locked vl-convert makes it, in two seconds."""


@lru_cache(maxsize=1)
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the copy inside vl-convert; packed."""
    import vl_convert

    return packed(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def packed(text: str) -> str:
    """Deflated, in base64, as page.js unpacks it: Vega alone would be 900 kB as it is."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _script_json(value: Any) -> Markup:
    """JSON that cannot end its script element."""
    return Markup(_text_of(value).replace("<", "\\u003c"))


def _text_of(value: Any) -> str:
    """Canonical JSON, one line."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _image(svg: str) -> Markup:
    """An SVG as a data URI for a double-quoted attribute, escaped only where it must be (base64 is a third larger)."""
    escapes = str.maketrans({"&": "&amp;", "'": "&amp;apos;", '"': "'", "%": "%25", "#": "%23", "\n": "%0A"})
    return Markup("data:image/svg+xml," + svg.translate(escapes))


METHOD: dict[str, tuple[float, str]] = {
    "method.threshold_shift": (0.2, "statistics/sql/scorecard.sql"),
    "method.test_level": (0.05, "statistics/sql/separated_pairs.sql"),
}
"""Constants of the method that the page mentions, and the query in which each stands."""


def study_numbers(design: Mapping[str, Any]) -> pl.DataFrame:
    """The numbers of the design and the method that the page mentions, as a table (path, value), so that they are cells."""
    seeds = design["seeds"]
    numbers: dict[str, float] = {name: value for name, (value, _) in METHOD.items()}
    numbers |= {
        "seeds.evaluation": len(seeds["evaluation"]),
        "seeds.snapshot": len(seeds["snapshot"]),
        "scorecard.confidence": design["scorecard"]["confidence"],
    }
    for name, substrate in design["substrates"].items():
        numbers[f"{name}.d_sae"] = substrate["d_sae"]
        numbers[f"{name}.training.samples"] = substrate["training"]["samples"]
        if substrate.get("world"):
            numbers[f"{name}.num_features"] = substrate["world"]["num_features"]
            numbers[f"{name}.hidden_dim"] = substrate["world"]["hidden_dim"]
        if substrate.get("lm"):
            numbers[f"{name}.layer"] = substrate["lm"]["layer"]
            numbers[f"{name}.probe_datasets"] = len(substrate["lm"]["probe_datasets"])
    return pl.DataFrame({"path": list(numbers), "value": [float(v) for v in numbers.values()]})


def make_cells(marts: Marts, design: Mapping[str, Any]) -> Cells:
    """Cells over the marts, the published numbers (`paper`) and the design (`study`)."""
    keys = {name: tuple(contracts.contract(name)["grain"]) for name in marts}
    tables = dict(marts) | {"paper": paper.published(), "study": study_numbers(design)}
    if (measured := seconds.measured(design)) is not None:
        tables[seconds.TABLE], keys[seconds.TABLE] = measured, seconds.KEY
    keys |= {"paper": ("lens", "substrate", "metric", "hp_name", "hp_value", "statistic"), "study": ("path",)}
    return Cells(tables, keys)


def method(design: Mapping[str, Any], cells: Cells) -> list[Markup]:
    """How the study was done, from its design."""

    def n(path: str, form: str = "count") -> Markup:
        return cells.show("study", {"path": path}, "value", form)

    lines = []
    for name, substrate in design["substrates"].items():
        archs = sections.joined(substrate["panel"])
        common = Markup("SAEs have {} latents and train on {} samples: {}.").format(
            n(f"{name}.d_sae"), n(f"{name}.training.samples"), archs
        )
        if substrate.get("world"):
            about = Markup("<b>{}</b> is a synthetic world of {} features in {} dimensions. ").format(
                name, n(f"{name}.num_features"), n(f"{name}.hidden_dim")
            )
        else:
            about = Markup(
                "<b>{}</b> is the residual stream after block {} of a language model, on {} labelled text sets. "
            ).format(name, n(f"{name}.layer", "integer"), n(f"{name}.probe_datasets"))
        lines.append(about + common)
    for name in design.get("imported", {}):
        text = "<b>{}</b> holds scores that others computed, taken from SAEBench’s result files; nothing of it was scored here."
        lines.append(Markup(text).format(name))
    lines.append(
        Markup(
            "Finished SAEs and controls are scored at {} evaluation seeds, unfinished snapshots at {}. At one seed every SAE "
            "meets the same rows, tasks and probes, so that comparisons are paired. Numeric profile: {}. "
            "Intervals are {} intervals; the unit of replication is the seed (noise), the architecture × L0 cell (validity) "
            "or the training run (trajectories)."
        ).format(
            n("seeds.evaluation"),
            n("seeds.snapshot"),
            design.get("numeric_profile", "–"),
            n("scorecard.confidence", "percent0"),
        )
    )
    lines.append(
        Markup(
            "TPP and SCR come in two whole modes: <code>saebench</code> keeps SAEBench’s procedure, its faults included; "
            "<code>strict</code> scores the same rows clean and ablated, and leaves undefined what is undefined. Each "
            "metric’s primary setting and every threshold were declared before the run. Tasks on features inside an SAE’s "
            "dictionary (<code>in</code>) and beyond it (<code>out</code>) are kept apart."
        )
    )
    return lines


def verdict_note(marts: Marts, cells: Cells) -> Markup:
    """What the verdicts mean, and why so many may be inconclusive."""
    headline = marts["scorecard"].filter("headline")
    count = Counter(headline["verdict"].to_list())
    rule = "PASS and FAIL need the whole 95 % interval on one side of the threshold; otherwise INCONCLUSIVE. "
    note = cells.text(rule)
    if count["INCONCLUSIVE"]:
        valid = views.primary(marts["validity"], marts).filter(pl.col("residual_df").is_not_null())
        valid = valid.filter(pl.col("truth") == pl.col("declared_truth"), pl.col("task_kind").is_in(["all", "__all__"]))
        note += Markup(
            "An INCONCLUSIVE verdict says that this study is too small to tell, not that the metric is fair. "
        )
        if not valid.is_empty():
            smallest = valid.sort("residual_df", maintain_order=True).to_dicts()[0]
            if smallest["residual_df"] > 0:
                df = cells.show("validity", smallest, "residual_df", "integer")
                note += Markup("Small panel: D4 rests on {} degrees of freedom. ").format(df)
            else:
                note += Markup("D4 needs more SAEs than this panel has. ")
    return note + Markup("Estimates and reasons are in the <a href='#scorecard'>scorecard</a>.")


def sentence(finding: findings.Finding, cells: Cells) -> Markup:
    """A finding as HTML, its numbers as cells."""
    numbers = [cells.show(n.mart, n.row, n.column, n.form) for n in finding.numbers]
    return Markup(escape(finding.template)).format(*numbers)


def plain(number: findings.Number) -> str:
    """A finding's number as plain text, as the page shows it."""
    return shown(number.value, number.form)


def lens(name: str, marts: Marts, cells: Cells, design: Mapping[str, Any], found: list[Markup]) -> dict[str, Any]:
    """One lens' section."""
    tables = {"reseed": [sections.noise], "ground_truth": [sections.truth], "trajectory": [sections.training]}[name]
    details = {"ground_truth": [sections.margins]}.get(name, [])
    if name == "trajectory" and not marts["recalibration"].is_empty():
        details = [sections.recalibration]
    return {
        "id": name,
        "title": LENSES[name],
        "question": ASKS[name],
        "paper": paper.FINDINGS[name],
        "here": [*found, *claims.of_lens(name, marts, cells)] or [NOTHING],
        "folded": name == "reseed",
        "comparison": sections.traced(sections.comparison(name, marts, cells, design), cells),
        "charts": LENS_CHARTS[name],
        "tables": [sections.traced(table(marts, cells), cells) for table in tables],
        "details": [sections.traced(table(marts, cells), cells) for table in details],
    }


def faults(marts: Marts, cells: Cells) -> dict[str, Any]:
    """The section on the fault ablation."""
    return {
        "title": FAULTS,
        "words": FAULTS_WORDS,
        "here": claims.repairs(marts, cells) or [NOTHING],
        "table": sections.traced(sections.repairs(marts, cells), cells),
    }


def _charts(charts: Mapping[str, Chart], cells: Cells) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "title": gallery.TITLES[name],
            "caption": cells.text(gallery.SUBTITLES[name][0].rstrip(".") + "."),
            "alt": gallery.SUBTITLES[name][0],
            "help": prose(HELP[name]),
            "spec": packed(charts[name].spec),
            "image": _image(charts[name].svg),
        }
        for name in charts
    }


def render(
    study: str,
    marts: Marts,
    charts: Mapping[str, Chart],
    design: Mapping[str, Any],
    digests: Mapping[str, str] | None = None,
    vega: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """The page and its cells.

    Args:
        study: its name.
        marts: every statistic, by name.
        charts: every chart of CHART_NAMES.
        design: the study as `Study.model_dump(mode="json", by_alias=True)`.
        digests: path -> SHA-256 of the study's tables and marts.
        vega: the text of `vega_bundle`, where it is at hand.

    Returns:
        HTML, and the content of cells.json: `findings` (lens, text: one main finding a lens), `cells`
        (id, mart, key, column, raw, format, shown), `sources` (a record a table) and `charts` (a record a chart).
    """
    cells = make_cells(marts, design)
    charts = {name: charts[name] for name in gallery.on_page(marts)}
    found = {name: [sentence(f, cells) for f in findings.of_lens(name, marts)] for name in LENSES}
    context = {
        "study": study,
        "title": TITLE,
        "question": QUESTION,
        "findings": [{"lens": LENSES[name], "text": (lines or [NOTHING])[0]} for name, lines in found.items()],
        "verdicts": sections.traced(sections.verdicts(marts, cells), cells),
        "verdict_note": verdict_note(marts, cells),
        "criteria": [c for c in CRITERIA if c[0] in marts["scorecard"].filter("headline")["criterion"].to_list()],
        "evidence": sections.traced(sections.evidence(marts, cells), cells),
        "worlds": sections.traced(sections.between_worlds(marts, cells), cells),
        "lenses": [lens(name, marts, cells, design, found[name]) for name in LENSES],
        "faults": faults(marts, cells),
        "anatomy": anatomy.section(marts, cells),
        "coverage": sections.traced(sections.coverage(marts, cells), cells),
        "method": method(design, cells),
        "seconds": seconds.section(design, cells),
        "limits": LIMITS,
        "contents": [
            ("scorecard", "Scorecard"), *LENSES.items(), ("faults", "Idea or implementation"),
            *([("anatomy", "Where noise comes from")] if "noise_anatomy" in charts else []), ("coverage", "Coverage"),
            ("method", "Method"), ("reproduce", "Reproduce and check"),
        ],
        "charts": _charts(charts, cells),
        "dark_json": _script_json(style.DARK),
        "vega": Markup(vega or vega_bundle()),
    }  # fmt: skip
    listed: dict[str, Any] = {
        "study": study,
        "findings": [{"lens": f.lens, "text": f.fill(plain)} for f in findings.main(marts)],
        "cells": cells.list(),
        "charts": sources.of_charts({name: chart.spec for name, chart in charts.items()}),
    }
    drawn = {mart for chart in listed["charts"] for mart in chart["marts"]}
    named = drawn | {cell["mart"] for cell in listed["cells"]}
    listed["sources"] = sources.of_tables(study, named, design, digests or {})
    context["cells_packed"] = Markup(packed(_text_of(compact(listed))))
    return _template().render(context) + "\n", listed


def compact(listed: Mapping[str, Any]) -> dict[str, Any]:
    """The same list for embedding: rows instead of records, key columns named once a mart; page.js reads it."""
    keys = {cell["mart"]: list(cell["key"]) for cell in listed["cells"]}
    columns = ["id", "mart", "column", "raw", "format", "shown"]
    rows = [[cell[c] for c in columns] + [list(cell["key"].values())] for cell in listed["cells"]]
    return {**listed, "keys": keys, "columns": [*columns, "key"], "cells": rows}


def _template() -> jinja2.Template:
    folder = resources.files("sae_assay.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
    )
    environment.globals |= {"css": Markup(_text("style.css")), "js": Markup(_text("page.js"))}
    return environment.get_template("report.html.j2")


def _text(name: str) -> str:
    return (resources.files("sae_assay.report") / "templates" / name).read_text(encoding="utf-8")
