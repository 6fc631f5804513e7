"""The RO-Crate export: what it says against the records, its bytes, and roc-validator's verdict without a network."""

from __future__ import annotations

import json
import os
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.audit.conftest import STUDY, git, sha256
from typer.testing import CliRunner

from sae_assay.audit.rocrate import METADATA, export
from sae_assay.cli import app
from sae_assay.errors import AssayError
from sae_assay.ledger.records import LEDGER

ROOT = Path(__file__).parents[2]
ENV = ROOT / "envs/rocrate"
PYTHON = ENV / ".venv/bin/python"
PROFILE = "provenance-run-crate-0.5"  # which extends workflow-run-crate, process-run-crate and workflow-ro-crate
TABLE = f"results/table/{STUDY}/scores.parquet"


def graph(crate: Path) -> dict[str, dict[str, Any]]:
    return {entity["@id"]: entity for entity in json.loads((crate / METADATA).read_text())["@graph"]}


def ids(value: Any) -> list[str]:
    return [entity["@id"] for entity in (value if isinstance(value, list) else [value])]


def of_type(entities: dict[str, dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [entity for entity in entities.values() if entity["@type"] == kind]


@pytest.fixture
def crate(root: Path, tmp_path: Path) -> Path:
    export(root, STUDY, "config.yaml", tmp_path / "crate")
    return tmp_path / "crate"


def test_every_run_is_an_action_with_its_files_and_times(crate: Path) -> None:
    entities = graph(crate)
    [table] = [entity for entity in of_type(entities, "CreateAction") if entity["name"].startswith("table substrate")]
    assert table["startTime"] == "2026-01-01T00:00:02+00:00"
    assert table["endTime"] == "2026-01-01T00:00:04+00:00"  # 1.5 s later, to the second
    assert table["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert ids(table["result"]) == [f"#{TABLE}"]
    assert f"#data/worlds/{STUDY}/mini/world.json" in ids(table["object"])
    result = entities[f"#{TABLE}"]
    assert (result["sha256"], result["contentSize"]) == (sha256(b"table"), "5")
    assert result["encodingFormat"] == "application/vnd.apache.parquet"
    assert entities[ids(table["instrument"])[0]]["name"] == "sae_assay.steps.table"
    assert "agent" not in table


def test_steps_tools_and_controls_are_linked(crate: Path) -> None:
    entities = graph(crate)
    workflow = entities["Snakefile"]
    assert workflow["@type"] == ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
    assert entities[workflow["programmingLanguage"]["@id"]]["name"] == "Snakemake"
    steps = sorted((entities[name] for name in ids(workflow["step"])), key=lambda step: step["position"])
    assert [step["name"] for step in steps] == ["world", "table", "report"]
    controls = of_type(entities, "ControlAction")
    assert len(controls) == 3
    for control in controls:
        step, action = entities[ids(control["instrument"])[0]], entities[ids(control["object"])[0]]
        assert ids(action["instrument"])[0] in ids(step["workExample"])
    [study] = [a for a in of_type(entities, "CreateAction") if ids(a["instrument"]) == ["Snakefile"]]
    assert ids(study["result"]) == [f"#results/report/{STUDY}/report.html"]
    assert ids(study["object"]) == ["config.yaml"]


def test_a_failed_run_is_told(crate: Path) -> None:
    failed = [
        action
        for action in of_type(graph(crate), "CreateAction")
        if action["actionStatus"] == "http://schema.org/FailedActionStatus"
    ]
    assert [(action["name"], action["error"]) for action in failed] == [("table (failed)", "disk full")]


def test_the_root_names_profiles_licence_authors_and_the_date_of_the_records(crate: Path) -> None:
    root = graph(crate)["./"]
    assert {name.rsplit("/", 2)[-2] for name in ids(root["conformsTo"])} == {
        "process",
        "workflow",
        "provenance",
        "workflow-ro-crate",
    }
    assert root["license"] == {"@id": "https://spdx.org/licenses/Apache-2.0"}
    assert graph(crate)[ids(root["author"])[0]]["name"] == "The sae-assay developers"
    assert root["datePublished"] == "2026-01-02T03:04:05+00:00"
    assert root["mainEntity"] == {"@id": "Snakefile"}


def test_all_references_lead_somewhere(crate: Path) -> None:
    entities = graph(crate)
    outside = ("https://", "http://")
    for entity in entities.values():
        for value in entity.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict) and not item["@id"].startswith(outside):
                    assert item["@id"] in entities, (entity["@id"], item)


def test_equal_records_give_equal_bytes(root: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(root), str(tmp_path / "clone"))
    os.utime(root / "Snakefile", (time.time() + 5000, time.time() + 5000))
    runs = root / LEDGER / STUDY / "runs.jsonl"
    shuffled = "".join(reversed(runs.read_text().splitlines(keepends=True)))
    written = []
    for number, tree in enumerate((root, tmp_path / "clone")):
        out = tmp_path / f"{number}.zip"
        export(tree, STUDY, "config.yaml", out, with_files=True)
        written.append(out.read_bytes())
    assert written[0] == written[1]
    before = (graph_of_zip(tmp_path / "0.zip"),)
    runs.write_text(shuffled)
    export(root, STUDY, "config.yaml", tmp_path / "2.zip", with_files=True)
    same = {name for name, entity in graph_of_zip(tmp_path / "2.zip").items() if before[0][name] == entity}
    assert set(before[0]) - same == {(LEDGER / STUDY / "runs.jsonl").as_posix()}  # its bytes did change


def graph_of_zip(path: Path) -> dict[str, dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        return {entity["@id"]: entity for entity in json.loads(archive.read(METADATA))["@graph"]}


def test_files_are_included_only_with_their_recorded_content(root: Path, tmp_path: Path) -> None:
    (root / f"results/report/{STUDY}/report.html").write_bytes(b"<p>edited</p>")
    world = root / f"data/worlds/{STUDY}/mini/world.json"
    (tmp_path / "outside.json").write_bytes(world.read_bytes())
    world.unlink()
    world.symlink_to(tmp_path / "outside.json")
    done = export(root, STUDY, "config.yaml", tmp_path / "c", with_files=True)
    entities = graph(tmp_path / "c")
    assert (tmp_path / "c" / TABLE).read_bytes() == b"table"
    assert TABLE in entities and f"#{TABLE}" not in entities
    assert f"#results/report/{STUDY}/report.html" in entities
    assert not (tmp_path / "c" / f"results/report/{STUDY}/report.html").exists()
    assert f"#data/worlds/{STUDY}/mini/world.json" in entities
    assert done["files"] == 3


def test_nothing_is_overwritten(root: Path, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"mine")
    with pytest.raises(AssayError, match="exists"):
        export(root, STUDY, "config.yaml", tmp_path / "x.zip")
    result = CliRunner().invoke(app, ["export", "ro-crate", str(tmp_path / "x.zip"), "--root", str(root)])
    assert result.exit_code == 2 and (tmp_path / "x.zip").read_bytes() == b"mine"


def test_the_rocrate_library_opens_it(crate: Path) -> None:
    from rocrate.rocrate import ROCrate

    opened = ROCrate(crate)
    assert opened.mainEntity.id == "Snakefile"
    assert len(opened.get_by_type("CreateAction")) == 5


# roc-validator ---------------------------------------------------------------------------------------------------------
def validate(*crates: Path) -> list[dict[str, list[str]]]:
    command = [str(PYTHON), str(ENV / "validate.py"), PROFILE, *map(str, crates)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    return [found[str(crate)] for crate in crates]


needs_validator = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="envs/rocrate is not installed: run `uv sync` in it"),
]
# What the records do not know: who ran a job, and where the code is published.
UNKNOWN = {
    "The Action SHOULD have an agent that is a Person or Organization",
    "The Application SHOULD have a url",
    "The SoftwareApplication id SHOULD be an absolute URI",
    "The organization SHOULD have a URL.",
    # Attempts: recorded in short, without their code and without outputs that still count.
    "The Action SHOULD have a result",
    "The SoftwareApplication SHOULD have a version or softwareVersion",
    "The Action SHOULD have an endTime in ISO 8601 format",
}


def recommended(found: dict[str, list[str]]) -> set[str]:
    return {text.split(": ", 1)[1].rpartition(" (")[0] for text in found.get("RECOMMENDED", [])}


class TestValidator:
    pytestmark = needs_validator

    def test_a_small_crate_is_valid_and_a_broken_one_is_not(self, root: Path, tmp_path: Path) -> None:
        export(root, STUDY, "config.yaml", tmp_path / "plain")
        export(root, STUDY, "config.yaml", tmp_path / "full.zip", with_files=True)
        export(root, STUDY, "config.yaml", tmp_path / "broken")
        file = tmp_path / "broken" / METADATA
        document = json.loads(file.read_text())
        for entity in document["@graph"]:
            if entity["@type"] == "HowToStep":
                del entity["workExample"]
        file.write_text(json.dumps(document))
        plain, full, broken = validate(tmp_path / "plain", tmp_path / "full.zip", tmp_path / "broken")
        assert (plain.get("REQUIRED"), full.get("REQUIRED")) == (None, None)
        assert recommended(plain) <= UNKNOWN and recommended(full) <= UNKNOWN
        assert any("HowToStep must refer to its corresponding tool" in text for text in broken["REQUIRED"])

    def test_the_recorded_default_study_is_valid(self, tmp_path: Path) -> None:
        export(ROOT, "default", "config.yaml", tmp_path / "crate")
        [found] = validate(tmp_path / "crate")
        assert found.get("REQUIRED") is None
        assert recommended(found) <= UNKNOWN
