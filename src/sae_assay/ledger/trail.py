"""Following the ledger: why an artifact is stale, how far a study is, where its report lies."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sae_assay.errors import AssayError
from sae_assay.ledger.records import Ledger, Run
from sae_assay.ledger.restore import read_stale


@dataclass(frozen=True)
class Cause:
    """One root cause: what happened, to how many artifacts behind the one asked about, and the way to the first of them."""

    reason: str
    artifacts: int
    way: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        more = f" and {self.artifacts - 1} more" if self.artifacts > 1 else ""
        return f"{self.reason}\n    touches {self.way[-1]}{more}; the way: {' <- '.join(self.way)}"


def explain(study: str, path: str) -> list[Cause]:
    """Why an artifact is not current, nearest causes first; empty where it is.

    A reason that only passes on another one (an input changed because its own job is stale) is left out.

    Raises:
        AssayError: neither the ledger nor the disk knows the path.
    """
    ledger = Ledger(study)
    makers = {output: runs[0] for runs in ledger.runs.values() for run in reversed(runs) for output in run.outputs}
    stale = read_stale(study)
    if path not in makers and path not in stale:
        raise AssayError(
            path, f"is no artifact that study {study} has made", "check the path; `snakemake -n PATH` plans it"
        )
    ways: dict[str, list[list[str]]] = {}
    queue, seen = deque([[path]]), {path}
    while queue:
        way = queue.popleft()
        here = way[-1]
        for reason in [*([] if Path(here).exists() or len(way) > 1 else ["is missing"]), *stale.get(here, [])]:
            if not reason.startswith("input ") or not _passed_on(reason, makers, stale):
                ways.setdefault(reason, []).append(way)
        for name in sorted(makers[here].inputs) if here in makers else ():
            if name not in seen:
                seen.add(name)
                queue.append([*way, name])
    return [Cause(reason, len(found), found[0]) for reason, found in ways.items()]


def _passed_on(reason: str, makers: dict[str, Run], stale: dict[str, list[str]]) -> bool:
    """Whether `input PATH ...` is explained by PATH's own reasons."""
    name = reason.split()[1]
    return name in stale and name in makers


def progress(study: str, planned: list[str]) -> dict[str, Any]:
    """Jobs done, planned and failed, and the seconds that the planned ones took last time (None: unknown)."""
    ledger = Ledger(study)
    runs = [candidates[0] for candidates in ledger.runs.values()]
    times: dict[str, list[float]] = {}
    for run in runs:
        times.setdefault(run.rule, []).append(run.raw["duration_ms"] / 1000)
    counts = Counter(planned)
    known = all(rule in times for rule in counts)
    left = sum(count * sum(times[rule]) / len(times[rule]) for rule, count in counts.items()) if known else None
    finished = {run.raw["run_id"] for run in runs}
    failed = [a for a in ledger.attempts if a["outcome"] == "failed" and a["run_id"] not in finished]
    shown = [{name: a[name] for name in ("rule", "wildcards", "start", "reason")} for a in failed[-20:]]
    return {
        "study": study,
        "done": len(runs),
        "planned": dict(sorted(counts.items())),
        "failed": shown,
        "seconds_left": left,
    }


def report_findings(study: str) -> tuple[str, list[str]]:
    """The report's path and the main finding of each lens, as plain text.

    Raises:
        AssayError: there is no report.
    """
    report = Path("results/report", study, "report.html")
    cells = report.with_name("cells.json")
    if not report.exists() or not cells.exists():
        raise AssayError(str(report), "is missing", "run `make report`, or `dvc pull`")
    found = json.loads(cells.read_text(encoding="utf-8")).get("findings", [])
    return report.as_posix(), [str(item["text"]) if isinstance(item, dict) else str(item) for item in found]
