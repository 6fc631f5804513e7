"""Records: known schema, canonical form, an id that is the digest of the content, references that resolve, nothing secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sae_assay.audit import reading
from sae_assay.audit.context import Context
from sae_assay.audit.evidence import Evidence, Line, RunRecord, true_id
from sae_assay.audit.findings import Finding
from sae_assay.ledger.canonical import canonical, digest

NAME = "records"
RESTORE = "restore results/ledger from git"
# Anchored, without nested repetition: linear in the length of the text.
SECRETS = {
    "a home folder": re.compile(r"(?:/home/|/Users/|/root/|[A-Za-z]:\\Users\\)"),
    "an e-mail address or a user at a host": re.compile(
        r"\b[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"
    ),
    "a private key": re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY"),
    "an access key": re.compile(
        r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22}|hf_[A-Za-z0-9]{30}|sk-[A-Za-z0-9_-]{20}"
        r"|xox[abprs]-[A-Za-z0-9-]{10}|glpat-[\w-]{20}|eyJ[\w-]{10,2000}\.eyJ)"
    ),
    "a password": re.compile(r"(?i)\b(?:password|passwd|secret|api_?key|access_?token)\b\s{0,3}[=:]\s{0,3}[^\s{,]{4}"),
}


def check(context: Context) -> list[Finding]:
    """Every line of the ledger, one by one, and every reference between them."""
    evidence = context.evidence
    found = list(evidence.problems)
    for line in evidence.lines:
        problems = list(_line(line))
        found += problems
        context.fine(NAME, line.where, not any(not problem.note for problem in problems))
    for problem in evidence.problems:
        context.judged(NAME, problem.item, "DIFFERS")
    found += _form(evidence)
    for run in evidence.runs:
        found += _run(run, evidence)
    return found + _unreferenced(evidence)


def _line(line: Line) -> Iterator[Finding]:
    record = line.record
    label = f"{line.where} ({record['type']} {record['id'][:12]})"
    true = true_id(record)
    if true != record["id"]:
        yield Finding("RECORD_ID_MISMATCH", label, true, record["id"], RESTORE)
    text = "\n".join(_strings(record))
    for what, pattern in SECRETS.items():
        hit = pattern.search(text)
        if hit:
            remedy = "take it out at its source, run the job again and record; what was published counts as known"
            yield Finding("SECRET_IN_RECORD", label, "nothing secret", f"{what} ({hit[0][:4]}...)", remedy)
    for name in sorted(_names(record)):
        problem = reading.deceptive(name)
        if problem:
            yield Finding("UNSAFE_INPUT", label, "plain names", f"{name[:80]!r} {problem}", RESTORE)
    if record["type"] == "artifact" and (problem := reading.safe_path(record["path"])):
        yield Finding("UNSAFE_INPUT", label, "a path inside the tree", f"{record['path'][:80]!r} {problem}", RESTORE)


def _strings(value: Any) -> Iterator[str]:
    """Every text in a record, keys included."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += [*item, *item.values()]
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, str):
            yield item


def _names(record: dict[str, Any]) -> set[str]:
    """Keys, paths and names that are not plain ASCII: what a reader compares by eye (free text is left out)."""
    if record["type"] == "blob":
        value = record["value"]
        texts = _strings(_without_prose(value)) if isinstance(value, dict) else _strings(value)
    else:
        texts = _strings({name: value for name, value in record.items() if name != "reason"})
    return {text for text in texts if not text.isascii()}


def _without_prose(params: dict[str, Any]) -> dict[str, Any]:
    """A job's settings without the study's description."""
    design = params.get("design")
    if not isinstance(design, dict):
        return params
    return {**params, "design": {name: value for name, value in design.items() if name != "description"}}


def _form(evidence: Evidence) -> list[Finding]:
    """Order, spacing and repetition change nothing, and are told as notes: a ledger that somebody handled."""
    found = []
    loose = [line.where for line in evidence.lines if line.text != canonical(line.record)]
    if loose:
        seen = f"{len(loose)} line(s) are not"
        found.append(Finding("GRAPH_INVALID", loose[0], "canonical JSON", seen, RESTORE, note=True))
    files: dict[str, list[str]] = {}
    for line in evidence.lines:
        files.setdefault(line.where.rpartition(":")[0], []).append(line.text)
    for path, lines in files.items():
        if lines != sorted(set(lines)):
            found.append(Finding("GRAPH_INVALID", path, "sorted lines, each once", "another order", RESTORE, note=True))
    return found


def _run(run: RunRecord, evidence: Evidence) -> Iterator[Finding]:
    label = f"run {run.raw['id'][:12]} ({run.label})"
    if run.run_id != run.raw["run_id"]:
        yield Finding("RECORD_ID_MISMATCH", f"{label}: run_id", run.run_id, run.raw["run_id"], RESTORE)
    if digest(run.params) != run.raw["params_digest"]:
        yield Finding("RECORD_ID_MISMATCH", f"{label}: params", digest(run.params), run.raw["params_digest"], RESTORE)
    seeds = {name: value for name, value in run.params.items() if "seed" in name}
    if canonical(seeds) != canonical(run.seeds):
        yield Finding("RECORD_ID_MISMATCH", f"{label}: seeds", canonical(seeds), canonical(run.seeds)[:200], RESTORE)
    if run.raw["study"] != evidence.study:
        yield Finding("GRAPH_INVALID", label, f"study {evidence.study}", f"study {run.raw['study'][:60]}", RESTORE)
    environment = evidence.records.get(run.raw["environment"])
    if environment is None or environment["type"] != "environment":
        seen = "no such record in the ledger"
        yield Finding("GRAPH_INVALID", label, f"environment {run.raw['environment'][:12]}", seen, RESTORE)
    for path in sorted({*run.inputs, *run.outputs, *run.code}):
        problem = reading.safe_path(path)
        if problem:
            yield Finding("UNSAFE_INPUT", label, "paths inside the tree", f"{path[:80]!r} {problem}", RESTORE)
    for path, sha in run.outputs.items():
        if all(record["sha256"] != sha for record in evidence.artifacts.get(path, [])):
            yield Finding("GRAPH_INVALID", path, f"an artifact record of {sha[:12]}", "none in the ledger", RESTORE)


def _unreferenced(evidence: Evidence) -> list[Finding]:
    """Blobs and environments that no run names: left over, or what a deleted run named."""
    named = {run["environment"] for run in evidence.of_type("run")}
    for record in [*evidence.of_type("run"), *evidence.of_type("attempt")]:
        named |= {value["blob"] for value in record.values() if isinstance(value, dict) and set(value) == {"blob"}}
    left = [r for kind in ("blob", "environment") for r in evidence.of_type(kind) if r["id"] not in named]
    return [
        Finding("GRAPH_INVALID", f"{r['type']} {r['id'][:12]}", "a run that names it", "none", RESTORE) for r in left
    ]
