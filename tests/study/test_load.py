"""The study's schema: good files load, bad ones are named with file, key and remedy before any work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from sae_assay.errors import AssayError
from sae_assay.lms import library_text, registry, text
from sae_assay.metrics import ground_truth, probing, scr, tpp
from sae_assay.plan import Plan
from sae_assay.study import Study
from sae_assay.study.metrics import COMPONENTS
from sae_assay.study.worlds import Tasks, WorldConfig

ROOT = Path(__file__).parents[2]
DEFAULT: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())


def load(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Study:
    raw = copy.deepcopy(DEFAULT)
    change(raw)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    return Study.load(path)


@pytest.mark.parametrize(
    "name", ["config.yaml", *(f"studies/{path.name}" for path in sorted((ROOT / "studies").glob("*.yaml")))]
)
def test_every_shipped_study_loads(name: str) -> None:
    assert Study.load(ROOT / name).substrates


def test_components_are_those_that_the_metrics_give() -> None:
    assert COMPONENTS | probing.COMPONENTS == COMPONENTS
    for module in (ground_truth, tpp, scr):
        assert COMPONENTS[module.__name__.rpartition(".")[2]] == module.COMPONENTS


def test_the_reference_study_is_the_papers() -> None:
    section = Study.load(ROOT / "studies/synth16k.yaml").substrates["synth16k"]
    world = section.world
    assert world == WorldConfig.model_validate({"num_features": 16384, "hidden_dim": 768, "hierarchy": {"roots": 128}})
    assert section.tasks == Tasks() and section.d_sae == 4096
    assert len(section.runs) == 5 * 7 * 5 and {run.training_seed for run in section.runs} == set(range(5))
    assert len(section.trajectory_runs) == 5 and section.snapshot_steps[-1] == 195_312
    assert len(section.control_ids) == 1 + 2 * 4


def test_published_saes_join_the_panel_and_may_be_bases(tmp_path: Path) -> None:
    saes = {
        "input": "x",
        "arch": "batchtopk",
        "folder": "btk/l0-{l0}/seed-{seed}",
        "l0": [15],
        "training_seeds": [0, 3],
    }

    def change(c: dict[str, Any]) -> None:
        mini = c["substrates"]["mini"]
        mini["published"] = [saes]
        mini["controls"]["bases"] = ["published_batchtopk_l0_15_seed_3"]
        mini["published_world"] = {"input": "y", "variant": "superposition/d-512"}
        del mini["world"]

    plan = Plan(load(tmp_path, change))
    assert plan.published("mini") == ["published_batchtopk_l0_15_seed_0", "published_batchtopk_l0_15_seed_3"]
    assert plan.panel_of("mini", "published_batchtopk_l0_15_seed_3") == "panel"
    assert set(plan.published("mini")) < set(plan.finished("mini"))
    assert [one["folder"] for one in plan.published_settings("mini")["saes"]] == [
        "btk/l0-15/seed-0",
        "btk/l0-15/seed-3",
    ]
    assert plan.published_world("mini") == ["data/registry.yaml"]
    wildcards = SimpleNamespace(substrate="mini")
    assert plan.world_settings(wildcards)["world"] is None
    assert plan.world_settings(wildcards)["published_world"]["variant"] == "superposition/d-512"


def test_a_study_without_the_real_saebench_reads_as_it_did_before_there_was_any() -> None:
    plan = Plan(Study.load(ROOT / "config.yaml"))
    assert set(plan.choices()["metrics"]) == set(plan.design()["metrics"]) == set(DEFAULT["metrics"])
    assert plan.library_jobs() == [] and not any("saebench" in path for path in plan.score_files())


def test_the_real_saebench_has_a_job_per_sae_metric_and_seed_and_a_cache_per_metric_and_seed() -> None:
    plan = Plan(Study.load(ROOT / "studies/saebench.yaml"))
    jobs = [(job.sae, job.metric, job.seed, job.prefix) for job in plan.library_jobs()]
    assert len(set(jobs)) == len(jobs) == 5 * (2 * 2 + 1)  # metrics x (SAEs x seeds + one repeat)
    caches = plan.library_caches("smollm2")
    assert len(set(caches)) == 5 * 2 and set(caches) < set(plan.family("activations"))


def drawn(path: str | Path, name: str, per_class: int) -> list[int]:
    """Training and test rows of a class that SAEBench is given: each class is cut to the smallest."""
    if "__" in name:
        found = text.crossed(path, *name.split("__"))
        per_class = per_class // 2 + 25
    else:
        found = text.read(path, name)
    each = min(per_class, *(found.labels.count(c) for c in range(len(found.classes))))
    parts = library_text.split(np.repeat([0, 1], each), np.random.default_rng(0))
    return [len(part) // 2 for part in parts]


def lacking(metric: str, size: int, rows: int) -> bool:
    """What envs/saebench/local_sets.py finds of a set whose classes all have `rows` in a part."""
    return rows < (2 * (size // 4) + 1 if metric == "saebench_scr" else size // 2)


@pytest.mark.parametrize("rows", [40, 399, 400, 402, 1000])
@pytest.mark.parametrize("metric", ["saebench_sparse_probing", "saebench_tpp", "saebench_scr"])
@pytest.mark.parametrize("part", [0, 1])
def test_the_largest_size_that_a_set_can_have_loads_and_one_more_is_refused(
    tmp_path: Path, rows: int, metric: str, part: int
) -> None:
    per_class = rows // 4 + 25 if metric == "saebench_scr" else rows // 2
    there = len(library_text.split(np.repeat([0, 1], per_class), np.random.default_rng(0))[part]) // 2
    most = max(size for size in range(1, 4 * rows) if not lacking(metric, size, there))
    raw, path, name = yaml.safe_load((ROOT / "studies/saebench.yaml").read_text()), tmp_path / "study.yaml", "smollm2"
    raw["substrates"][name]["lm"]["rows_per_dataset"] = rows
    for other in ("saebench_sparse_probing", "saebench_tpp", "saebench_scr"):
        raw["metrics"][other] |= {"train_rows": 4, "test_rows": 4}
    size = ("train_rows", "test_rows")[part]
    raw["metrics"][metric][size] = most
    path.write_text(yaml.safe_dump(raw))
    assert Study.load(path).metrics.library
    raw["metrics"][metric][size] = most + 1
    path.write_text(yaml.safe_dump(raw))
    said = rf"metrics\.{metric}\.{size} is {most + 1}, substrates\.{name}\.lm\.rows_per_dataset {rows} leaves at most {most}"
    with pytest.raises(AssayError, match=said):
        Study.load(path)


@pytest.mark.parametrize("name", ["paper", "saebench", "saebench_wide"])
def test_every_set_of_a_shipped_study_has_the_rows_that_saebench_draws(name: str) -> None:
    study, folder = Study.load(ROOT / f"studies/{name}.yaml"), registry.installed_folder("sae-probes-data")
    for substrate in study.substrates.values():
        lm, probing = substrate.lm, study.metrics.saebench_sparse_probing
        assert lm is not None and probing is not None
        sets = {
            "saebench_sparse_probing": probing.datasets or lm.probe_datasets,
            "saebench_tpp": [lm.class_dataset],
            "saebench_scr": ["__".join(pair) for pair in lm.scr_crossings],
        }
        for metric, names in sets.items():
            section = getattr(study.metrics, metric)
            for one in names:
                train, test = drawn(folder, one, lm.rows_per_dataset // 2)
                assert not lacking(metric, section.train_rows, train), (metric, one, train)
                assert not lacking(metric, section.test_rows, test), (metric, one, test)


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
        (lambda c: c["metrics"]["tpp"].update(n=[10, 50, 500]), ["tpp", "500", "d_sae"]),
        (lambda c: c["metrics"]["tpp"].update(n=[5]), ["metrics.tpp", "fault_ablation.n has [10, 50]", "[5]"]),
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
        (lambda c: c["metrics"].update(saebench_tpp={"n": [500]}), ["saebench_tpp", "500", "d_sae"]),
        (lambda c: c["metrics"].update(core={"modes": ["strict"]}), ["core.modes", "library"]),
        (lambda c: c["metrics"].update(core={"environment": "/tmp"}), ["core.environment", "/tmp"]),
        (lambda c: c["metrics"].update(absorption={"letters": 3}), ["absorption.letters", "known keys", "min_letters"]),
        (
            lambda c: (
                c["metrics"].update(saebench_scr={"n": [2]}),
                c["substrates"]["smollm2"]["lm"].pop("scr_crossings"),
            ),
            ["saebench_scr needs", "scr_crossings"],
        ),
        (
            lambda c: c["metrics"].update(saebench_sparse_probing={"k_probe": [1], "datasets": ["96_spam"]}),
            ["saebench_sparse_probing.datasets has ['96_spam']", "did you mean 96_spam_is"],
        ),
        (lambda c: c["substrates"]["mini"]["panel"]["batchtopk"].update(l0=[200]), ["batchtopk", "200", "d_sae"]),
        (lambda c: c["substrates"]["mini"]["panel"].update(topkk={"l0": [3]}), ["topkk"]),
        (lambda c: c["substrates"]["mini"]["training"].update(lr="fast"), ["training.lr", "fast"]),
        (
            lambda c: c["substrates"]["mini"]["controls"].update(bases=["batchtopk_l0_8_seed_0"]),
            ["batchtopk_l0_08_seed_0"],
        ),
        (lambda c: c["substrates"]["mini"].pop("world"), ["mini", "world"]),
        (lambda c: c["substrates"]["mini"]["samples"].update(training_rows=100), ["training_rows 100", "batch_size"]),
        (lambda c: c["substrates"]["mini"]["world"].update(num_features=100), ["oracle", "the world has 100"]),
        (lambda c: c["substrates"]["mini"].update(published_world={"input": "x"}), ["mini", "either `world` or"]),
        (lambda c: c["substrates"]["mini"].update(published_world={"variant": "x"}), ["published_world", "`path`"]),
        (lambda c: c["substrates"]["mini"].update(panel={}, replicates=[]), ["mini", "an empty panel"]),
        (
            lambda c: c["substrates"]["mini"].update(
                published=[{"input": "x", "arch": "batchtopk", "folder": "btk", "l0": [1, 2]}]
            ),
            ["published", "one for several SAEs"],
        ),
        (
            lambda c: c["substrates"]["smollm2"].update(published_world={"input": "x"}),
            ["smollm2", "no published world or SAEs"],
        ),
        (
            lambda c: c["substrates"]["smollm2"].update(
                published=[{"input": "x", "arch": "jumprelu", "folder": "{l0}", "l0": [1, 2], "name": "one"}]
            ),
            ["smollm2", "published", "name 'one' is one for several SAEs"],
        ),
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
    with pytest.raises(AssayError, match="smoke, smollm2, synth16k, synth16k_brief, tiny"):
        Study.load("nonesuch")


def test_not_yaml(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1, 2")
    with pytest.raises(AssayError, match="not YAML"):
        Study.load(bad)


def test_a_world_like_another_differs_where_it_says_so(tmp_path: Path) -> None:
    section = {"like": "mini", "world": {"seed": 43}}
    loaded = load(tmp_path, lambda c: c["substrates"].update(second=section))
    first, second = (loaded.substrates[name].model_dump() for name in ("mini", "second"))
    assert second.pop("like") == "mini" and first.pop("like") is None
    assert (first["world"].pop("seed"), second["world"].pop("seed")) == (42, 43)
    assert first == second
    assert loaded.families == {"mini": "mini", "second": "mini"}


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"like": "mimi", "world": {"seed": 43}}, "no other substrate"),
        ({"like": "mini"}, "give it a `seed` of its own"),
        ({"like": "second", "world": {"seed": 43}}, "no other substrate"),
    ],
)
def test_a_world_that_is_like_none_or_the_same_is_refused(
    tmp_path: Path, section: dict[str, Any], problem: str
) -> None:
    with pytest.raises(AssayError, match=problem):
        load(tmp_path, lambda c: c["substrates"].update(second=section))
