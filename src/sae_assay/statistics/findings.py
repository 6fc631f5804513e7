"""What a study found, in sentences whose numbers point at mart cells: one main finding a lens, then its details.

A sentence is a template; its numbers are named cells of marts, so that a page can link each of them to its row. Metrics
that put the audit itself on trial (`known_validity`, `pure_noise`) are left out: they are no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

LENSES = ("reseed", "ground_truth", "trajectory")
ON_TRIAL_THEMSELVES = ("known_validity", "pure_noise")
NAMES = {"tpp": "TPP", "scr": "SCR", "sparse_probing": "sparse probing", "sae_probes": "sae-probes"}
CELL = ("substrate", "metric", "component", "hp_name", "hp_value", "mode", "task_kind")

Marts = Mapping[str, pl.DataFrame]
Row = dict[str, Any]


@dataclass(frozen=True)
class Number:
    """One cell of a mart: `row` holds at least its key, `form` is a format's name (report/cells.py)."""

    mart: str
    row: Row
    column: str
    form: str

    @property
    def value(self) -> Any:
        """The raw number; None where it could not be computed."""
        return self.row[self.column]


@dataclass(frozen=True)
class Finding:
    """A sentence: `template` holds `{0}`, `{1}` ... for `numbers`."""

    lens: str
    template: str
    numbers: tuple[Number, ...]

    def fill(self, show: Callable[[Number], str]) -> str:
        """The sentence, each number as `show` writes it."""
        return self.template.format(*[show(number) for number in self.numbers])


def main(marts: Marts) -> list[Finding]:
    """The first finding of every lens that has one, in the lenses' order."""
    return [found[0] for lens in LENSES if (found := of_lens(lens, marts))]


def of_lens(lens: str, marts: Marts) -> list[Finding]:
    """Findings of a lens, one a substrate and question; worlds first, since their truth is known.

    Args:
        lens: one of `LENSES`.
        marts: every mart by name.

    Raises:
        KeyError: an unknown lens.
    """
    questions = {
        "reseed": (_repeatability, _reliable_difference),
        "ground_truth": (_validity, _oracle),
        "trajectory": (_decisions, _training),
    }[lens]
    return [
        Finding(lens, template, tuple(numbers))
        for question in questions
        for substrate in _substrates(marts)
        for template, numbers in question(marts, substrate)
    ]


def _substrates(marts: Marts) -> list[str]:
    """Those with ground truth first, each group by name."""
    worlds = set(marts["validity"]["substrate"])
    return sorted(set(marts["scorecard"]["substrate"]), key=lambda name: (name not in worlds, name))


def _verdicts(marts: Marts, substrate: str, criterion: str) -> list[Row]:
    """Measured headline verdicts on real metrics, from the lowest estimate to the highest."""
    card = marts["scorecard"].filter(
        "headline",
        ~pl.col("metric").is_in(ON_TRIAL_THEMSELVES),
        pl.col("estimate").is_not_null(),
        pl.col("verdict") != "NOT MEASURED",
        substrate=substrate,
        criterion=criterion,
    )
    return card.sort("estimate", "metric").to_dicts()


def _headline(marts: Marts, mart: str, substrate: str, column: str) -> list[Row]:
    """Rows of a mart at the metrics' primary settings, on the tasks of the headline, where a column has a value, lowest
    first."""
    card = marts["scorecard"].filter("headline", ~pl.col("metric").is_in(ON_TRIAL_THEMSELVES), substrate=substrate)
    rows = marts[mart].join(card.select(CELL).unique(), on=CELL, how="semi", nulls_equal=True)
    return rows.filter(pl.col(column).is_not_null()).sort(column, "metric", "task_kind").to_dicts()


def _name(row: Row) -> str:
    return NAMES.get(row["metric"], row["metric"].replace("_", " "))


def _setting(row: Row) -> str:
    name = _name(row)
    return name if row["hp_value"] is None else f"{name} ({row['hp_name']} = {row['hp_value']})"


VERDICTS = ("PASS", "INCONCLUSIVE", "FAIL")


def _ranked(rows: list[Row], form: str) -> tuple[str, list[Number]]:
    """`PASS: A {0} ({1} to {2}), B {3} (...); FAIL: C {6} (...)`, the highest estimate first within a verdict."""
    groups: list[str] = []
    numbers: list[Number] = []
    for verdict in VERDICTS:
        parts: list[str] = []
        for row in (row for row in reversed(rows) if row["verdict"] == verdict):
            at = len(numbers)
            numbers += [Number("scorecard", row, column, form) for column in ("estimate", "low", "high")]
            whole = row["low"] is not None and row["high"] is not None
            parts.append(f"{_name(row)} {{{at}}}" + (f" ({{{at + 1}}} to {{{at + 2}}})" if whole else ""))
        if parts:
            groups.append(f"{verdict}: {', '.join(parts)}")
    return "; ".join(groups), numbers


Sentences = Iterator[tuple[str, list[Number]]]


def _ranking(marts: Marts, substrate: str, criterion: str, form: str, question: str) -> Sentences:
    rows = _verdicts(marts, substrate, criterion)
    if rows:
        parts, numbers = _ranked(rows, form)
        yield f"On {substrate}, {question}. {parts}.", numbers


def _repeatability(marts: Marts, substrate: str) -> Sentences:
    return _ranking(marts, substrate, "D1", "fixed2", "the share of a score at one seed that is the SAE’s own")


def _validity(marts: Marts, substrate: str) -> Sentences:
    question = "the correlation with the truth once architecture and L0 are taken out"
    return _ranking(marts, substrate, "D4", "+fixed2", question)


def _decisions(marts: Marts, substrate: str) -> Sentences:
    question = "the chance that one scoring orders two training runs as the truth does (one half is a coin)"
    return _ranking(marts, substrate, "D2", "fixed2", question)


def _training(marts: Marts, substrate: str) -> Sentences:
    return _ranking(marts, substrate, "D3", "+fixed3", "the change of the score from early to late training")


def _reliable_difference(marts: Marts, substrate: str) -> Sentences:
    rows = _headline(marts, "reseed_noise", substrate, "mrd_relative")
    if rows:
        parts = [f"{_setting(row)} {{{i}}}" for i, row in enumerate(rows)]
        numbers = [Number("reseed_noise", row, "mrd_relative", "significant2") for row in rows]
        text = f"On {substrate}, two SAEs scored once on the same seed differ reliably only beyond: {', '.join(parts)}."
        yield text, numbers


def _oracle(marts: Marts, substrate: str) -> Sentences:
    rows = _headline(marts, "oracle_rank", substrate, "percentile")
    if rows:
        parts: list[str] = []
        numbers: list[Number] = []
        for row in rows:
            parts.append(f"{_setting(row)} {{{len(numbers)}}} of {{{len(numbers) + 1}}}")
            numbers += [Number("oracle_rank", row, column, "integer") for column in ("n_above", "n_saes")]
        yield f"On {substrate}, trained SAEs that score above the oracle on in tasks: {', '.join(parts)}.", numbers
