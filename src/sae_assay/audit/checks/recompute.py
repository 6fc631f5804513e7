"""Depth 3: a random share of the recorded jobs is run again, in a temporary clone of HEAD, and compared.

The clone gets copies of the recorded files that are here or in a store of the tree, byte for byte as the ledger names them;
the sampled jobs' outputs are left out, and snakemake makes exactly those (and heavy inputs that are nowhere to be found).
The tree under audit is only read. This depth runs the tree's code.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sae_assay.audit import reading
from sae_assay.audit.context import Context, Options
from sae_assay.audit.evidence import Evidence, RunRecord
from sae_assay.audit.findings import Finding
from sae_assay.errors import AssayError
from sae_assay.ledger import compare
from sae_assay.ledger.environment import numeric_profile
from sae_assay.ledger.files import hash_file

NAME = "recompute"
STORES = (".dvc/cache/files/md5", "data/remote/files/md5", "data/activations/.dvc/cache/files/md5")
REMEDY = "see which of code, inputs and environment differ; ask the author to run the job again"
SCORES = "results/scores/"


def check(context: Context) -> list[Finding]:
    """Recompute the sampled jobs and compare their outputs."""
    chosen = sample(context.evidence, context.options)
    context.notes.append(chance_in_words(context.options.sample, len(chosen), len(context.evidence.runs)))
    if context.tree.history is None:
        return _none(context, chosen, "the tree is no git repository, and only HEAD is run")
    with tempfile.TemporaryDirectory(prefix="sae-assay-verify-") as folder:
        clone = Path(folder) / "clone"
        try:
            _clone(context, clone)
            _restore(context, clone, {path for run in chosen for path in run.outputs})
            context.progress(f"recompute: {len(chosen)} of {len(context.evidence.runs)} jobs")
            problem = _snakemake(context, clone, [path for run in chosen for path in sorted(run.outputs)])
        except (AssayError, OSError, subprocess.SubprocessError) as error:
            return _none(context, chosen, f"the clone could not be made: {error}"[:300])
        return [finding for run in chosen for finding in _compare(context, run, clone, problem)]


def _none(context: Context, chosen: list[RunRecord], reason: str) -> list[Finding]:
    for run in chosen:
        context.skipped(NAME, run.label, reason)
    return []


# The sample ----------------------------------------------------------------------------------------------------------------
def sample(evidence: Evidence, options: Options) -> list[RunRecord]:
    """A share of the runs (at least one), chosen by the seed and the whole ledger's digest, so that nobody can foresee it
    before the ledger is final, and everybody can choose the same again."""

    def rank(run: RunRecord) -> str:
        return hashlib.sha256(f"{options.seed}:{evidence.digest}:{run.raw['run_id']}".encode()).hexdigest()

    count = max(1, math.ceil(options.sample * len(evidence.runs)))
    return sorted(sorted(evidence.runs, key=rank)[:count], key=lambda run: run.label)


def detection(share: float, forged: int) -> float:
    """The chance that at least one of some forged jobs is in a sample of this share."""
    return 1 - (1 - share) ** forged


def chance_in_words(share: float, chosen: int, runs: int) -> str:
    """What a sample of this share would find."""
    chances = ", ".join(f"{k} forged: {100 * detection(share, k):.1f} %" for k in (1, 5, 20))
    return f"Recomputed {chosen} of {runs} jobs. Chance to meet at least one forged job at a share of {share:g}: {chances}."


# The clone -----------------------------------------------------------------------------------------------------------------
def _clone(context: Context, clone: Path) -> None:
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks"]
    done = subprocess.run([*command, str(context.root), str(clone)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssayError("git clone", done.stderr.strip()[-200:], "see whether the tree is a whole git repository")


def _restore(context: Context, clone: Path, left_out: set[str]) -> None:
    """Copy every recorded file that can be found with its recorded bytes; the sampled jobs' outputs stay away."""
    for path, sha in context.evidence.outputs.items():
        if path in left_out or reading.safe_path(path):
            continue
        record = next((r for r in context.evidence.artifacts.get(path, []) if r["sha256"] == sha), None)
        if record is None:
            continue
        names = [path, *(f"{store}/{record['md5'][:2]}/{record['md5'][2:]}" for store in STORES)]
        source = next((s for s in (reading.inside(context.root, name) for name in names) if _holds(s, sha)), None)
        if source is not None:
            target = clone / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _holds(file: Path, sha256: str) -> bool:
    return file.is_file() and hash_file(file).sha256 == sha256


def _snakemake(context: Context, clone: Path, wanted: list[str]) -> str | None:
    """Make exactly these files; what went wrong, or None."""
    config = [f"study={context.config}"]
    command = [sys.executable, "-m", "snakemake", "--cores", str(context.options.cores), "--keep-going", "--nocolor"]
    variables = {**os.environ, "PYTHONPATH": str(clone / "src"), "DVC_NO_ANALYTICS": "1"}
    variables = {name: value for name, value in variables.items() if not name.startswith(("SNAKEMAKE_", "GIT_"))}
    done = subprocess.run(
        [*command, "--config", *config, "--", *wanted],
        cwd=clone,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else " ".join((done.stdout + done.stderr).split())[-300:]


# The comparison ------------------------------------------------------------------------------------------------------------
def _compare(context: Context, run: RunRecord, clone: Path, problem: str | None) -> list[Finding]:
    now = {path: hash_file(clone / path).sha256 if (clone / path).is_file() else None for path in run.outputs}
    if None in now.values():
        context.skipped(NAME, run.label, f"it could not be run here: {problem or 'nothing was made'}")
        return []
    differing = {path: sha for path, sha in now.items() if sha != run.outputs[path]}
    if not differing:
        context.judged(NAME, run.label, "BITWISE")
        return []
    if _same_profile(run):
        context.judged(NAME, run.label, "DIFFERS")
        return [
            Finding(
                "RERUN_DIFFERS", path, run.outputs[path], f"{sha} ({run.label}, on an equal numeric profile)", REMEDY
            )
            for path, sha in sorted(differing.items())
        ]
    return _within(context, run, clone, differing)


def _same_profile(run: RunRecord) -> bool:
    recorded = run.raw["numeric_profile"]
    return recorded.get("profile") in ("portable", "native") and numeric_profile(recorded["profile"]) == recorded


def _within(context: Context, run: RunRecord, clone: Path, differing: dict[str, str | None]) -> list[Finding]:
    """Scores on another numeric profile: within the declared tolerances or not. Other files cannot be compared so."""
    if not all(path.startswith(SCORES) for path in differing):
        context.judged(NAME, run.label, "NOT_COMPARABLE")
        context.notes.append(f"{run.label}: other bytes on another numeric profile, and no tolerance for such files.")
        return []
    tolerances = reading.read_yaml(context.root, "tolerances.yaml")
    with tempfile.TemporaryDirectory(prefix="sae-assay-recorded-") as folder:
        recorded = Path(folder)
        ledger = Path("results/ledger", context.study)
        shutil.copytree(context.root / ledger, recorded / ledger)
        for path in differing:
            (recorded / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(reading.inside(context.root, path), recorded / path)
        result = compare.compare_scores(recorded, clone, context.study, tolerances)
    context.judged(NAME, run.label, "DIFFERS" if result.findings else "WITHIN_TOLERANCE")
    return [Finding("RERUN_DIFFERS", f["item"], "within tolerances.yaml", f["found"], REMEDY) for f in result.findings]
