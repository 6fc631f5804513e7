"""From a number of the report to its bytes, on a synthetic study with a ledger of three jobs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.statistics import factory
from typer.testing import CliRunner

from sae_assay.audit import trace
from sae_assay.audit.chain import Chain
from sae_assay.cli import app
from sae_assay.ledger.records import Ledger, blob, with_id, write_ledger
from sae_assay.plan import Plan
from sae_assay.report.names import CHART_NAMES
from sae_assay.statistics import runner
from sae_assay.steps import report as report_step
from sae_assay.study import Study

ROOT = Path(__file__).resolve().parents[2]
NOISE = "reseed_noise:mini:sparse_probing:accuracy:k_probe:5:-:in:sigma_e"


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(rule: str, step: str, inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, Any]:
    return with_id(
        {
            "type": "run", "schema": 1, "study": "default", "rule": rule, "step": step, "wildcards": {}, "group": "light",
            "run_id": hashlib.sha256(rule.encode()).hexdigest(), "lock_digest": "0" * 64, "params": {"evaluation_seeds": [42]},
            "seeds": {}, "inputs": inputs, "outputs": outputs, "code": {"src/sae_assay/steps/x.py": "1" * 64}, "threads": 1,
            "start": "2026-01-02T03:04:05Z", "duration_ms": 1500, "peak_memory_bytes": 1, "commit": "c" * 40, "dirty": True,
            "cpu": "a CPU", "environment": "e" * 64,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with tables, marts, report and ledger of a synthetic study called default."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        shutil.copy(ROOT / "config.yaml", "config.yaml")
        plan = Plan(Study.load("config.yaml"))
        table = Path("results/table/default")
        factory.write_tables(table)
        runner.run_all(table, "results/statistics/default", plan.choices())
        charts = Path("results/charts/default")
        for folder in (charts, Path("results/report/default")):
            folder.mkdir(parents=True)
        for name in CHART_NAMES:
            (charts / f"{name}.json").write_text('{"datasets":{}}')
            (charts / f"{name}.svg").write_text("<svg/>")
        inputs = [
            p
            for pattern in ("table/*/*", "statistics/*/*", "charts/*/*")
            for p in sorted(Path("results").glob(pattern))
        ]
        outputs = [f"results/report/default/{name}" for name in ("report.html", "cells.json")]
        report_step.run(list(map(str, inputs)), outputs, {"study": "default", "design": plan.design()})
        _write_ledger(table)
    return root


def _write_ledger(table: Path) -> None:
    sources = sorted(set(pl.read_parquet(table / "scores.parquet")["source"]))
    made = {path: hashlib.sha256(path.encode()).hexdigest() for path in sources}
    tables = {path.as_posix(): _sha(path) for path in sorted(table.glob("*.parquet"))}
    marts = {path.as_posix(): _sha(path) for path in sorted(Path("results/statistics/default").glob("*.parquet"))}
    outputs = blob(made)
    score = _run("score_sae", "score", {"data/inputs/model.gguf": "9" * 64}, {"blob": outputs["id"]})
    records = [outputs, score, _run("table", "table", made, tables), _run("statistics", "statistics", tables, marts)]
    write_ledger("default", records)


@pytest.fixture(autouse=True)
def _inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def ask(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["trace", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def test_a_number_is_followed_to_its_inputs() -> None:
    code, text = ask(NOISE, "--json")
    assert code == 0
    found = json.loads(text)
    mart = pl.read_parquet("results/statistics/default/reseed_noise.parquet")
    row = mart.filter(substrate="mini", metric="sparse_probing", hp_value=5, task_kind="in")
    assert found["cell"]["raw"] == row["sigma_e"][0].hex() == found["value"]["raw"]
    assert found["value"]["equal"]
    assert "results/report/default/report.html#reseed" in found["places"]
    assert found["source"]["sql"] == "src/sae_assay/statistics/sql/reseed_noise.sql"
    assert found["source"]["tables"]["scores"] == _sha(Path("results/table/default/scores.parquet"))
    assert found["queries"][0]["step"] == "stg_scores"
    assert found["witness"]["rows"] == (29 + 9) * 3 * 3  # SAEs and controls, tasks, seeds
    assert len(found["score_files"]) == (29 + 9) * 3
    assert {run["rule"] for run in found["runs"]} == {"statistics", "table", "score_sae"}
    assert found["runs"][0]["commit"] == "c" * 40
    assert found["inputs"] == {"data/inputs/model.gguf": "9" * 64}
    assert found["missing"] == []
    assert found["recompute"][0].startswith(
        "uv run snakemake --cores 1 --force results/statistics/default/reseed_noise"
    )


def test_words_name_every_link() -> None:
    code, text = ask(NOISE)
    assert code == 0
    for word in ("shown at", "reseed_noise.sql", "342 score rows", "score_sae x 1", "commit cccccccccccc with edits",
                 "data/inputs/model.gguf", "equal bit by bit", "--rows lists them all", "sparse_probing.accuracy k_probe=5"):  # fmt: skip
        assert word in text, word


def test_the_command_that_it_names_recomputes_the_cell() -> None:
    mart = pl.read_parquet("results/statistics/default/reseed_noise.parquet")
    row = mart.filter(substrate="mini", metric="sparse_probing", hp_value=5, task_kind="in")
    assert trace.recompute(NOISE, "config.yaml") == row["sigma_e"][0].hex()


def test_rows_are_listed_as_csv_and_json() -> None:
    _, text = ask(NOISE, "--rows")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 342
    assert {row["metric"] for row in rows} == {"sparse_probing"}
    assert all(len(row["score_id"]) == 64 for row in rows)
    listed = json.loads(ask(NOISE, "--rows", "--json")[1])["witness"]
    assert [row["score_id"] for row in listed["all"]] == [row["score_id"] for row in rows]
    ids = "\n".join(sorted(row["score_id"] for row in rows))
    assert listed["ids_sha256"] == hashlib.sha256(ids.encode()).hexdigest()


def test_a_number_shown_once_is_found_by_its_text_and_one_shown_often_is_not() -> None:
    cells = json.loads(Path("results/report/default/cells.json").read_text())["cells"]
    ids: dict[str, set[str]] = {}
    for cell in cells:
        if cell["mart"] == "reseed_noise":
            ids.setdefault(trace._plain(cell["shown"]), set()).add(cell["id"])
    every = [trace._plain(cell["shown"]) for cell in cells]
    text = next(t for t, names in ids.items() if len(names) == 1 and every.count(t) == 1)
    code, found = ask("--json", "--", text)
    assert code == 0
    assert json.loads(found)["cell"]["id"] == ids[text].pop()
    code, found = ask("PASS", "--json")
    assert code == 1
    candidates = json.loads(found)["candidates"]
    assert len(candidates) > 1
    assert all(c["shown"] == "PASS" and c["id"].endswith(":verdict") for c in candidates)


def test_a_typographic_minus_may_be_typed_plainly() -> None:
    assert trace._plain("\u22120.31") == trace._plain("-0.31")
    assert trace._plain("95\u202f%") == trace._plain("95 %") == "95%"


def test_an_unknown_number_is_answered_with_the_nearest() -> None:
    code, text = ask(NOISE.replace("sigma_e", "sigma"))
    assert code == 1
    assert NOISE in text
    assert ask("no such thing at all")[0] == 1


def test_a_published_number_names_its_file_and_its_hand() -> None:
    cells = json.loads(Path("results/report/default/cells.json").read_text())["cells"]
    hands = {c["raw"] for c in cells if c["mart"] == "paper" and c["column"] == "confidence"}
    assert hands == {"second hand"}  # a primary number needs no label
    marked = {c["id"].removesuffix("confidence") for c in cells if c["id"].endswith(":confidence")}
    values = [c["id"] for c in cells if c["mart"] == "paper" and c["column"] == "value"]
    for name in (values[0], next(v for v in values if v.removesuffix("value") not in marked)):
        code, text = ask(name)
        assert code == 0
        assert "paper-numbers.csv" in text
        assert f"not computed here: {'second hand' if name.removesuffix('value') in marked else 'primary'}" in text
    assert "witness" not in json.loads(ask(name, "--json")[1])


def test_a_declared_number_and_a_chart() -> None:
    code, text = ask("study:mini.d_sae:value")
    assert code == 0
    assert "A choice of the study" in text
    code, text = ask("chart:truth_scatter", "--json")
    assert code == 0
    assert json.loads(text)["source"]["sha256"] == _sha(Path("results/charts/default/truth_scatter.json"))


def test_content_that_no_record_explains_is_named() -> None:
    ledger = Ledger("default")
    path = "results/statistics/default/reseed_noise.parquet"
    assert Chain.behind(ledger, [(path, "f" * 64)]).missing == [path]


def test_a_changed_table_shows(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    path = Path("results/table/default/scores.parquet")
    table = pl.read_parquet(path)
    hit = (pl.col("metric") == "sparse_probing") & (pl.col("hp_value") == 5) & (pl.col("task_kind") == "in")
    first = table.with_row_index().filter(hit, panel="panel")["index"][0]
    moved = table.with_row_index().with_columns(
        value=pl.when(pl.col("index") == first).then(pl.col("value") - 0.1).otherwise("value")
    )
    moved.drop("index").write_parquet(path)
    found = json.loads(ask(NOISE, "--json")[1])
    assert not found["value"]["equal"]
    assert "DIFFERS" in ask(NOISE)[1]


def test_a_missing_report_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy("config.yaml", tmp_path / "config.yaml")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["trace", "1"])
    assert done.exit_code == 2
    assert "dvc pull" in done.output
