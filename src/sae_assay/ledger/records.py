"""Records of jobs: written one small file a job while the workflow runs, folded into git's sorted ledger by `record`.

Record types, each canonical JSON on one line with `type`, `schema` and `id` = SHA-256 of the rest:
`run` (one executed job), `artifact` (one file), `blob` (a long map or the parameters, shared by the runs that name it),
`environment`, `plan` (the study's choices), `attempt` (a failed or a superseded run, in short).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import canonical, digest
from sae_assay.ledger.files import STATE, write_atomically
from sae_assay.ledger.job import job_key

SCHEMA = 1
LEDGER = Path("results/ledger")
OVERLAY = STATE / "ledger"
ATTEMPTS = ".attempts"
INLINE_LIMIT = 400  # bytes of canonical JSON; longer values become blobs, so that a run record stays below 2 kB
FILES = {
    "run": "runs.jsonl",
    "artifact": "artifacts.jsonl",
    "blob": "blobs.jsonl",
    "environment": "environments.jsonl",
    "plan": "plans.jsonl",
    "attempt": "attempts.jsonl",
}


@dataclass(frozen=True)
class Run:
    """A run record with its blobs resolved; `raw` is the record as stored."""

    rule: str
    wildcards: dict[str, str]
    step: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    code: dict[str, str]
    params: dict[str, Any]
    lock_digest: str
    group: str
    raw: dict[str, Any]

    @property
    def key(self) -> str:
        return job_key(self.rule, self.wildcards)

    @property
    def id(self) -> str:
        return self.raw["id"]


def with_id(content: dict[str, Any]) -> dict[str, Any]:
    """Add the id: the SHA-256 of the content's canonical JSON."""
    return {"id": digest(content), **content}


def blob(value: Any) -> dict[str, Any]:
    """A record that holds one value and is named by it."""
    return with_id({"type": "blob", "schema": SCHEMA, "value": value})


def fold(content: dict[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Replace long values by `{"blob": id}`; returns the shortened content and the blobs."""
    short, blobs = dict(content), []
    for name in names:
        if len(canonical(content[name])) > INLINE_LIMIT:
            blobs.append(blob(content[name]))
            short[name] = {"blob": blobs[-1]["id"]}
    return short, blobs


def line(record: dict[str, Any]) -> str:
    """A record as the ledger stores it."""
    return canonical(record) + "\n"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of one ledger file.

    Raises:
        AssayError: a line is no record.
    """
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(text)
            yield {"id": record["id"], **record}
        except (ValueError, KeyError, TypeError):
            raise AssayError(
                f"{path}:{number}", "is no ledger record", f"restore {path} from git, or delete it to rerun its job"
            ) from None


class Ledger:
    """The records of one study: git's, overlaid with those of jobs run since.

    Attributes:
        runs: job key -> candidate runs, the newest first. Git's run stays a candidate after a local rerun, so that going
            back to a commit (`git checkout`, `dvc checkout`) finds the records that fit its files.
        records: every record by id.
        attempts: failed and superseded runs.
    """

    def __init__(self, study: str, keys: Iterable[str] | None = None) -> None:
        """Read a study's ledger; with `keys`, the overlay of these jobs only."""
        self.study = study
        self.records: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, list[Run]] = {}
        self.attempts: list[dict[str, Any]] = []
        folder = OVERLAY / study
        overlay = sorted(folder.glob("[!.]*.jsonl")) if keys is None else [overlay_path(study, key) for key in keys]
        self.overlay_files = [file for file in overlay if file.exists()]
        self._read([file for file in self.overlay_files if ATTEMPTS not in file.name])
        self._read(sorted((LEDGER / study).glob("*.jsonl")))
        self._read([file for file in self.overlay_files if ATTEMPTS in file.name])

    def artifact(self, path: str, sha256: str) -> dict[str, Any] | None:
        """The artifact record of a path's content."""
        return self._artifacts.get((path, sha256))

    @cached_property
    def _artifacts(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(r["path"], r["sha256"]): r for r in self.records.values() if r["type"] == "artifact"}

    def _read(self, files: list[Path]) -> None:
        found = [record for file in files for record in read_lines(file)]
        self.records |= {record["id"]: record for record in found}
        self.attempts += [record for record in found if record["type"] == "attempt"]
        for record in found:
            if record["type"] == "run":
                run = self._resolve(record)
                if all(run.id != known.id for known in self.runs.get(run.key, [])):
                    self.runs.setdefault(run.key, []).append(run)

    def _resolve(self, record: dict[str, Any]) -> Run:
        def value(name: str) -> Any:
            item = record[name]
            if isinstance(item, dict) and set(item) == {"blob"}:
                try:
                    return self.records[item["blob"]]["value"]
                except KeyError:
                    where = f"run {record['id'][:12]} of {record['rule']}"
                    raise AssayError(
                        where, f"its {name} ({item['blob'][:12]}) are not in the ledger", f"restore {LEDGER} from git"
                    ) from None
            return item

        return Run(
            rule=record["rule"],
            wildcards=record["wildcards"],
            step=record["step"],
            inputs=value("inputs"),
            outputs=value("outputs"),
            code=value("code"),
            params=value("params"),
            lock_digest=record["lock_digest"],
            group=record["group"],
            raw=record,
        )

    def referenced(self, runs: Iterable[Run]) -> list[dict[str, Any]]:
        """The runs' own records and all that they name, sorted by id."""
        artifacts, wanted = self._artifacts, {}
        for run in runs:
            wanted[run.id] = run.raw
            names = [
                run.raw["environment"],
                *(v["blob"] for v in run.raw.values() if isinstance(v, dict) and "blob" in v),
            ]
            wanted |= {name: self.records[name] for name in names}
            found = [artifacts.get(item) for item in run.outputs.items()]
            wanted |= {record["id"]: record for record in found if record}
        return [wanted[name] for name in sorted(wanted)]


def overlay_path(study: str, key: str) -> Path:
    """The overlay file of a job."""
    return OVERLAY / study / f"{key}.jsonl"


def write_run(study: str, key: str, records: list[dict[str, Any]]) -> None:
    """Put a job's finished run into the overlay; a run that it supersedes is kept as an attempt."""
    path = overlay_path(study, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        for old in read_lines(path):
            if old["type"] == "run":
                write_attempt(study, key, attempt_of(old, "superseded"))
    write_atomically(path, "".join(map(line, records)))


def attempt_of(run: dict[str, Any], outcome: str, reason: str | None = None) -> dict[str, Any]:
    """A run in short: what it was, when, and how it ended (`failed`, `superseded`)."""
    kept = {name: run[name] for name in ("run_id", "rule", "wildcards", "start", "duration_ms", "commit", "dirty")}
    outputs = digest(run["outputs"]) if run.get("outputs") else None
    return with_id(
        {"type": "attempt", "schema": SCHEMA, "outcome": outcome, "reason": reason, "outputs_digest": outputs, **kept}
    )


def write_attempt(study: str, key: str, record: dict[str, Any]) -> None:
    """Append an attempt to the job's own file (no other job writes it)."""
    path = overlay_path(study, key + ATTEMPTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line(record))


def write_ledger(study: str, records: list[dict[str, Any]]) -> None:
    """Write git's ledger of a study: one sorted file per record type; equal records give equal bytes."""
    folder = LEDGER / study
    folder.mkdir(parents=True, exist_ok=True)
    for kind, name in FILES.items():
        lines = sorted({line(record) for record in records if record["type"] == kind})
        if lines:
            write_atomically(folder / name, "".join(lines))
        else:
            (folder / name).unlink(missing_ok=True)
