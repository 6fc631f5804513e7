"""The graph: every file has one producer, every input is some producer's output or a registered one, and nothing is a cycle."""

from __future__ import annotations

from collections import deque

from sae_assay.audit.context import Context
from sae_assay.audit.evidence import Evidence, RunRecord
from sae_assay.audit.findings import Finding
from sae_assay.audit.tree import PACKAGE
from sae_assay.plan import Plan

NAME = "graph"
RESTORE = "restore results/ledger from git, or run the job again and record"
REGISTRY = "data/registry.yaml"


def check(context: Context) -> list[Finding]:
    """Producers, inputs, cycles and orphans."""
    evidence = context.evidence
    found = _producers(evidence) + _inputs(context)
    ring = _cycle(evidence)
    if ring:
        found.append(Finding("GRAPH_INVALID", ring[0], "no cycle", " <- ".join(ring[:6]), RESTORE))
    found += _orphans(evidence, context.plan)
    bad = {finding.item for finding in found if not finding.note}
    for path in {*evidence.artifacts, *evidence.outputs}:
        context.fine(NAME, path, path not in bad)
    return found


def _producers(evidence: Evidence) -> list[Finding]:
    found = []
    for path, records in sorted(evidence.artifacts.items()):
        made = {run.outputs[path] for run in evidence.producers.get(path, [])}
        for record in records:
            if record["sha256"] not in made:
                seen = f"bytes {record['sha256'][:12]} that no recorded run made"
                found.append(Finding("MISSING_PRODUCER", path, "one run that made it", seen, RESTORE))
    for path, runs in sorted(evidence.producers.items()):
        jobs, contents = {run.label for run in runs}, {run.outputs[path] for run in runs}
        if len(jobs) > 1 or len(contents) > 1:
            seen = "; ".join(sorted(f"{run.label} ({run.outputs[path][:12]})" for run in runs))
            found.append(Finding("GRAPH_INVALID", path, "one producer, one content", seen, RESTORE))
    return found


def _inputs(context: Context) -> list[Finding]:
    evidence = context.evidence
    local, brought = _local_folders(context.plan), _local_files(context.plan)
    found: dict[str, Finding] = {}
    wrong: dict[str, tuple[str, str]] = {}
    for run in evidence.runs:
        for path, sha in sorted(run.inputs.items()):
            made = [producer.outputs[path] for producer in evidence.producers.get(path, [])]
            if made and sha not in made:
                wrong[path] = (made[0], sha)
            elif not made and not path.startswith((PACKAGE, *local)) and path not in brought:
                seen = f"no recorded run makes it, and {run.label} read it"
                found[path] = Finding("MISSING_PRODUCER", path, "a producer or a registered input", seen, RESTORE)
    return [*found.values(), *_unequal(wrong, evidence)]


def _unequal(wrong: dict[str, tuple[str, str]], evidence: Evidence) -> list[Finding]:
    """Inputs whose digest is not their producer's; two that have each other's are one finding."""
    found = []
    for path, (made, read) in sorted(wrong.items()):
        others = [other for other, (theirs, seen) in wrong.items() if (theirs, seen) == (read, made) and other != path]
        readers = ", ".join(sorted({run.label for run in evidence.runs if run.inputs.get(path) == read})[:3])
        if others:
            found.append(Finding("SWAPPED", path, made, f"the content of {others[0]} ({readers} read it)", RESTORE))
        else:
            found.append(Finding("GRAPH_INVALID", path, f"input {made}", f"{read} was read by {readers}", RESTORE))
    return found


def _local_folders(plan: Plan) -> tuple[str, ...]:
    """Folders of SAEs and of others' results that the study brings along."""
    saes = [item for name in plan.study.substrates for item in plan.local(name)]
    theirs = [path for item in plan.study.imported.values() for path in item.paths]
    return (*(f"{str(item.path).rstrip('/')}/" for item in saes), *theirs)


def _local_files(plan: Plan) -> set[str]:
    """The registry, and the code and data that jobs of the real SAEBench read."""
    return {REGISTRY, *plan.library_code(), *plan.ravel_files("ravel")}


def _cycle(evidence: Evidence) -> list[str]:
    """Files that depend on themselves, in order; empty where there is none (Kahn's order over the runs)."""
    waiting = {id(run): {p for p in run.inputs if p in evidence.producers} for run in evidence.runs}
    readers: dict[str, list[RunRecord]] = {}
    for run in evidence.runs:
        for path in waiting[id(run)]:
            readers.setdefault(path, []).append(run)
    left = {path: len(runs) for path, runs in evidence.producers.items()}
    queue = deque(run for run in evidence.runs if not waiting[id(run)])
    done = 0
    while queue:
        run = queue.popleft()
        done += 1
        for path in run.outputs:
            left[path] -= 1
            for reader in readers.get(path, []) if left[path] == 0 else []:
                waiting[id(reader)].discard(path)
                if not waiting[id(reader)]:
                    queue.append(reader)
    if done == len(evidence.runs):
        return []
    stuck = [run for run in evidence.runs if waiting[id(run)]]
    return _walk_back(stuck, {id(run): waiting[id(run)] for run in stuck}, evidence)


def _walk_back(stuck: list[RunRecord], waiting: dict[int, set[str]], evidence: Evidence) -> list[str]:
    run, way = min(stuck, key=lambda run: run.label), list[str]()
    for _ in range(len(stuck) + 1):
        path = min(waiting[id(run)])
        if path in way:
            ring = way[way.index(path) :]
            first = ring.index(min(ring))
            return [*ring[first:], *ring[: first + 1]]
        way.append(path)
        behind = [maker for maker in evidence.producers[path] if id(maker) in waiting]
        if not behind:
            break
        run = behind[0]
    return way


def _orphans(evidence: Evidence, plan: Plan) -> list[Finding]:
    """Runs from whose outputs no path leads to a target of the study: records of another study, or a quiet extra."""
    queue = deque(path for path in plan.targets() if path in evidence.producers)
    reached: set[int] = set()
    while queue:
        for run in evidence.producers.get(queue.popleft(), []):
            if id(run) not in reached:
                reached.add(id(run))
                queue.extend(run.inputs)
    found = []
    for run in evidence.runs:
        if id(run) not in reached:
            item = min(run.outputs, default=run.label)
            seen = f"{run.label} leads to nothing that the study reports"
            found.append(
                Finding("GRAPH_INVALID", item, "a way to the report", seen, "take it out with `sae-assay record`")
            )
    return found
