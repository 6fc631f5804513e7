"""`sae-assay verify`: runs the checks of a depth over a tree, and says what was checked, found and not checked.

The tree is data. At depths 1 and 2 nothing of it is run: code, SQL and templates are the verifier's own. Depth 3 runs the
tree's workflow, in a temporary clone.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_assay.audit import evidence, reading
from sae_assay.audit.checks import bytes as bytes_check
from sae_assay.audit.checks import (
    cells,
    charts,
    code,
    environment,
    graph,
    lock,
    plan,
    records,
    signatures,
    statistics,
    table,
)
from sae_assay.audit.context import Context, Options
from sae_assay.audit.findings import VERDICTS, Finding
from sae_assay.audit.tree import Tree, package_digest
from sae_assay.errors import AssayError
from sae_assay.plan import Plan
from sae_assay.study import Study

CHECKS: tuple[tuple[str, Callable[[Context], list[Finding]]], ...] = (
    (records.NAME, records.check),
    (graph.NAME, graph.check),
    (plan.NAME, plan.check),
    (code.NAME, code.check),
    (environment.NAME, environment.check),
    (lock.NAME, lock.check),
    (bytes_check.NAME, bytes_check.check),
    (table.NAME, table.check),
    (statistics.NAME, statistics.check),
    (charts.NAME, charts.check),
    (cells.NAME, cells.check),
    (signatures.NAME, signatures.check),
)

PROMISES_DO_NOT_COVER = (
    "A signer or author who lies at the source: false inputs, or scores invented with all their records, agree with each "
    "other. Only running the jobs again (depth 3) tells them from real ones.",
    "GPU results beyond the tolerance: atomics make them repeatable only within one.",
    "Files that a compiled library opened by itself: the ledger sees what Python opens and what the rules declare.",
    "Whether the metrics are good ones: that is what the report is about.",
    "What has no digest in the ledger: the machine, its drivers, its memory.",
)


@dataclass(frozen=True)
class Report:
    """What an audit found."""

    study: str
    depth: int
    findings: list[Finding]
    context: Context

    @property
    def failed(self) -> bool:
        """Whether there is a finding that is no note."""
        return any(not finding.note for finding in self.findings)

    @property
    def verdict(self) -> str:
        """DIFFERS with findings; else the weakest of what was compared."""
        if self.failed:
            return "DIFFERS"
        return "WITHIN_TOLERANCE" if self.counts["WITHIN_TOLERANCE"] else "BITWISE"

    @property
    def counts(self) -> dict[str, int]:
        """Verdict -> items."""
        found = Counter(v for items in self.context.verdicts.values() for v in items.values())
        return {verdict: found[verdict] for verdict in VERDICTS}

    def text(self) -> str:
        """For people."""
        left = {check: items for check, items in self.context.not_checked.items() if items}
        lines = [f"{'note: ' if finding.note else ''}{finding}" for finding in self.findings]
        counts = ", ".join(f"{verdict} {count}" for verdict, count in self.counts.items() if count)
        lines.append(f"{self.verdict}: study {self.study} at depth {self.depth}: {counts}")
        lines += [f"not checked: {_shortly(check, items)}" for check, items in left.items()]
        return "\n".join([*lines, *self.context.notes])

    def as_dict(self) -> dict[str, Any]:
        """For --json: equal trees give equal text, so no clock is in it."""
        left = self.context.not_checked
        return {
            "study": self.study,
            "depth": self.depth,
            "verdict": self.verdict,
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self.findings],
            "checked": {check: _compared(items) for check, items in self.context.verdicts.items()},
            "not_checked": [
                {"check": check, "item": item, "reason": reason}
                for check, items in left.items()
                for item, reason in sorted(items.items())
            ],
            "notes": self.context.notes,
            "ledger_digest": self.context.evidence.digest,
            "verifier": verifier(),
        }


def _shortly(check: str, items: dict[str, str]) -> str:
    item, reason = next(iter(items.items()))
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    return f"{check}: {item}{more}: {reason}"


def _compared(items: dict[str, Any]) -> int:
    return sum(verdict != "NOT_CHECKED" for verdict in items.values())


def verifier() -> dict[str, str]:
    """The version that verifies, and the digest of its package."""
    return {"version": importlib.metadata.version("sae-assay"), "package_digest": package_digest()}


def config_of(study: str) -> str:
    """A study's file in its tree, from what `--study` was given."""
    return study if study.endswith((".yaml", ".yml")) else f"studies/{study}.yaml"


def load_study(root: Path, study: str) -> Study:
    """A tree's study, read within limits.

    Raises:
        AssayError: there is no such study, or it is refused.
    """
    reading.read_yaml(root, config_of(study))
    return Study.load(reading.inside(root, config_of(study)))


def open_tree(
    root: Path, study: str, options: Options | None = None, progress: Callable[[str], None] = lambda text: None
) -> Context:
    """Read the study and its ledger.

    Args:
        root: the tree.
        study: a study's file, or the name of one under studies/, relative to the tree.

    Raises:
        AssayError: there is no tree, no such study, or no ledger of it.
    """
    if not root.is_dir():
        raise AssayError(str(root), "is no folder", "name the clone with --root")
    config = config_of(study)
    chosen = Plan(load_study(root, study), root)
    tree = Tree(root)
    return Context(tree, evidence.read(tree.root, chosen.name), config, chosen, options or Options(), progress)


def verify(
    root: Path,
    study: str = "config.yaml",
    options: Options | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Run every check of a depth.

    Args:
        root: the tree under audit.
        study: a study's file or name, relative to the tree.
        options: depth, sample, and so on.
        progress: told in a few words what is being done.

    Raises:
        AssayError: the audit could not start, or a check could not run.
    """
    context = open_tree(root, study, options, progress)
    try:
        found = _run(context)
    finally:
        context.close()
    unique = sorted(dict.fromkeys(found), key=lambda f: (f.note, f.code, f.item, f.found or ""))
    return Report(context.study, context.options.depth, unique, context)


def _run(context: Context) -> list[Finding]:
    assert context.replay and context.drawing  # they run beside the checks that come first
    found: list[Finding] = []
    for name, check in CHECKS:
        context.progress(name)
        found += check(context)
    if context.options.depth >= 3:
        from sae_assay.audit.checks import recompute

        context.progress(recompute.NAME)
        found += recompute.check(context)
    else:
        context.skipped("recompute", "scores", "recomputed at depth 3, from a sample")
    return found


def findings_before_signing(root: Path, study: str) -> list[Finding]:
    """What `verify --depth 2` finds, bundles aside: nothing is signed unless this is empty.

    Raises:
        AssayError: see `verify`.
    """
    report = verify(root, study, Options(depth=2))
    return [finding for finding in report.findings if finding.code not in signatures.CODES]
