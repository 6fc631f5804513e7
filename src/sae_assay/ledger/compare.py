"""Did this machine reproduce the recorded scores?

The recorded files are pulled into a temporary clone; nothing in the working tree is touched. A score file is compared
byte for byte first. Where bytes differ, scores of the *same* SAE file on the same evaluation set must agree within
`same_sae`. A *retrained* SAE has other weights (training is chaotic: another order of a sum makes another SAE), or other
rows (one bit can move a draw, and all later ones of its stream): its mean score must agree within `retrained`, or
`retrained_snapshots` if it is unfinished, multiples of the spread over training and evaluation seeds
(`retrained_controls` if it was made from another SAE). All are declared per metric in tolerances.yaml before use; null
says that seeds move the metric through its whole range, or that no replicates were there to tell, so that such SAEs
cannot be compared by it. A noise anatomy's score files are held to the same limits, its points in the place of seeds.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from sae_assay.errors import AssayError
from sae_assay.ledger.files import hash_file
from sae_assay.ledger.records import LEDGER, read_lines
from sae_assay.tables import scores

TOLERANCES = Path("tolerances.yaml")
RETRAINED = {"panel": "retrained", "trajectory": "retrained_snapshots", "control": "retrained_controls"}
"""Panel of a score file -> its limits once the SAE is another one."""
FAMILIES = ("scores", "anatomy")
"""Folders under results/ that hold score files."""
SERIES = ["metric", "component", "hp_name", "hp_value", "mode"]


@dataclass
class Comparison:
    """What a comparison found. `verdict` is BITWISE, WITHIN_TOLERANCE or DIFFERS."""

    files: int = 0
    equal_files: int = 0
    retrained_saes: set[str] = field(default_factory=set)
    findings: list[dict[str, Any]] = field(default_factory=list)
    largest: dict[str, float] = field(default_factory=dict)
    not_comparable: set[str] = field(default_factory=set)

    @property
    def verdict(self) -> str:
        if self.findings:
            return "DIFFERS"
        return "BITWISE" if self.equal_files == self.files else "WITHIN_TOLERANCE"

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "verdict": self.verdict,
            "files": self.files,
            "equal_files": self.equal_files,
            "retrained_saes": sorted(self.retrained_saes),
            "largest_difference": dict(sorted(self.largest.items())),
            "not_comparable": sorted(self.not_comparable),
            "findings": self.findings,
        }


@contextmanager
def recorded_checkout(study: str, root: Path = Path()) -> Iterator[Path]:
    """A temporary clone of HEAD with the study's recorded scores pulled, and its noise anatomy's where there is one.

    Raises:
        AssayError: nothing has been recorded, or the remote cannot give it.
    """
    if not (root / "dvc.lock").exists():
        raise AssayError("dvc.lock", "no results have been recorded", "run `sae-assay record` after `make report`")
    with tempfile.TemporaryDirectory(prefix="sae-assay-") as folder:
        clone = Path(folder) / "recorded"
        subprocess.run(["git", "clone", "--quiet", str(root.resolve()), str(clone)], check=True)
        lock = yaml.safe_load((clone / "dvc.lock").read_text(encoding="utf-8"))
        outs = {out["path"] for stage in lock.get("stages", {}).values() for out in stage.get("outs", [])}
        targets = [f"results/{family}/{study}" for family in FAMILIES]
        pull = subprocess.run(
            [sys.executable, "-m", "dvc", "pull", "--quiet", targets[0], *outs.intersection(targets[1:])],
            cwd=clone,
            env={**os.environ, "DVC_NO_ANALYTICS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if pull.returncode != 0:
            raise AssayError("dvc pull", pull.stderr.strip()[-300:], "check the remote that .dvc/config names")
        yield clone


def load_tolerances(path: Path = TOLERANCES) -> dict[str, dict[str, float | None]]:
    """`same_sae` and `retrained`: tolerance per `metric.component` (null: not comparable), `default` for the rest."""
    if not path.exists():
        raise AssayError(str(path), "no tolerances are declared", "restore the file from git")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def compare_scores(
    recorded: Path, current: Path, study: str, tolerances: dict[str, dict[str, float | None]]
) -> Comparison:
    """Compare every recorded score file with the current one of the same path."""
    result = Comparison()
    bases = [recorded / "results" / family / study for family in FAMILIES]
    for file in sorted(path for base in bases for path in base.rglob("*.parquet")):
        relative = file.relative_to(recorded)
        result.files += 1
        mine = current / relative
        if not mine.exists():
            _found(result, relative, "missing", "run `make report` first")
        elif mine.read_bytes() == file.read_bytes():
            result.equal_files += 1
        else:
            _compare_file(result, relative, scores.read(file), scores.read(mine), recorded, current, tolerances)
    if result.files == 0:
        raise AssayError(str(bases[0]), "holds no recorded score", "run `sae-assay record` after `make report`")
    return result


def _compare_file(
    result: Comparison,
    relative: Path,
    theirs: pl.DataFrame,
    ours: pl.DataFrame,
    recorded: Path,
    current: Path,
    tolerances: dict[str, dict[str, float | None]],
) -> None:
    retrained = not _same_sae(relative, recorded, current)
    if retrained:
        result.retrained_saes.add("/".join(relative.parts[3:5]))
    joined = theirs.join(ours, on=scores.KEY, how="full", nulls_equal=True, suffix="_ours", coalesce=False)
    unmatched = joined.filter(pl.col("status").is_null() | pl.col("status_ours").is_null()).height
    if unmatched:
        _found(result, relative, f"{unmatched} rows on one side only", "compare the studies and metrics")
        return
    if not retrained:
        changed = joined.filter(pl.col("status") != pl.col("status_ours")).height
        if changed:
            _found(result, relative, f"{changed} rows with another status", "look at their reason column")
    limits = tolerances[RETRAINED[theirs["panel"][0]] if retrained else "same_sae"]
    both = joined.filter(pl.col("value").is_not_null() & pl.col("value_ours").is_not_null())
    difference = (pl.col("value_ours") - pl.col("value")).alias("difference")
    series = both.group_by(SERIES).agg(difference.mean().abs() if retrained else difference.abs().max())
    for row in series.sort(SERIES).iter_rows(named=True):
        name = f"{row['metric']}.{row['component']}"
        limit = limits.get(name, limits["default"])
        if limit is None:
            result.not_comparable.add(name)
            continue
        result.largest[name] = max(result.largest.get(name, 0.0), row["difference"])
        if row["difference"] > limit:
            label = f"{name} {row['hp_name'] or ''}={row['hp_value']} {row['mode'] or ''}"
            _found(
                result, relative, f"{label} differs by {row['difference']:.3g} > {limit:.3g}", "see docs/auditors.md"
            )


def _same_sae(relative: Path, recorded: Path, current: Path) -> bool:
    """Whether a score file results/FAMILY/STUDY/SUBSTRATE/SAE/NAME.parquet is of recorded weights on recorded rows."""
    _, family, study, substrate, sae = relative.parts[:5]
    run, dot, step = sae.partition(".step_")
    folder = Path("data/trajectories", study, substrate, run, step) if dot else Path("data/saes", study, substrate, sae)
    seed = relative.stem.rpartition("_")[2]
    kept = f"evaluation_{seed}" if family == "scores" else "text"  # an anatomy draws all else by itself
    rows = Path("data/activations", study, substrate, f"{kept}.safetensors")
    known = _recorded_digests(recorded, study)

    def is_recorded(path: Path) -> bool:
        return hash_file(current / path).sha256 in known.get(path.as_posix(), ())

    weights = folder / "sae_weights.safetensors"
    # Pulled results come without evaluation sets.
    return (
        (current / weights).exists() and is_recorded(weights) and (not (current / rows).exists() or is_recorded(rows))
    )


@functools.cache
def _recorded_digests(recorded: Path, study: str) -> dict[str, set[str]]:
    """Path -> SHA-256 of what was recorded there, from the ledger in git."""
    found: dict[str, set[str]] = {}
    for file in sorted((recorded / LEDGER / study).glob("*.jsonl")):
        for record in read_lines(file):
            if record["type"] == "artifact":
                found.setdefault(record["path"], set()).add(record["sha256"])
    return found


def _found(result: Comparison, path: Path, problem: str, remedy: str) -> None:
    result.findings.append({"item": path.as_posix(), "found": problem, "remedy": remedy})
