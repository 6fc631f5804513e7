"""What an audit can find: codes, findings, and the verdict on each item."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["BITWISE", "WITHIN_TOLERANCE", "DIFFERS", "NOT_COMPARABLE", "NOT_CHECKED"]
VERDICTS: tuple[Verdict, ...] = ("BITWISE", "WITHIN_TOLERANCE", "DIFFERS", "NOT_COMPARABLE", "NOT_CHECKED")

CODES: dict[str, str] = {
    "ARTIFACT_HASH_MISMATCH": "A file's bytes are not the recorded ones.",
    "CELL_DISPLAY_MISMATCH": "A number on the page, or in its list of cells, is not the one of the table that it names.",
    "CHART_MISMATCH": "A chart is not what its declared tables draw.",
    "CODE_CLOSURE_MISMATCH": "A module that a recorded job ran is not the one in git, in the tree or in the verifier.",
    "COVERAGE_GAP": "Something that the study plans (a job, file, score, task or seed) is missing.",
    "ENV_MISMATCH": "Installed packages differ from the locked ones, or the lock from the recorded one.",
    "GRAPH_INVALID": "A record breaks its schema, or the records do not form one graph from inputs to report.",
    "INPUT_CHANGED_DURING_RUN": "An input changed while the job that read it ran.",
    "LOCK_LEDGER_DISAGREE": "dvc.lock and the ledger name other bytes for one folder.",
    "MISSING_PRODUCER": "No recorded job makes this file, and no registry names it.",
    "OUTPUT_HASH_MISMATCH": "A statistic, chart or page is not what the recorded tables give.",
    "PLAN_CHANGED": "The study's choices, or a job's settings, are not those declared before the run.",
    "QUERY_HASH_MISMATCH": "A statistic's SQL is not the recorded one, or not the verifier's.",
    "RECORD_ID_MISMATCH": "A record's id is not the SHA-256 of its content.",
    "RERUN_DIFFERS": "A job that was run again gave other results.",
    "RERUN_UNDISCLOSED": "A run or an attempt that git's history holds has been dropped from the ledger.",
    "ROW_RUN_MISMATCH": "A score row does not agree with the job that made its file.",
    "SECRET_IN_RECORD": "A record holds what should not be published: a home folder, an address, a key.",
    "SOURCE_UNVERIFIABLE": "The commit that a job ran at is not in the history, so that its code cannot be compared.",
    "STALE_BUNDLE": "A signed bundle speaks of other records than these.",
    "SWAPPED": "Two files have exchanged their contents.",
    "TOLERANCE_CHANGED": "The tolerances are not those declared before the run.",
    "UNDECLARED_INPUT": "A job read a file that its rule does not declare.",
    "UNSAFE_INPUT": "A file was refused before it was read: too large, too deep, ambiguous, or leading out of the tree.",
    "UNSIGNED": "No trusted signature covers these records.",
    "UNTRACED_NUMBER": "The page shows a number that no cell stands for.",
    "UNTRUSTED_SIGNER": "A signature is by a key that is not trusted.",
}
"""Finding code -> its meaning in one sentence."""


@dataclass(frozen=True)
class Finding:
    """One finding: its code, the item, what was expected there, what was found, and what to do.

    A `note` is shown and leaves the exit code at 0.
    """

    code: str
    item: str
    expected: str | None
    found: str | None
    remedy: str
    note: bool = False

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise KeyError(f"{self.code} is no finding code; add it to CODES")

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def __str__(self) -> str:
        sides = [f"{name} {value}" for name, value in (("expected", self.expected), ("found", self.found)) if value]
        return f"{self.code} {self.item}: {', '.join(sides) or CODES[self.code]}. What to do: {self.remedy}."
