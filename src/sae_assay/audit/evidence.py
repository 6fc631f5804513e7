"""A study's recorded evidence, read as data: git's ledger, however damaged. Reading never fails on a bad line; it is kept as such."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sae_assay.audit import reading, schemas
from sae_assay.audit.findings import Finding
from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import digest
from sae_assay.ledger.job import job_key, job_label
from sae_assay.ledger.records import FILES, LEDGER

RESTORE = "restore results/ledger from git"
FOLDED = ("wildcards", "params", "seeds", "inputs", "outputs", "code")


@dataclass(frozen=True)
class Line:
    """One line of a ledger file: where it stands, its text and its record."""

    where: str
    text: str
    record: dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """A run whose references are resolved; `raw` is the record as stored.

    Attributes:
        inputs: path -> SHA-256 of what the job read.
        outputs: path -> SHA-256 of what it wrote.
        code: package file -> SHA-256 of the modules that it ran.
    """

    raw: dict[str, Any]
    wildcards: dict[str, str]
    params: dict[str, Any]
    seeds: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str]
    code: dict[str, str]

    @property
    def rule(self) -> str:
        return self.raw["rule"]

    @property
    def key(self) -> str:
        return job_key(self.rule, self.wildcards)

    @property
    def label(self) -> str:
        """`score_sae sae=oracle substrate=mini`, as in messages."""
        return job_label(self.rule, self.wildcards)

    @property
    def run_id(self) -> str:
        """What its run_id should be, from its content."""
        resolved = {name: getattr(self, name) for name in FOLDED}
        content = {name: resolved.get(name, self.raw.get(name)) for name in schemas.RUN_ID_FIELDS[self.raw["schema"]]}
        return digest(content)


@dataclass
class Evidence:
    """All records of a study.

    Attributes:
        study: its name.
        lines: every line that holds a record of a known schema.
        records: id (as stated) -> record.
        runs: the runs whose references resolve.
        problems: what was refused or does not resolve, as findings.
    """

    study: str
    lines: list[Line] = field(default_factory=list)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[RunRecord] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Every record of a type, in the order of their ids."""
        return [self.records[name] for name in sorted(self.records) if self.records[name]["type"] == kind]

    @cached_property
    def artifacts(self) -> dict[str, list[dict[str, Any]]]:
        """Path -> artifact records."""
        found: dict[str, list[dict[str, Any]]] = {}
        for record in self.of_type("artifact"):
            found.setdefault(record["path"], []).append(record)
        return found

    @cached_property
    def producers(self) -> dict[str, list[RunRecord]]:
        """Path -> runs that made it."""
        found: dict[str, list[RunRecord]] = {}
        for run in self.runs:
            for path in run.outputs:
                found.setdefault(path, []).append(run)
        return found

    @cached_property
    def digest(self) -> str:
        """Names the whole ledger: the SHA-256 of its records' sorted true ids."""
        return digest(sorted(true_id(record) for record in self.records.values()))

    @property
    def outputs(self) -> dict[str, str]:
        """Path -> SHA-256 of everything that a recorded run made (the last of several)."""
        return {path: sha for run in self.runs for path, sha in run.outputs.items()}


def true_id(record: dict[str, Any]) -> str:
    """The SHA-256 of a record's content."""
    return digest({name: value for name, value in record.items() if name != "id"})


def read(root: Path, study: str) -> Evidence:
    """Read the ledger in git of a study.

    Raises:
        AssayError: the study has no ledger.
    """
    folder = LEDGER / study
    if not reading.inside(root, folder.as_posix()).is_dir():
        raise AssayError(
            folder.as_posix(), "is missing", "record the study with `sae-assay record`, or name another one"
        )
    found = Evidence(study)
    for kind, name in FILES.items():
        path = (folder / name).as_posix()
        if (root / path).is_symlink() or (root / path).exists():
            for line in _lines(root, path, kind, found):
                found.lines.append(line)
                found.records[line.record["id"]] = line.record
    _strangers(root, folder, found)
    found.runs = [run for record in found.of_type("run") if (run := _resolve(record, found)) is not None]
    return found


def _strangers(root: Path, folder: Path, found: Evidence) -> None:
    """Files beside the ledger's own are refused: nobody reads them, and they may look as if somebody did."""
    known = set(FILES.values())
    for file in sorted((root / folder).iterdir()):
        if file.name not in known and file.suffix in (".jsonl", ".json"):
            where = (folder / file.name).as_posix()
            found.problems.append(Finding("GRAPH_INVALID", where, "no such file", "a file of no record type", RESTORE))


def _lines(root: Path, path: str, kind: str, found: Evidence) -> Iterator[Line]:
    try:
        for number, text, value in reading.json_lines(root, path):
            where = f"{path}:{number}"
            problem = None if isinstance(value, AssayError) else schemas.problem(value)
            if isinstance(value, reading.Unsafe):
                found.problems.append(Finding("UNSAFE_INPUT", where, None, value.problem, RESTORE))
            elif problem or value["type"] != kind:
                seen = problem or f"is a record of type {value['type']}"
                found.problems.append(Finding("GRAPH_INVALID", where, f"a record of type {kind}", seen, RESTORE))
            else:
                yield Line(where, text, value)
    except reading.Unsafe as error:
        found.problems.append(Finding("UNSAFE_INPUT", path, None, error.problem, RESTORE))
    except AssayError as error:
        found.problems.append(Finding("GRAPH_INVALID", path, None, error.problem, RESTORE))


def _resolve(record: dict[str, Any], found: Evidence) -> RunRecord | None:
    values: dict[str, Any] = {}
    for name in FOLDED:
        value = record[name]
        if schemas.is_reference(value):
            target = found.records.get(value["blob"])
            if target is None or target["type"] != "blob":
                item = f"run {record['id'][:12]} of {record['rule']}"
                seen = f"its {name} ({value['blob'][:12]}) are not in the ledger"
                found.problems.append(Finding("GRAPH_INVALID", item, f"the blob of its {name}", seen, RESTORE))
                return None
            value = target["value"]
        if not _SHAPES[name](value):
            item = f"run {record['id'][:12]} of {record['rule']}"
            found.problems.append(
                Finding("GRAPH_INVALID", item, f"{name} as its schema asks", "another shape", RESTORE)
            )
            return None
        values[name] = value
    return RunRecord(record, **values)


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


_SHAPES = {
    "wildcards": schemas.texts,
    "params": _is_map,
    "seeds": _is_map,
    "inputs": schemas.digests,
    "outputs": schemas.digests,
    "code": schemas.digests,
}
