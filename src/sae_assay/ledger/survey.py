"""What is current: every recorded job is compared with what its rule asks for now and with what lies on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_assay.ledger.canonical import canonical
from sae_assay.ledger.environment import lock_digest
from sae_assay.ledger.files import Hasher
from sae_assay.ledger.job import Job
from sae_assay.ledger.records import Ledger, Run


@dataclass(frozen=True)
class Difference:
    """One reason why a recorded job is not current. `kind`: input, settings, code, packages, step, output, output list, rule."""

    kind: str
    item: str
    found: str

    def __str__(self) -> str:
        return f"{self.kind} {self.item} {self.found}"


def differences(
    run: Run, job: Job | None, hasher: Hasher, missing_is_current: Callable[[str, str], bool] = lambda path, sha: False
) -> list[Difference]:
    """Why a recorded run does not stand for a job, empty where it does.

    Args:
        run: the record.
        job: what the rule asks for now; None where the rule or the wildcards' values are gone.
        hasher: digests of what lies on disk.
        missing_is_current: whether a missing input of that path and SHA-256 would come out the same if it were made.
    """
    if job is None:
        return [Difference("rule", run.rule, "has no such job in this study any more")]
    found: list[Difference] = []
    if job.step != run.step:
        found.append(Difference("step", run.step, f"is now {job.step}"))
    found += [Difference("settings", where, how) for where, how in _changed_settings(run.params, job.settings)]
    if lock_digest(job.group) != run.lock_digest:
        found.append(Difference("packages", f"of the group {job.group}", "have other versions in uv.lock"))
    found += _changed_inputs(run, job, hasher, missing_is_current)
    for path, sha in run.code.items():
        if hasher.sha256(path) != sha:
            found.append(Difference("code", path, "changed" if hasher.sha256(path) else "is gone"))
    if set(job.outputs) != set(run.outputs):
        changed = sorted(set(job.outputs) ^ set(run.outputs))
        found.append(
            Difference(
                "output list", changed[0], "was added" if changed[0] in job.outputs else "is no longer asked for"
            )
        )
    return found + damaged_outputs(run, hasher, missing_counts=True)


def damaged_outputs(run: Run, hasher: Hasher, missing_counts: bool) -> list[Difference]:
    """Outputs whose bytes are not the recorded ones."""
    found = []
    for path, sha in run.outputs.items():
        now = hasher.sha256(path)
        if now is None and missing_counts:
            found.append(Difference("output", path, "is missing"))
        elif now is not None and now != sha:
            found.append(Difference("output", path, "has other bytes than recorded"))
    return found


def _changed_inputs(
    run: Run, job: Job, hasher: Hasher, missing_is_current: Callable[[str, str], bool]
) -> list[Difference]:
    inputs = set(job.inputs)
    found = [Difference("input", path, "was added") for path in sorted(inputs - set(run.inputs))]
    found += [Difference("input", path, "is no longer asked for") for path in sorted(set(run.inputs) - inputs)]
    for path in sorted(inputs & set(run.inputs)):
        now, recorded = hasher.sha256(path), run.inputs[path]
        if now is None and not missing_is_current(path, recorded):
            found.append(Difference("input", path, "is missing, and would be made anew"))
        elif now is not None and now != recorded:
            found.append(Difference("input", path, "changed"))
    return found


def _changed_settings(old: Any, new: Any, where: str = "") -> list[tuple[str, str]]:
    """Dotted keys at which two settings differ, and how."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            change
            for key in keys
            for change in _changed_settings(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
        ]
    if canonical(old) == canonical(new):
        return []
    short = [text if len(text) <= 60 else text[:57] + "..." for text in (canonical(old), canonical(new))]
    return [(where, f"was {short[0]}, is {short[1]}")]


def candidates_of(job: Job, study: str) -> list[Run]:
    """The recorded runs of one job, without reading the overlay of all others."""
    return Ledger(study, [job.key]).runs.get(job.key, [])


class Survey:
    """The state of every recorded job of a study."""

    def __init__(
        self, ledger: Ledger, ask: Callable[[Run], Job | None], hasher: Hasher, targets: Iterable[str] = ()
    ) -> None:
        """Compare a ledger with the rules and the disk; `targets` are files that are always made when they are missing."""
        self._hasher = hasher
        self._jobs = {key: ask(runs[0]) for key, runs in ledger.runs.items()}
        self._makers = {
            path: key for key, runs in ledger.runs.items() for run in reversed(runs) for path in run.outputs
        }
        for key, job in self._jobs.items():
            self._makers |= dict.fromkeys(job.outputs if job else (), key)
        self._ledger = ledger
        self._verdicts: dict[str, tuple[Run, list[Difference]] | None] = {}
        self._levels: dict[str, int] = {}
        self._targets = set(targets)
        self._settled: dict[str, bool] = {}
        self._undisturbed: dict[str, bool] = {}

    @property
    def keys(self) -> Iterable[str]:
        return self._ledger.runs

    def __contains__(self, key: str) -> bool:
        return key in self._ledger.runs

    def verdict(self, key: str) -> tuple[Run, list[Difference]]:
        """The run that stands for a job (a current one where there is one, else the newest), and why it is not current.

        Missing outputs do not count here: Snakemake sees them itself, and makes them when something needs them.
        """
        known = self._verdicts.get(key)
        if known is not None:
            return known
        runs = self._ledger.runs[key]
        if key in self._verdicts:  # being judged: a cycle, which no workflow has
            return runs[0], [Difference("rule", runs[0].rule, "depends on itself")]
        self._verdicts[key] = None
        judged = [(run, self._differences(run, self._jobs[key])) for run in runs]
        best = min(judged, key=lambda item: bool(item[1]))
        self._verdicts[key] = best
        return best

    def _differences(self, run: Run, job: Job | None) -> list[Difference]:
        found = differences(run, job, self._hasher, self._missing_is_current)
        return [item for item in found if not (item.kind == "output" and item.found == "is missing")]

    def _missing_is_current(self, path: str, sha256: str) -> bool:
        key = self._makers.get(path)
        if key is None or key not in self._ledger.runs:
            return False
        run, why = self.verdict(key)
        return run.outputs.get(path) == sha256 and all(item.kind == "output" for item in why)

    def level(self, path: str) -> int:
        """Length of the longest chain of jobs behind a file; 0 for a file that no recorded job makes."""
        if path not in self._levels:
            self._levels[path] = 0
            key = self._makers.get(path)
            if key in self._ledger.runs:
                inputs = self.verdict(key)[0].inputs
                self._levels[path] = 1 + max(map(self.level, inputs), default=0)
        return self._levels[path]

    def complete(self, key: str) -> bool:
        """Whether all outputs of a job exist with their recorded bytes."""
        return all(self._hasher.sha256(path) == sha for path, sha in self.verdict(key)[0].outputs.items())

    def settled(self, key: str) -> bool:
        """Whether a job is current and nothing behind it will be made with other bytes, so that it has no reason to run."""
        if key not in self._settled:
            self._settled[key] = False
            run, why = self.verdict(key)
            makers = {self._makers[path] for path in run.inputs if path in self._makers}
            remade = any(path in self._targets and self._hasher.sha256(path) is None for path in run.inputs)
            self._settled[key] = not why and not remade and all(map(self.settled, makers))
        return self._settled[key]

    def undisturbed(self, path: str) -> bool:
        """Whether nothing behind a file will run at all, not even to make again what is missing."""
        key = self._makers.get(path)
        if key is None:
            return True
        if key not in self._undisturbed:
            self._undisturbed[key] = False
            inputs = self.verdict(key)[0].inputs
            quiet = self.complete(key) and self.settled(key)
            self._undisturbed[key] = quiet and all(map(self.undisturbed, inputs))
        return self._undisturbed[key]

    def outputs(self) -> dict[str, list[Difference]]:
        """Every recorded output path that exists -> why it is not current (empty: it is)."""
        found: dict[str, list[Difference]] = {}
        for key in self.keys:
            run, why = self.verdict(key)
            job_wide = [item for item in why if item.kind != "output"]
            for path, sha in run.outputs.items():
                if self._makers[path] != key:
                    continue
                damaged = self._hasher.sha256(path) not in (None, sha)
                found[path] = job_wide + (
                    [Difference("output", path, "has other bytes than recorded")] if damaged else []
                )
        return found

    def sources(self) -> set[str]:
        """Inputs of recorded jobs that no recorded job makes."""
        inputs = {path for key in self.keys if (job := self._jobs[key]) for path in job.inputs}
        return inputs - set(self._makers)

    def current_runs(self) -> list[Run]:
        """The runs that stand for the study as it is now; jobs that are not current or no longer asked for are left out."""
        verdicts = [self.verdict(key) for key in self.keys]
        return [run for run, why in verdicts if not why]


def unknown_files(folders: Iterable[Path], known: Iterable[str]) -> list[str]:
    """Files under these folders that no record names (hidden ones aside)."""
    known = set(known)
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.as_posix()
            if path.is_file() and name not in known and not any(part.startswith(".") for part in path.parts):
                found.append(name)
    return found
