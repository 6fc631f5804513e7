"""The study's schema: good files load, bad ones are named with file, key and remedy before any work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sae_assay.errors import AssayError
from sae_assay.metrics import ground_truth, probing, scr, tpp
from sae_assay.study import Study
from sae_assay.study.metrics import COMPONENTS

ROOT = Path(__file__).parents[2]
DEFAULT: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())


def load(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Study:
    raw = copy.deepcopy(DEFAULT)
    change(raw)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    return Study.load(path)


@pytest.mark.parametrize("name", ["config.yaml", "studies/tiny.yaml", "studies/smoke.yaml"])
def test_every_shipped_study_loads(name: str) -> None:
    assert Study.load(ROOT / name).substrates


def test_components_are_those_that_the_metrics_give() -> None:
    assert COMPONENTS | probing.COMPONENTS == COMPONENTS
    for module in (ground_truth, tpp, scr):
        assert COMPONENTS[module.__name__.rpartition(".")[2]] == module.COMPONENTS


def test_snapshot_steps_are_log_spaced_and_end_with_training() -> None:
    mini = Study.load(ROOT / "config.yaml").substrates["mini"]
    steps = mini.snapshot_steps
    assert steps[0] == 1 and steps[-1] == 600_000 // 1024 == 585
    assert len(steps) == 8 and steps == sorted(set(steps))


def test_run_ids_are_unique_and_name_the_replicates() -> None:
    mini = Study.load(ROOT / "config.yaml").substrates["mini"]
    assert len(mini.finished_ids) == len(set(mini.finished_ids)) == 5 * 5 + 4
    assert {"batchtopk_l0_08_seed_1", "matryoshka_l0_08_seed_2"} <= set(mini.finished_ids)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["seeds"].update(evalution=[1]), ["seeds.evalution", "did you mean evaluation"]),
        (lambda c: c["seeds"].update(evaluation=[42, 42]), ["evaluation", "twice"]),
        (lambda c: c["seeds"].update(snapshot=[7]), ["snapshot", "[7]"]),
        (lambda c: c["metrics"]["tpp"].update(n=[10, 500]), ["tpp", "500", "d_sae"]),
        (lambda c: c["metrics"]["tpp"].update(n=[5]), ["metrics.tpp", "fault_ablation.n has [10]", "[5]"]),
        (lambda c: c["metrics"]["tpp"].update(modes=["strict"]), ["metrics.tpp", "saebench", "add it"]),
        (
            lambda c: c["metrics"]["tpp"]["fault_ablation"].update(modes=["fix_cells"]),
            ["tpp.fault_ablation.modes", "ties"],
        ),
        (lambda c: c["metrics"]["scr"]["fault_ablation"]["modes"].append("fix_cells"), ["['fix_cells'] twice"]),
        (lambda c: c["metrics"]["scr"]["fault_ablation"].update(mode=[]), ["fault_ablation.mode", "modes, n"]),
        (lambda c: c["metrics"]["sae_probes"].update(k_probe=[1000]), ["sae_probes", "1000"]),
        (lambda c: c["metrics"].update(tppp={}), ["metrics.tppp", "did you mean tpp"]),
        (lambda c: c["scorecard"]["primary"]["tpp"].pop("mode"), ["scorecard.primary.tpp.mode is missing", "strict"]),
        (lambda c: c["scorecard"]["primary"]["scr"].pop("hp"), ["scorecard.primary.scr.hp is missing"]),
        (lambda c: c["scorecard"]["primary"]["scr"].update(hp=11), ["scorecard.primary.scr.hp is 11", "10"]),
        (lambda c: c["scorecard"]["primary"]["sae_probes"].update(component="acc"), ["component is 'acc'", "auc"]),
        (lambda c: c["scorecard"]["primary"]["pure_noise"].update(hp=3), ["pure_noise.hp is 3", "leave it out"]),
        (lambda c: c["metrics"].pop("scr"), ["scorecard.primary.scr is declared", "metrics.scr is not"]),
        (lambda c: c["substrates"]["mini"]["panel"]["batchtopk"].update(l0=[200]), ["batchtopk", "200", "d_sae"]),
        (lambda c: c["substrates"]["mini"]["panel"].update(topkk={"l0": [3]}), ["topkk"]),
        (lambda c: c["substrates"]["mini"]["training"].update(lr="fast"), ["training.lr", "fast"]),
        (
            lambda c: c["substrates"]["mini"]["controls"].update(bases=["batchtopk_l0_8_seed_0"]),
            ["batchtopk_l0_08_seed_0"],
        ),
        (lambda c: c["substrates"]["mini"].pop("world"), ["mini", "world"]),
        (lambda c: c.pop("seeds"), ["seeds", "missing"]),
    ],
)
def test_bad_studies_name_the_key_and_the_remedy(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: list[str]
) -> None:
    with pytest.raises(AssayError) as caught:
        load(tmp_path, change)
    message = str(caught.value)
    assert str(tmp_path / "study.yaml") in message and "What to do" in message
    for word in words:
        assert word in message


def test_missing_study_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssayError, match="smoke, tiny"):
        Study.load("nonesuch")


def test_not_yaml(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1, 2")
    with pytest.raises(AssayError, match="not YAML"):
        Study.load(bad)
