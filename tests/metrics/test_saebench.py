"""The bridge to the real SAEBench: settings by its names, answers to records, and what goes wrong on the way."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from sae_assay.errors import AssayError
from sae_assay.metrics import saebench
from sae_assay.plan.names import dump
from sae_assay.study.library import LibraryAblations, LibraryAbsorption, LibraryCore, LibraryProbing

NAMES = {"binary": ["1_spam"], "crossed": ["2_a__3_b"], "many": ["4_news"]}
RUN = """
import json, sys
for file in sys.argv[1:]:
    job = json.load(open(file))
    if job["metric"] == "broken":
        raise SystemExit("the library fell over")
    rows = [{"component": "score", "value": job["seed"] / 2, "hp_name": "n", "hp_value": 2, "task": "t",
             "status": "ok", "reason": None}]
    error = {"where": "x", "problem": "has one class", "remedy": "choose another"}
    answer = {"error": error} if job["metric"] == "bad" else {"rows": rows, "versions": {}}
    json.dump(answer, open(job["out"], "w"))
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> saebench.Environment:
    """An environment whose run.py is a stand-in of a few lines; this Python runs it."""
    folder = tmp_path / "envs"
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(sys.executable)
    (folder / "run.py").write_text(RUN, encoding="utf-8")
    return saebench.Environment(folder)


def test_sections_are_passed_on_by_saebenchs_names() -> None:
    tpp = saebench.config("saebench_tpp", dump(LibraryAblations(n=[2], train_rows=80)), NAMES, "text")
    assert tpp == {
        "llm_batch_size": 32,
        "context_length": 128,
        "train_set_size": 80,
        "test_set_size": 1000,
        "dataset_names": ["4_news"],
        "n_values": [2],
    }
    assert saebench.config("saebench_scr", dump(LibraryAblations(n=[2])), NAMES, "")["dataset_names"] == ["2_a__3_b"]
    probing = saebench.config("saebench_sparse_probing", dump(LibraryProbing(k_probe=[1])), NAMES, "")
    assert probing["dataset_names"] == ["1_spam"] and probing["probe_train_set_size"] == 4000
    some = dump(LibraryProbing(k_probe=[1], datasets=["b", "5_c"]))
    more = NAMES | {"binary": ["1_spam", "3_b", "5_c"]}
    assert saebench.config("saebench_sparse_probing", some, more, "")["dataset_names"] == ["3_b", "5_c"]
    assert "datasets" not in dump(LibraryProbing(k_probe=[1]))
    assert saebench.config("core", dump(LibraryCore()), NAMES, "text")["dataset"] == "text"
    assert saebench.config("absorption", dump(LibraryAbsorption()), NAMES, "")["min_feats_for_eval"] == 20


def test_answers_become_records(stand_in: saebench.Environment, tmp_path: Path) -> None:
    jobs = [{"metric": "saebench_tpp", "seed": seed} for seed in (3, 8)]
    answers = stand_in.answers(jobs, tmp_path)
    section = dump(LibraryAblations(n=[2], train_rows=80, test_rows=20))
    found = [saebench.records("saebench_tpp", rows, "library", section)[0] for rows in answers]
    assert [r["value"] for r in found] == [1.5, 4.0]
    one = {"task": "t", "hp_name": "n", "hp_value": 2, "mode": "library", "n_train": 80, "n_test": 20}
    assert one.items() <= found[0].items()


def test_what_the_library_refuses_is_said_in_its_own_words(stand_in: saebench.Environment, tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=r"x: has one class\. What to do: choose another"):
        stand_in.answers([{"metric": "bad", "seed": 1}], tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(AssayError, match="broken ended with code 1: the library fell over"):
        stand_in.answers([{"metric": "broken", "seed": 1}], tmp_path / "other")


def test_a_machine_without_a_fitting_python_is_a_reason_and_a_missing_lock_an_error(tmp_path: Path) -> None:
    environment = saebench.Environment(tmp_path)
    with pytest.raises(AssayError, match=r"uv\.lock: no such lock"):
        environment.sync()
    project = '[project]\nname = "unfit"\nversion = "0.1.0"\nrequires-python = ">=3.40"\n[tool.uv]\npackage = false\n'
    (tmp_path / "pyproject.toml").write_text(project, encoding="utf-8")
    package = '[[package]]\nname = "unfit"\nversion = "0.1.0"\nsource = { virtual = "." }\n'
    lock = f'version = 1\nrevision = 3\nrequires-python = ">=3.40"\n\n{package}'
    (tmp_path / "uv.lock").write_text(lock, encoding="utf-8")
    reason = environment.sync()
    assert reason is not None and "no Python here fits" in reason
    rows = saebench.unfit("saebench_tpp", ("score", "intended"), dump(LibraryAblations(n=[2, 5])), reason, "library")
    assert len(rows) == 4 and {(r["value"], r["status"], r["reason"]) for r in rows} == {
        (None, "not_applicable", reason)
    }


def test_without_uv_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv.lock").write_text("", encoding="utf-8")
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssayError, match="run `uv sync --frozen --project"):
        saebench.Environment(tmp_path).sync()


def test_a_cache_keeps_its_bytes_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "library/cache").mkdir(parents=True)
        (tmp_path / name / "library/cache/x.json").write_text(json.dumps([1, 2]), encoding="utf-8")
        saebench.pack(tmp_path / name, tmp_path / f"{name}.tar")
    content = (tmp_path / "one.tar").read_bytes()
    assert content == (tmp_path / "two.tar").read_bytes()
    saebench.unpack(tmp_path / "one.tar", tmp_path / "again")
    assert json.loads((tmp_path / "again/library/cache/x.json").read_text(encoding="utf-8")) == [1, 2]
    (tmp_path / "torn.tar").write_bytes(content[:300])
    with pytest.raises(AssayError, match="is no whole cache"):
        saebench.unpack(tmp_path / "torn.tar", tmp_path / "torn")
