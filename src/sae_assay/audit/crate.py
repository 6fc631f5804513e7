"""The entities of a Workflow Run RO-Crate 0.5 (Process, Workflow and Provenance Run Crate), derived from a study's records.

What the records do not know is left out: who ran a job (`agent`), and where the code is published (`url`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import canonical, digest
from sae_assay.ledger.records import LEDGER

FORMATS = {
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".html": "text/html",
    ".md": "text/markdown",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".sql": "application/sql",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".txt": "text/plain",
    ".lock": "application/yaml",
}
COMPLETED, FAILED = "http://schema.org/CompletedActionStatus", "http://schema.org/FailedActionStatus"
WORKFLOW, ENGINE, STUDY_RUN = "Snakefile", "#snakemake", "#study-run"
Entity = dict[str, Any]
Pair = tuple[str, str]  # a path and the SHA-256 of its content


def ref(*names: str) -> list[Entity]:
    """References to entities, sorted, each once."""
    return [{"@id": name} for name in sorted(set(names))]


def encoding_format(path: str) -> str:
    """The media type by a path's ending."""
    return next((form for end, form in FORMATS.items() if path.endswith(end)), "application/octet-stream")


class Records:
    """A study's records by type, blobs resolved."""

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        known = {record["id"]: record for record in records}
        self._blobs = {name: record["value"] for name, record in known.items() if record["type"] == "blob"}
        of = {kind: [r for _, r in sorted(known.items()) if r["type"] == kind] for kind in ("run", "attempt")}
        self.environments = {name: record for name, record in known.items() if record["type"] == "environment"}
        self.sizes = {(r["path"], r["sha256"]): r["size"] for r in known.values() if r["type"] == "artifact"}
        self.runs = sorted((self._resolve(run) for run in of["run"]), key=lambda run: (run["start"], run["id"]))
        self.attempts = sorted(of["attempt"], key=lambda attempt: (attempt.get("start", ""), attempt["id"]))
        if not self.runs:
            raise AssayError("the ledger", "holds no run", "run `sae-assay record` first")

    @property
    def pairs(self) -> set[Pair]:
        """Every file that a run read or wrote."""
        return {pair for run in self.runs for side in ("inputs", "outputs") for pair in run[side].items()}

    @property
    def results(self) -> set[Pair]:
        """Files that a run wrote and none read."""
        read = {pair for run in self.runs for pair in run["inputs"].items()}
        return {pair for run in self.runs for pair in run["outputs"].items()} - read

    def _resolve(self, run: dict[str, Any]) -> dict[str, Any]:
        def value(item: Any) -> Any:
            if isinstance(item, dict) and set(item) == {"blob"}:
                if item["blob"] not in self._blobs:
                    raise AssayError(f"run {run['id'][:12]}", "names a blob that is missing", "restore it from git")
                return self._blobs[item["blob"]]
            return item

        return {name: value(item) for name, item in run.items()}


class Crate:
    """Builds the entities; `files` says which (path, SHA-256) are in the crate, all others are described by reference."""

    def __init__(self, records: Records, study: str, config: str, included: set[Pair]) -> None:
        self.records, self.study, self.config = records, study, config
        self._included = included
        paths = [path for path, _ in records.pairs]
        self._ambiguous = {path for path in paths if paths.count(path) > 1}
        self.rules = list(dict.fromkeys(run["rule"] for run in records.runs))

    def entities(self) -> list[Entity]:
        """All entities but the root and its descriptor."""
        files = [self.file(*pair) for pair in sorted(self.records.pairs)]
        runs = [entity for run in self.records.runs for entity in self._run(run)]
        attempts = [entity for attempt in self.records.attempts for entity in self._attempt(attempt)]
        unique = {entity["@id"]: entity for entity in [*files, *self._steps(), *runs, *attempts, *self._study_run()]}
        return [*unique.values(), *self._parameters(), self._workflow(list(unique.values())), *_engine(self.records)]

    @property
    def actions(self) -> list[str]:
        """What the root mentions: the study's run, its jobs and its attempts."""
        jobs = [f"#run/{run['id']}" for run in self.records.runs]
        return [STUDY_RUN, *jobs, *(f"#attempt/{attempt['id']}" for attempt in self.records.attempts)]

    def file_id(self, path: str, sha256: str) -> str:
        """A path within the crate, or `#path` for a file that is described and not in it."""
        if (path, sha256) in self._included:
            return quote(path)
        return "#" + quote(path) + (f"?sha256={sha256[:16]}" if path in self._ambiguous else "")

    def file(self, path: str, sha256: str) -> Entity:
        """A file by path, digest, size where it was recorded, and format."""
        size = self.records.sizes.get((path, sha256))
        entity = {
            "@id": self.file_id(path, sha256),
            "@type": "File",
            "name": path,
            "sha256": sha256,
            "encodingFormat": encoding_format(path),
        }
        return entity | ({"contentSize": str(size)} if size is not None else {})

    # The workflow ------------------------------------------------------------------------------------------------------
    def _workflow(self, entities: list[Entity]) -> Entity:
        tools = [e["@id"] for e in entities if e["@id"].startswith(("#tool/", "#rule/"))]
        return {
            "@id": WORKFLOW,
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            "name": "sae-assay",
            "description": "Trains, scores and judges sparse autoencoders and the metrics that rank them",
            "conformsTo": ref("https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"),
            "programmingLanguage": {"@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"},
            "encodingFormat": "text/plain",
            "version": self._last("commit"),
            "input": ref("#parameter/study"),
            "output": ref("#parameter/report"),
            "hasPart": ref(*tools),
            "step": ref(*(f"#step/{rule}" for rule in self.rules)),
        }

    def _last(self, name: str) -> str:
        return str(self.records.runs[-1].get(name))

    def _steps(self) -> list[Entity]:
        entities = []
        for position, rule in enumerate(self.rules, 1):
            runs = [run for run in self.records.runs if run["rule"] == rule]
            tools = [self._tool(run) for run in runs]
            step = {"@id": f"#step/{rule}", "@type": "HowToStep", "name": rule, "position": str(position)}
            entities += [*tools, step | {"workExample": ref(*(tool["@id"] for tool in tools))}]
        return entities

    def _tool(self, run: dict[str, Any]) -> Entity:
        closure = digest(run["code"])
        return {
            "@id": f"#tool/{run['step']}/{closure[:16]}",
            "@type": "SoftwareApplication",
            "name": f"sae_assay.steps.{run['step']}",
            "description": f"The step and the {len(run['code'])} project files that it imports or reads",
            "softwareVersion": f"sha256:{closure}",
        }

    def _parameters(self) -> list[Entity]:
        report = [pair for pair in sorted(self.records.results) if pair[0].endswith("report.html")]
        examples = {"#parameter/study": [quote(self.config)], "#parameter/report": [self.file_id(*p) for p in report]}
        return [
            {
                "@id": name,
                "@type": "FormalParameter",
                "additionalType": "File",
                "name": name.rpartition("/")[2],
                "conformsTo": ref("https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"),
                "workExample": ref(*files),
            }
            for name, files in examples.items()
            if files
        ]

    def _study_run(self) -> list[Entity]:
        runs = self.records.runs
        action = {
            "@id": STUDY_RUN,
            "@type": "CreateAction",
            "name": f"Study {self.study}",
            "description": f"{len(runs)} jobs; those whose recorded outputs were current are from earlier invocations",
            "instrument": {"@id": WORKFLOW},
            "object": ref(quote(self.config)),
            "result": ref(*(self.file_id(*pair) for pair in self.records.results)),
            "startTime": min(_start(run) for run in runs).isoformat(),
            "endTime": max(_end(run) for run in runs).isoformat(),
            "actionStatus": COMPLETED,
        }
        engine = {
            "@id": "#orchestration",
            "@type": "OrganizeAction",
            "name": f"Orchestration of study {self.study}",
            "instrument": {"@id": ENGINE},
            "object": ref(*(f"#control/{run['id']}" for run in runs)),
            "result": {"@id": STUDY_RUN},
            "actionStatus": COMPLETED,
        }
        return [action, engine]

    # Jobs --------------------------------------------------------------------------------------------------------------
    def _run(self, run: dict[str, Any]) -> list[Entity]:
        name = f"#run/{run['id']}"
        wildcards = " ".join(f"{key}={value}" for key, value in sorted(run["wildcards"].items()))
        values = [_value(f"{name}/{key}", key, canonical(run[key])) for key in ("params", "seeds", "numeric_profile")]
        memory = _value(f"{name}/memory", "peak memory", run["peak_memory_bytes"])
        memory |= {"propertyID": "urn:sae-assay:peak_memory_bytes", "unitCode": "AD", "unitText": "bytes"}
        inputs = [self.file_id(*pair) for pair in run["inputs"].items()]
        action = {
            "@id": name,
            "@type": "CreateAction",
            "name": f"{run['rule']} {wildcards}".strip(),
            "description": f"Run {run['run_id']} at commit {run['commit']}{' (dirty)' if run['dirty'] else ''}",
            "instrument": {"@id": self._tool(run)["@id"]},
            "object": ref(*inputs, *(value["@id"] for value in values)),
            "result": ref(*(self.file_id(*pair) for pair in run["outputs"].items())),
            "startTime": _start(run).isoformat(),
            "endTime": _end(run).isoformat(),
            "actionStatus": COMPLETED,
            "resourceUsage": ref(memory["@id"]),
        }
        control = {
            "@id": f"#control/{run['id']}",
            "@type": "ControlAction",
            "name": f"Control of {action['name']}",
            "instrument": {"@id": f"#step/{run['rule']}"},
            "object": {"@id": name},
            "actionStatus": COMPLETED,
        }
        return [action, control, memory, *values]

    def _attempt(self, attempt: dict[str, Any]) -> list[Entity]:
        """A failed or a superseded run; the attempt's record names no code, so the rule stands for its tool."""
        failed = attempt["outcome"] == "failed"
        rule = {
            "@id": f"#rule/{attempt['rule']}",
            "@type": "SoftwareApplication",
            "name": attempt["rule"],
            "description": "A rule whose failed and superseded runs are recorded in short",
        }
        action = {
            "@id": f"#attempt/{attempt['id']}",
            "@type": "CreateAction",
            "name": f"{attempt['rule']} ({attempt['outcome']})",
            "description": f"A run that {'failed' if failed else 'a later run replaced'}",
            "instrument": {"@id": rule["@id"]},
            "actionStatus": FAILED if failed else COMPLETED,
        }
        if "start" in attempt:
            action |= {"startTime": _start(attempt).isoformat(), "endTime": _end(attempt).isoformat()}
        return [rule, action | ({"error": attempt["reason"]} if failed and attempt.get("reason") else {})]


def _engine(records: Records) -> list[Entity]:
    versions = {e.get("installed", {}).get("snakemake") for e in records.environments.values()} - {None}
    version = {"softwareVersion": sorted(versions)[-1]} if versions else {}
    link = "https://snakemake.readthedocs.io"
    language = {
        "@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
        "@type": "ComputerLanguage",
        "name": "Snakemake",
        "alternateName": "Snakemake",
        "url": {"@id": link},
        "identifier": {"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
    }
    engine = {"@id": ENGINE, "@type": "SoftwareApplication", "name": "Snakemake", "url": {"@id": link}, **version}
    return [language, engine]


def _value(name: str, label: str, value: Any) -> Entity:
    return {"@id": name, "@type": "PropertyValue", "name": label, "value": str(value)}


def _start(record: dict[str, Any]) -> datetime:
    return datetime.strptime(record["start"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _end(record: dict[str, Any]) -> datetime:
    """To the second, as the start is recorded."""
    return _start(record) + timedelta(seconds=round(record["duration_ms"] / 1000))


def ledger_files(study: str) -> str:
    """The glob of a study's ledger files below the root."""
    return f"{LEDGER.as_posix()}/{study}/*.jsonl"
