"""Code: what each job ran is what git holds at its commit, what the tree holds now, and what the verifier's own version holds."""

from __future__ import annotations

import posixpath

from sae_assay.audit.context import Context
from sae_assay.audit.evidence import RunRecord
from sae_assay.audit.findings import Finding
from sae_assay.audit.tree import PACKAGE, text_digests

NAME = "code"


def check(context: Context) -> list[Finding]:
    """Code closures, package files that are inputs and SAEBench's environment, against three places."""
    wanted = _wanted(context)
    found = _against(context, wanted, "tree") + _against(context, wanted, "verifier")
    found += _against_git(context, wanted)
    bad = {finding.item for finding in found if not finding.note}
    for path in {path for path, _ in wanted}:
        context.fine(NAME, path, path not in bad)
    return found


def _wanted(context: Context) -> dict[tuple[str, str], list[RunRecord]]:
    """(code file, SHA-256) -> runs whose records name it."""
    found: dict[tuple[str, str], list[RunRecord]] = {}
    environment = context.plan.library_code()
    for run in context.evidence.runs:
        read = {path: sha for path, sha in run.inputs.items() if path.startswith(PACKAGE) or path in environment}
        for item in {*run.code.items(), *read.items()}:
            found.setdefault(item, []).append(run)
    return dict(sorted(found.items()))


def _code_of(path: str) -> str:
    return "QUERY_HASH_MISMATCH" if posixpath.splitext(path)[1] == ".sql" else "CODE_CLOSURE_MISMATCH"


def _against(context: Context, wanted: dict[tuple[str, str], list[RunRecord]], where: str) -> list[Finding]:
    """Against the tree's files, or the verifier's own, who has no copy of SAEBench's environment."""
    look_up = context.tree.text if where == "tree" else context.tree.own
    remedy = {
        "tree": "restore the file from git, or run `snakemake` and record under the new code",
        "verifier": "verify with the version of sae-assay that recorded, or see whether this change was meant",
    }[where]
    found = []
    for (path, sha), runs in wanted.items():
        if where == "verifier" and not path.startswith(PACKAGE):
            continue
        now = look_up(path)
        if sha not in now:
            seen = f"{min(now, default='no such file')} in the {where} ({_named(runs)})"
            found.append(Finding(_code_of(path), path, sha, seen, remedy))
    return found


def _named(runs: list[RunRecord]) -> str:
    labels = sorted({run.label for run in runs})
    return labels[0] + (f" and {len(labels) - 1} more" if len(labels) > 1 else "")


def _against_git(context: Context, wanted: dict[tuple[str, str], list[RunRecord]]) -> list[Finding]:
    """Against the files at each run's commit. A dirty run is told as a note: its code need not be in git."""
    history = context.tree.history
    if history is None:
        context.skipped(NAME, "git", "the tree is no git repository: code was compared with the tree's files only")
        return []
    pairs = {
        (run.raw["commit"], path, sha): run
        for (path, sha), runs in wanted.items()
        for run in runs
        if run.raw["commit"] in history.commits and not run.raw["dirty"]
    }
    content = history.files(sorted({(commit, path) for commit, path, _ in pairs}))
    digests = {name: text_digests(text) for name, text in content.items()}
    found = _sources(context)
    for (commit, path, sha), run in sorted(pairs.items()):
        if sha not in digests.get((commit, path), set()):
            now = min(digests.get((commit, path), set()), default="no such file")
            seen = f"{now} at commit {commit[:12]} ({run.label})"
            remedy = "the record does not describe what its commit holds: run the job again and record"
            found.append(Finding(_code_of(path), path, sha, seen, remedy))
    return found


def _sources(context: Context) -> list[Finding]:
    history = context.tree.history
    assert history is not None
    found = []
    for commit in sorted({str(run.raw["commit"]) for run in context.evidence.runs} - history.commits):
        runs = [run for run in context.evidence.runs if str(run.raw["commit"]) == commit]
        seen = "no commit was recorded" if commit == "None" else f"commit {commit[:12]} is not in the history"
        remedy = (
            "fetch the whole history (`git fetch --unshallow`)" if history.shallow else "ask for the missing commit"
        )
        found.append(Finding("SOURCE_UNVERIFIABLE", _named(runs), "a commit that HEAD descends from", seen, remedy))
    dirty = [run for run in context.evidence.runs if run.raw["dirty"]]
    if dirty:
        seen = f"{len(dirty)} run(s) started from files that git did not hold"
        remedy = "commit, run them again and record; their code was compared with the tree's files"
        found.append(Finding("SOURCE_UNVERIFIABLE", _named(dirty), "a clean tree", seen, remedy, note=True))
    return found
