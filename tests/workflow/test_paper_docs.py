"""Commands of the documentation that need a hub, GPUs or files of others are parsed; the costs of the paper's study recomputed."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from sae_assay.cli import app
from sae_assay.lms import hub, registry, text
from sae_assay.lms.layout import SPARE
from sae_assay.plan import Plan
from sae_assay.study import Study

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/paper-study.md").read_text(encoding="utf-8")
PAGES = [PAGE, (ROOT / "docs/researchers.md").read_text(encoding="utf-8")]
BLOCKS = [block for page in PAGES for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL)]
LINES = list(dict.fromkeys(line for block in BLOCKS for line in block.splitlines() if line))
ELSEWHERE = ("git clone ", "cd ", "export HF_", "hf download ")  # not this project's
COSTS: dict[str, Any] = yaml.safe_load((ROOT / "docs/paper-costs.yaml").read_text(encoding="utf-8"))
VALUES = {name: one["value"] for name, one in COSTS["parameters"].items()}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith(ELSEWHERE)])
def test_every_command_is_one_of_this_project(line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "uv" and words[1] in ("sync", "run")
    if words[1] == "sync":
        assert words[2] == "--frozen" and (len(words) == 3 or (ROOT / words[4] / "uv.lock").exists())
    elif words[2] == "sae-assay":
        page = CliRunner().invoke(app, [words[3], "--help"], env={"COLUMNS": "200"})
        assert page.exit_code == 0
        assert all(word in page.stdout for word in words if word.startswith("--"))
    else:
        _snakemake(words[2:])


def _snakemake(words: list[str]) -> None:
    assert words[0] == "snakemake"
    study = words[words.index("--config") + 1].removeprefix("study=")
    if study == "panels":  # which the command before it writes
        return
    plan = Plan(Study.load(study))
    assert {word for word in words if word.startswith("results/")} <= set(plan.score_files())


@pytest.mark.parametrize("stage", COSTS["stages"])
def test_costs_follow_from_their_formulas(stage: str) -> None:
    one = COSTS["stages"][stage]
    hours, size = (eval(one[key], {"__builtins__": {}}, VALUES) for key in ("seconds", "bytes"))
    assert math.isclose(one["gpu_hours"], hours / 3600, rel_tol=0.01)
    assert math.isclose(one["gigabytes"], size / 1e9, rel_tol=0.01)
    assert one["how"] and all(parameter["from"] for parameter in COSTS["parameters"].values())


def test_counts_are_the_plans() -> None:
    plan = Plan(Study.load("paper"))
    saes = [(n, s) for n in plan.substrates("lm") for s in [*plan.finished(n), *plan.snapshots(n)]]
    panels = [(n, s) for n, s in saes if n != "reseed"]
    assert len(panels) == VALUES["snapshots"]
    jobs = [job for job in plan.library_jobs() if not job.prefix]
    assert len(jobs) == VALUES["library_jobs"]
    assert len({(job.substrate, job.sae, job.seed) for job in jobs}) == VALUES["scored"]
    caches = [path for name in plan.substrates("lm") for path in plan.library_caches(name)]
    assert len(caches) == VALUES["caches"]
    lm, probing = plan.study.substrates["cross"].lm, plan.study.metrics.saebench_sparse_probing
    assert lm is not None and lm.training_tokens == VALUES["cross_tokens"] and lm.d_model == VALUES["d_model"]
    assert len(lm.probe_datasets) == VALUES["probe_sets"] and VALUES["spare"] == SPARE
    assert probing is not None and probing.datasets is not None and len(probing.datasets) == VALUES["library_sets"]


def test_the_study_names_every_binary_set_of_sae_probes() -> None:
    folder, study = registry.installed_folder("sae-probes-data"), Study.load("paper")
    listed = pl.read_csv(folder / "probing_datasets_MASTER.csv.zst").filter(
        pl.col("Data type") == "Binary Classification"
    )
    binary = {Path(name).stem for name in listed["Dataset save name"]}
    for section in study.substrates.values():
        assert section.lm is not None and len(binary) == 113
        assert set(section.lm.probe_datasets) == binary <= set(text.names(folder))


def test_what_the_study_needs_of_the_hub_is_pinned_and_the_page_says_so() -> None:
    study = Study.load("paper")
    published = [group.input for section in study.substrates.values() for group in section.published]
    lms = [section.lm for section in study.substrates.values() if section.lm]
    for name in {*published, *(lm.input for lm in lms), *(lm.training_text for lm in lms if lm.training_text)}:
        source = hub.pinned(name)
        assert source.repository in PAGE and f"--revision {source.revision}" in PAGE
