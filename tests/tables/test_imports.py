"""Several result files: repeats, contradictions, versions; each file's rows are all there or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from sae_assay.cli import app
from sae_assay.errors import AssayError
from sae_assay.plan import Plan
from sae_assay.statistics import runner
from sae_assay.steps import import_saebench
from sae_assay.study import Study
from sae_assay.tables import collect, imports, saebench, scores

FIXTURES = Path(__file__).parent / "saebench"
NAMES = ("s", "gemma")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder of result files, as the current folder's data/imported/x."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FIXTURES, tmp_path / "data/imported/x", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return Path("data/imported/x")


def copy(folder: Path, evaluation: str, to: str, **changes: Any) -> Path:
    """A result file once more, with other top-level values."""
    source = next((folder / evaluation).glob("*.json"))
    found = {**json.loads(source.read_text()), **changes}
    target = folder / to
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found))
    return target


def read(folder: Path) -> dict[str, imports.Source]:
    return {str(Path(s.path).relative_to(folder)): s for s in imports.read([folder], NAMES, saebench.Options())}


def test_all_files_become_one_checked_table(folder: Path) -> None:
    table = imports.table(list(read(folder).values()))
    assert table.height == 128 and table["sae_id"].n_unique() == 1
    unknown = table.filter(pl.col("eval_seed").is_null())
    assert set(unknown["metric"]) == {"core"} and unknown["reason"].unique().to_list() == [
        "the evaluation seed is unknown: its eval_config has no random_seed"
    ]
    assert set(table["mode"].cast(pl.String).unique()) == {"library"}


def test_a_repeated_file_is_skipped_and_the_first_kept(folder: Path) -> None:
    copy(folder, "tpp", "zz/again.json", eval_id="another run", sae_bench_commit_hash="1" * 40)
    found = read(folder)
    again = found.pop("zz/again.json")
    assert again.rows is None and "repeats scores of data/imported/x/tpp/" in str(again.problem)
    assert again.entry()["sae_bench_commit_hash"] == "1" * 40
    assert all(source.problem is None for source in found.values())


def test_two_versions_that_differ_at_one_seed_are_both_skipped(folder: Path) -> None:
    source = next((folder / "tpp").glob("*.json"))
    details = json.loads(source.read_text())["eval_result_details"]
    details[0]["tpp_threshold_2_total_metric"] = 0.123
    copy(folder, "tpp", "zz/other.json", eval_result_details=details, sae_bench_commit_hash="1" * 40)
    found = read(folder)
    torn = {name: s.problem for name, s in found.items() if s.problem}
    assert set(torn) == {"zz/other.json", f"tpp/{source.name}"}
    assert all("holds other scores than" in str(problem) for problem in torn.values())
    assert "saebench_tpp" not in imports.table(list(found.values()))["metric"].to_list()


def test_files_describe_an_sae_together_or_not_at_all(folder: Path) -> None:
    copy(folder, "tpp", "aa/quiet.json", sae_cfg_dict=None, eval_config={**config(folder, "tpp"), "random_seed": 7})
    copy(
        folder,
        "tpp",
        "zz/torn.json",
        sae_cfg_dict={"architecture": "topk"},
        eval_config={**config(folder, "tpp"), "random_seed": 8},
    )
    found = read(folder)
    assert found["aa/quiet.json"].rows is not None and found["aa/quiet.json"].rows["arch"].unique().to_list() == [
        "jumprelu"
    ]
    assert "the arch topk, other files jumprelu" in str(found["zz/torn.json"].problem)


def config(folder: Path, evaluation: str) -> dict[str, Any]:
    return json.loads(next((folder / evaluation).glob("*.json")).read_text())["eval_config"]


def test_an_impossible_value_skips_its_file_whole(folder: Path) -> None:
    source = next((folder / "sparse_probing").glob("*.json"))
    found = json.loads(source.read_text())
    found["eval_result_details"][0]["sae_top_1_test_accuracy"] = 1.5
    source.write_text(json.dumps(found))
    skipped = read(folder)[f"sparse_probing/{source.name}"]
    assert skipped.rows is None and "is impossible (1.5)" in str(skipped.problem)


def test_nothing_usable_is_an_error_that_names_the_first_problem(folder: Path) -> None:
    (folder / "bad.json").write_text("{")
    with pytest.raises(AssayError, match=r"none of 1 files can be imported; .*bad.json: is not whole JSON"):
        imports.table(imports.read([folder / "bad.json"], NAMES, saebench.Options()))
    with pytest.raises(AssayError, match="there is no JSON file"):
        imports.table([])


class Outputs:
    scores, account = "imported.parquet", "imported.json"


def settings(paths: list[str]) -> dict[str, Any]:
    section = {"paths": paths, "training_tokens": None, "seeds_from_folders": False}
    return {"study": "s", "substrate": "gemma", "imported": section}


def test_the_step_writes_scores_that_the_table_takes_and_accounts_for_every_file(folder: Path) -> None:
    (folder / "bad.json").write_text("[]")
    files = [path.as_posix() for path in saebench.files_in([folder])]
    import_saebench.run(files, Outputs, settings([folder.as_posix()]))
    account = json.loads(Path(Outputs.account).read_text())
    assert [one["file"] for one in account] == files
    assert [one["status"] for one in account].count("skipped") == 1
    assert sum(one["rows"] for one in account) == scores.read(Outputs.scores).height == 128
    tables = collect.collect([Outputs.scores], [{"substrate": "gemma", "imported": True}])
    coverage = tables["coverage"]
    assert coverage.height == 8 and (coverage["n_rows"] > 0).all() and coverage["n_rows"].sum() == 128
    first = Path(Outputs.scores).read_bytes()
    import_saebench.run(files, Outputs, settings([folder.as_posix()]))
    assert Path(Outputs.scores).read_bytes() == first


def test_a_folder_without_files_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=r"hold no JSON file.*fetch the result files first"):
        import_saebench.run([], Outputs, settings(["data/imported/none"]))


def test_statistics_keep_an_unknown_seed_apart(folder: Path, tmp_path: Path) -> None:
    """Core has no seed in the file: it is one scoring at one unknown seed, and takes part in no other seed's noise."""
    for seed in (1, 2):
        copy(folder, "tpp", f"s{seed}/t.json", eval_config={**config(folder, "tpp"), "random_seed": seed})
    table = imports.table(list(read(folder).values()))
    for name, one in collect.tables(table.with_columns(source=pl.lit("x")), empty(), None).items():
        one.write_parquet(tmp_path / f"{name}.parquet")
    paths = {name: tmp_path / f"{name}.parquet" for name in runner.TABLES}
    noise = runner.compute(paths, {"scorecard": CARD})["reseed_noise"]
    seeds = {(r["metric"], r["n_seeds"]) for r in noise.iter_rows(named=True)}
    assert ("core", 1) in seeds and ("saebench_tpp", 3) in seeds


CARD = {
    "primary": {},
    "thresholds": {"repeatable": 0.9, "discriminating": 0.8, "improving": 0.0, "valid": 0.6, "sane": 0.0},
}


def empty() -> pl.DataFrame:
    return pl.DataFrame(schema=scores.TABLE_SCHEMA)


def test_the_command_writes_a_study_that_plans_the_import(folder: Path) -> None:
    (folder / "bad.json").write_text("{}")
    command = ["import-saebench", folder.as_posix(), "--study", "theirs", "--substrate", "gemma-2-2b", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    assert (found["rows"], found["saes"], len(found["files"])) == (128, 1, 9)
    plan = Plan(Study.load("theirs"))
    assert plan.score_files() == ["results/scores/theirs/gemma-2-2b/imported.parquet"]
    assert plan.import_files("gemma-2-2b") == [one["file"] for one in found["files"]]
    assert plan.evaluation_seeds == [42, 123]
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "studies/theirs.yaml: is there already" in again.stderr
    (folder / "bad.json").unlink()
    fine = CliRunner().invoke(app, [*command[:3], "others", *command[4:-1]])
    assert fine.exit_code == 0 and "8 files with 128 scores of 1 SAEs" in fine.stdout
    outside = CliRunner().invoke(app, ["import-saebench", str(FIXTURES), "--study", "far", "--substrate", "g"])
    assert outside.exit_code == 2 and "copy it there" in outside.stderr and not Path("studies/far.yaml").exists()


def test_a_study_needs_something_to_audit(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    card = {"primary": {}}
    whole: dict[str, Any] = {
        "study": "s",
        "seeds": {"evaluation": [1], "snapshot": [1]},
        "metrics": {},
        "scorecard": card,
    }
    for change, said in [
        ({}, "declare `substrates`, or scores that others computed"),
        ({"imported": {"g": {"paths": ["/abs"]}}}, "/abs is no folder or file of the project"),
        ({"imported": {"g": {"paths": ["a/../../b"]}}}, "is no folder or file of the project"),
        ({"imported": {"g": {"paths": ["a"], "path": "a"}}}, r"imported.g.path.*did you mean paths"),
    ]:
        path.write_text(yaml.safe_dump(whole | change))
        with pytest.raises(AssayError, match=said):
            Study.load(path)


def test_studies_without_imports_keep_their_settings() -> None:
    assert "imported" not in Plan(Study.load(Path(__file__).parents[2] / "config.yaml")).design()
