"""Content -> modification times: how Snakemake learns what is current, on a fresh clone too.

Called while the Snakefile is parsed. Every rule is asked what its recorded jobs would be now; a recorded output that is
intact and whose job is unchanged gets a fixed time (T0 + its level in the graph + a fraction from its content, so that a
changed file never keeps its time and DVC's own cache of times stays right), every other file of the study gets STALE.
With `rerun-triggers: [mtime]` Snakemake then plans exactly the jobs that are not current.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from snakemake.io import IOFile
from snakemake.iocontainers import InputFiles

from sae_assay.errors import AssayError
from sae_assay.ledger.files import STATE, Hasher, write_atomically
from sae_assay.ledger.job import ANCHOR, Job, job_key
from sae_assay.ledger.records import Ledger, Run
from sae_assay.ledger.survey import Survey, unknown_files

T0_NS = 946_684_800 * 10**9  # 2000-01-01
STALE_NS = 10**9
SHOWN = 8  # stale files named on screen; `sae-assay why` knows the rest


def sync(
    workflow: Any, study: str, folders: Iterable[Path], targets: Iterable[str], shared: Iterable[str] = ()
) -> dict[str, list[str]]:
    """Bring the modification times of a study's files in line with their contents, and the rules with the ledger.

    Args:
        workflow: Snakemake's workflow, all rules parsed.
        study: the study's name.
        folders: where the study's artifacts lie.
        targets: what the default target asks for.
        shared: files that its rules make and other studies' may have made; made again where only those have a record.

    Returns:
        Path -> reasons, for every existing file that is not current; kept in .sae-assay/findings too.
    """
    _cast_anchor()
    hasher = Hasher()
    survey = Survey(Ledger(study), asker(workflow), hasher, targets)
    outputs = survey.outputs()
    stale = {path: [str(reason) for reason in why] for path, why in outputs.items() if why}
    unknown = {*unknown_files(folders, outputs), *(path for path in shared if Path(path).exists())} - set(outputs)
    stale |= {path: ["no record says how it was made"] for path in unknown}
    existing = [path for path in {*outputs, *stale} if hasher.sha256(path) is not None]
    for path in sorted(existing):
        _set_mtime(hasher, path, STALE_NS if path in stale else _mtime(hasher, path, survey.level(path)))
    for path in sorted({*survey.sources(), ANCHOR} - set(stale)):
        if hasher.sha256(path) is not None:
            _set_mtime(hasher, path, _mtime(hasher, path, 0))
    hasher.save()
    found = {path: stale[path] for path in sorted(stale)}
    _remember(study, found, [run.id for run in survey.current_runs()])
    _steer(workflow, survey)
    _show({path: why for path, why in found.items() if path in existing})
    return found


def _cast_anchor() -> None:
    """Write the anchor; not empty, as Snakemake never counts an empty file that it has seen before as newer."""
    anchor = Path(ANCHOR)
    if not anchor.exists():
        anchor.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(anchor, "the input of rules that read no file\n")


def _steer(workflow: Any, survey: Survey) -> None:
    """Let Snakemake see of each recorded job only those inputs that can give it a reason to run.

    A job without such a reason loses the inputs behind which something is missing: else one planned job that needs a
    missing evaluation set would plan all its other readers too, since Snakemake passes on "updated by another job" without
    looking at content. A job that is not current gains the anchor, which is newer than its outputs.
    """
    for rule in workflow.rules:
        rule.expand_input = _steered(workflow, rule, rule.expand_input, survey)


def _steered(workflow: Any, rule: Any, expand: Callable[..., Any], survey: Survey) -> Callable[..., Any]:
    def expand_input(wildcards: Any, groupid: Any = None) -> Any:
        inputs, mapping, depends, incomplete = expand(wildcards, groupid)
        key = job_key(rule.name, wildcards)
        settings = workflow.dag_settings
        if key not in survey or settings.forceall or settings.forcerun or settings.forcetargets:
            return inputs, mapping, depends, incomplete
        if survey.verdict(key)[1]:
            inputs.append(IOFile(ANCHOR, rule=rule))
        elif survey.settled(key) and survey.complete(key):
            inputs = InputFiles([path for path in inputs if survey.undisturbed(str(path))])
        return inputs, mapping, depends, incomplete

    return expand_input


def asker(workflow: Any) -> Callable[[Run], Job | None]:
    """What a recorded run's rule asks for now; None where the rule or its wildcards' values are gone from the study."""
    rules = {rule.name: rule for rule in workflow.rules}

    def ask(run: Run) -> Job | None:
        rule = rules.get(run.rule)
        if rule is None or set(rule.wildcard_names) != set(run.wildcards):
            return None
        try:
            return Job.of_rule(rule, run.wildcards)
        except Exception as error:
            if _is_lookup_error(error):  # an SAE or a seed that the study no longer has
                return None
            raise

    return ask


def _is_lookup_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, LookupError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _mtime(hasher: Hasher, path: str, level: int) -> int:
    sha = hasher.sha256(path) or "0"
    return T0_NS + level * 10**9 + int(sha[:8], 16) % 900_000 * 1000


def _set_mtime(hasher: Hasher, path: str, mtime_ns: int) -> None:
    if Path(path).is_symlink():
        raise AssayError(
            path,
            "is a symbolic link, through which a job would write into the DVC cache",
            "run `dvc config cache.type reflink,copy` and `dvc checkout --relink`",
        )
    try:
        hasher.set_mtime(path, mtime_ns)
    except PermissionError:
        raise AssayError(path, "its modification time cannot be set", "make it yours (chown), or copy it") from None


def findings_file(study: str) -> Path:
    """Where the last sync left its findings."""
    return STATE / "findings" / f"{study}.json"


def _remember(study: str, stale: dict[str, list[str]], current: list[str]) -> None:
    file = findings_file(study)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"stale": stale, "current": sorted(current)}, indent=0))


def _findings(study: str) -> dict[str, Any]:
    try:
        return json.loads(findings_file(study).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AssayError(f"study {study}", "has not been looked at yet", "run `snakemake -n` first") from None


def read_stale(study: str) -> dict[str, list[str]]:
    """Path -> reasons, for the files that were not current when Snakemake last planned."""
    return _findings(study)["stale"]


def read_current(study: str) -> set[str]:
    """Ids of the run records that stood for the study when Snakemake last planned."""
    return set(_findings(study)["current"])


def _show(stale: dict[str, list[str]]) -> None:
    for path, why in list(stale.items())[:SHOWN]:
        print(f"ledger: {path} is not current: {'; '.join(why[:2])}", file=sys.stderr)
    if len(stale) > SHOWN:
        print(f"ledger: {len(stale)} files are not current; `sae-assay why PATH` tells why", file=sys.stderr)
