"""Findings: sentences whose every number is a mart's cell."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from tests.statistics import factory

from sae_assay.statistics import contracts, findings, runner


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    folder: Path = factory.marts(tmp_path_factory.mktemp("findings"))
    return {name: pl.read_parquet(folder / f"{name}.parquet") for name in runner.MARTS}


def test_each_lens_has_a_main_finding_about_the_world(marts: dict[str, pl.DataFrame]) -> None:
    found = findings.main(marts)
    assert [f.lens for f in found] == list(findings.LENSES)
    assert all(f.template.startswith("On mini, ") for f in found)


def test_every_number_is_in_its_mart(marts: dict[str, pl.DataFrame]) -> None:
    for lens in findings.LENSES:
        for finding in findings.of_lens(lens, marts):
            assert len(finding.numbers) > 0
            for number in finding.numbers:
                key = {name: number.row[name] for name in contracts.contract(number.mart)["grain"]}
                same = [pl.col(name).eq_missing(value) for name, value in key.items()]
                assert marts[number.mart].filter(*same)[number.column].to_list() == [number.value]
            text = finding.fill(lambda n: f"{n.value:.2f}")
            assert not re.search(r"[{}]|known|noise_", text)


def test_the_ranking_and_its_verdicts_are_the_scorecards(marts: dict[str, pl.DataFrame]) -> None:
    text = findings.main(marts)[0].fill(lambda n: f"{n.value:.2f}")
    card = marts["scorecard"].filter("headline", criterion="D1", substrate="mini", metric="sparse_probing")
    assert card["verdict"][0] == "PASS"
    passed, failed = text.split(". PASS: ")[1].split("; FAIL: ")
    assert f"sparse probing {card['estimate'][0]:.2f} ({card['low'][0]:.2f} to {card['high'][0]:.2f})" in passed
    assert "SCR" in failed and "TPP" in failed and "sparse probing" not in failed


def test_a_study_without_truth_has_no_finding_on_it(marts: dict[str, pl.DataFrame]) -> None:
    bare = {
        n: m.filter(pl.col("substrate") == "smollm2") if "substrate" in m.columns else m.clear()
        for n, m in marts.items()
    }
    assert findings.of_lens("ground_truth", bare) == []
    assert [f.lens for f in findings.main(bare)] == ["reseed", "trajectory"]
