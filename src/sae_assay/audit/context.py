"""What every check is given, and where it says what it checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from sae_assay.audit import reading
from sae_assay.audit.evidence import Evidence
from sae_assay.audit.expected import mart_files
from sae_assay.audit.findings import Verdict
from sae_assay.audit.replay import Replay
from sae_assay.audit.tree import Tree
from sae_assay.plan import Plan
from sae_assay.report.names import CHART_NAMES


@dataclass(frozen=True)
class Options:
    """What the auditor asked for.

    Attributes:
        depth: 1 statistics, 2 bytes, 3 scores.
        sample: share of the runs that depth 3 recomputes.
        seed: of that choice.
        remote: also hash the objects of the bundled remote.
        cores: for depth 3.
        trusted_keys: whose signatures count; None: the tree's own list.
        require_signed: a bundle without a trusted signature is a finding.
    """

    depth: int = 1
    sample: float = 0.05
    seed: int = 0
    remote: bool = False
    cores: int = 1
    trusted_keys: Path | None = None
    require_signed: bool = False


@dataclass
class Context:
    """One audit.

    Attributes:
        config: the study's file, relative to the tree's root.
        plan: the study as the tree declares it now, read by the verifier's own code.
        verdicts: check -> item -> verdict.
        not_checked: check -> item -> why not.
        notes: plain sentences for the reader, such as the detection probability.
    """

    tree: Tree
    evidence: Evidence
    config: str
    plan: Plan
    options: Options = field(default_factory=Options)
    progress: Callable[[str], None] = lambda text: None
    verdicts: dict[str, dict[str, Verdict]] = field(default_factory=dict)
    not_checked: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    _replay: Replay | None = None
    _drawing: Replay | None = None

    @property
    def root(self) -> Path:
        return self.tree.root

    @property
    def study(self) -> str:
        return self.evidence.study

    def judged(self, check: str, item: str, verdict: Verdict) -> None:
        """Say what came out for an item; DIFFERS stays."""
        known = self.verdicts.setdefault(check, {})
        if known.get(item) != "DIFFERS":
            known[item] = verdict

    def fine(self, check: str, item: str, is_fine: bool) -> None:
        """An item that is either bitwise as recorded, or not."""
        self.judged(check, item, "BITWISE" if is_fine else "DIFFERS")

    def skipped(self, check: str, item: str, reason: str) -> None:
        """Say that an item was not checked, and why."""
        self.judged(check, item, "NOT_CHECKED")
        self.not_checked.setdefault(check, {})[item] = reason

    def table(self, path: str) -> pl.DataFrame:
        """A parquet table of the tree, read once within limits."""
        if path not in self._tables:
            self._tables[path] = reading.read_table(self.root, path)
        return self._tables[path]

    @property
    def replay(self) -> Replay:
        """The statistics, computed again from the tree's tables; started at the first call, ended by `close`."""
        if self._replay is None:
            job = {"tables": self.plan.tables(), "choices": self.plan.choices()}
            self._replay = Replay(job | self._place())
        return self._replay

    @property
    def drawing(self) -> Replay:
        """Charts and page, made again from the tree's marts; started at the first call, ended by `close`."""
        if self._drawing is None:
            marts, tables = mart_files(self.plan), list(self.plan.tables().values())
            job: dict[str, Any] = {"marts": marts, "shown": tables, "study": self.study}
            charts = {name: {"svg": self.plan.results("charts", f"{name}.svg")} for name in CHART_NAMES}
            job |= {
                "charts": charts,
                "page": self.plan.results("report", "report.html"),
                "design": self.plan.page_design(),
                "pictures": self.options.depth >= 2,
            }
            self._drawing = Replay(job | self._place())
        return self._drawing

    def _place(self) -> dict[str, str]:
        return {"root": str(self.root), "profile": self.plan.study.numeric_profile}

    def close(self) -> None:
        """End what runs beside the checks."""
        for running in (self._replay, self._drawing):
            if running is not None:
                running.__exit__()
