"""The plan: choices, thresholds and tolerances are those declared before the run, every planned job ran as planned, and no run was dropped."""

from __future__ import annotations

from typing import Any

from sae_assay.audit import expected, reading, schemas
from sae_assay.audit.context import Context
from sae_assay.audit.evidence import RunRecord
from sae_assay.audit.findings import Finding
from sae_assay.audit.tree import History, text_digests
from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import canonical, digest
from sae_assay.ledger.declared import grid_of
from sae_assay.ledger.records import FILES, LEDGER
from sae_assay.plan import Plan
from sae_assay.study import Study

NAME = "plan"
TOLERANCES = "tolerances.yaml"
SCORES = "results/scores/"
CHOICES = ("primary", "thresholds", "confidence")
RERUN = "restore the study's file from git, or run `snakemake` and `sae-assay record` under the new choices"
REPORT_ALL = "restore the record; a run that was made must stay in the ledger, whatever came out"


def check(context: Context) -> list[Finding]:
    """Plan record, jobs, files and history."""
    return _plan_record(context) + _before_scores(context) + _jobs(context) + _history(context) + _attempts(context)


# The plan record -----------------------------------------------------------------------------------------------------------
def _plan_record(context: Context) -> list[Finding]:
    plans = context.evidence.of_type("plan")
    if len(plans) != 1:
        context.judged(NAME, "plan record", "DIFFERS")
        return [Finding("PLAN_CHANGED", "plan record", "one", f"{len(plans)}", "restore results/ledger from git")]
    recorded, found = plans[0], []
    for name, value in _declared(context.plan).items():
        same = canonical(recorded[name]) == canonical(value)
        context.fine(NAME, f"plan record: {name}", same)
        if not same:
            item = f"plan record: {name}"
            found.append(Finding("PLAN_CHANGED", item, canonical(recorded[name])[:300], canonical(value)[:300], RERUN))
    same = recorded["tolerances"] in context.tree.text(TOLERANCES)
    context.fine(NAME, TOLERANCES, same)
    if not same:
        now = min(context.tree.text(TOLERANCES), default=None)
        remedy = "restore tolerances.yaml from git: they are declared before the run"
        found.append(Finding("TOLERANCE_CHANGED", TOLERANCES, recorded["tolerances"], now or "no such file", remedy))
    return found


def _declared(plan: Plan) -> dict[str, Any]:
    """What the plan record would say of a study."""
    design = plan.design()
    card = design["scorecard"]
    return {
        "study": plan.name,
        "study_digest": digest(design),
        "seeds": design["seeds"],
        "grid": grid_of(plan),
        "score_files": len(plan.score_files()),
        "primary": card["primary"],
        "thresholds": card["thresholds"],
        "confidence": card["confidence"],
    }


# What was declared before the scores were known ------------------------------------------------------------------------------
def _before_scores(context: Context) -> list[Finding]:
    """The study's choices against those at the commits that its scores were computed at: statistics can be run again under
    new thresholds and recorded as if these had been declared first. A study that has grown since is fine.
    """
    history = context.tree.history
    if history is None:
        context.skipped(NAME, "choices before the scores", "the tree is no git repository")
        return []
    scoring = [run for run in context.evidence.runs if any(path.startswith(SCORES) for path in run.outputs)]
    commits = {str(run.raw["commit"]) for run in scoring if not run.raw["dirty"]} & history.commits
    texts = history.files([(commit, context.config) for commit in sorted(commits)])
    now, found = _declared(context.plan), []
    for (commit, _), content in sorted(texts.items()):
        item = f"{context.config} at commit {commit[:12]}"
        try:
            before = Plan(Study.model_validate(reading.parse_yaml(content.decode("utf-8"), item)))
        except (AssayError, ValueError) as error:
            context.skipped(NAME, item, f"this version cannot read it: {' '.join(str(error).split())}"[:200])
            continue
        problems = _taken_back(item, _declared(before), now) if before.name == context.study else []
        context.fine(NAME, item, not problems)
        found += problems
    return found + _tolerances_before(context, history, commits)


def _tolerances_before(context: Context, history: History, commits: set[str]) -> list[Finding]:
    """Tolerances other than when the scores were computed: a note, as no score depends on them."""
    texts = history.files([(commit, TOLERANCES) for commit in sorted(commits)])
    now, found = context.tree.text(TOLERANCES), []
    for (commit, _), content in sorted(texts.items()):
        if not now & text_digests(content):
            item, remedy = f"{TOLERANCES} at commit {commit[:12]}", "see in git's history what was changed, and why"
            seen = "other tolerances since the scores were computed"
            found.append(Finding("TOLERANCE_CHANGED", item, min(text_digests(content)), seen, remedy, note=True))
    return found


def _taken_back(item: str, before: dict[str, Any], now: dict[str, Any]) -> list[Finding]:
    """Choices that have changed, and SAEs and metrics that are no longer asked for."""
    remedy = (
        "restore the choices that were declared before the scores were computed, or say in the report that they changed"
    )
    changed = []
    for name in CHOICES:
        kept = {key: now[name].get(key) for key in before[name]} if isinstance(before[name], dict) else now[name]
        if canonical(kept) != canonical(before[name]):
            changed.append((name, before[name], kept))
    for substrate, asked in before["grid"].items():
        left = now["grid"].get(substrate, {})
        for name, value in asked.items():
            kept = left.get(name, type(value)())
            if kept < value if isinstance(value, int) else set(value) - set(kept):
                changed.append((f"grid.{substrate}.{name}", value, kept))
    return [
        Finding("PLAN_CHANGED", f"{item}: {name}", canonical(was)[:300], canonical(value)[:300], remedy)
        for name, was, value in changed
    ]


# Jobs ----------------------------------------------------------------------------------------------------------------------
def _jobs(context: Context) -> list[Finding]:
    wanted = expected.jobs(context.plan)
    recorded = {run.key: run for run in context.evidence.runs}
    found = []
    for key, job in wanted.items():
        run = recorded.get(key)
        problems = _job(run, job) if run else [Finding("COVERAGE_GAP", job.label, "a recorded run", "none", RERUN)]
        context.fine(NAME, job.label, not problems)
        found += problems
    for key, run in recorded.items():
        if key not in wanted:
            context.judged(NAME, run.label, "DIFFERS")
            found.append(Finding("PLAN_CHANGED", run.label, "no such job", "a recorded run", RERUN))
    return found


def _job(run: RunRecord, job: expected.ExpectedJob) -> list[Finding]:
    found = []
    if run.raw["step"] != job.step:
        found.append(Finding("PLAN_CHANGED", f"{job.label}: step", job.step, str(run.raw["step"])[:80], RERUN))
    for where, planned, seen in _changed(job.settings, run.params):
        found.append(Finding("PLAN_CHANGED", f"{job.label}: {where}", planned, seen, RERUN))
    for side, asked, named in (
        ("input", set(job.inputs), set(run.inputs)),
        ("output", set(job.outputs), set(run.outputs)),
    ):
        gaps, extra = sorted(asked - named), sorted(named - asked)
        found += [Finding("COVERAGE_GAP", p, f"{side} of {job.label}", "not named in its record", RERUN) for p in gaps]
        found += [Finding("PLAN_CHANGED", p, f"no such {side}", f"{side} of {job.label}", RERUN) for p in extra]
    return found


def _changed(planned: Any, seen: Any, where: str = "settings") -> list[tuple[str, str, str]]:
    """Dotted keys at which two settings differ, the planned and the recorded value."""
    if isinstance(planned, dict) and isinstance(seen, dict):
        keys = sorted({*planned, *seen})
        return [c for key in keys for c in _changed(planned.get(key), seen.get(key), f"{where}.{key}")]
    if canonical(planned) == canonical(seen):
        return []
    return [(where, canonical(planned)[:120], canonical(seen)[:120])]


# Runs that were dropped ----------------------------------------------------------------------------------------------------
def _attempts(context: Context) -> list[Finding]:
    """Repeated runs with other outputs that the ledger discloses: notes."""
    runs = {run.raw["run_id"]: digest(run.raw["outputs"]) for run in context.evidence.runs}
    found = []
    for attempt in context.evidence.of_type("attempt"):
        kept = runs.get(attempt["run_id"])
        if kept and attempt["outputs_digest"] not in (None, kept):
            item = f"attempt {attempt['id'][:12]} ({attempt['rule']})"
            seen = "an earlier run of the very same job gave other outputs; the ledger says so"
            found.append(Finding("RERUN_UNDISCLOSED", item, None, seen, "compare the two runs", note=True))
    return found


def _history(context: Context) -> list[Finding]:
    """Runs and attempts that git's history holds and that today's ledger does not own up to."""
    history = context.tree.history
    item = f"git history of {LEDGER.as_posix()}/{context.study}"
    if history is None:
        context.skipped(NAME, item, "the tree is no git repository")
        return []
    now = context.evidence
    outputs: dict[str, set[str]] = {}
    for run in now.runs:
        outputs.setdefault(run.raw["run_id"], set()).add(digest(run.raw["outputs"]))
    for attempt in now.of_type("attempt"):
        outputs.setdefault(attempt["run_id"], set()).add(attempt["outputs_digest"])
    attempts = {record["id"] for record in now.of_type("attempt")}
    found: dict[str, Finding] = {}
    for kind in ("run", "attempt"):
        for record in _past(history, context.study, kind):
            if kind == "attempt" and record["id"] not in attempts:
                label = f"attempt {record['id'][:12]} ({record['rule']}, {record['outcome']})"
                found[label] = Finding("RERUN_UNDISCLOSED", label, "kept in the ledger", "gone", REPORT_ALL)
            known = outputs.get(record["run_id"]) if kind == "run" else None
            if known and digest(record["outputs"]) not in known:
                label = f"run {record['id'][:12]} ({record['rule']})"
                seen = "the same job was run again, with other outputs, and this run was dropped"
                found[label] = Finding("RERUN_UNDISCLOSED", label, "kept as an attempt", seen, REPORT_ALL)
    context.fine(NAME, item, not found)
    return list(found.values())


def _past(history: History, study: str, kind: str) -> list[dict[str, Any]]:
    """Every record of a type that the ledger ever held, as far as HEAD remembers."""
    path = f"{LEDGER.as_posix()}/{study}/{FILES[kind]}"
    names = [(commit, path) for commit in history.touching(path)]
    lines = {line for content in history.files(names).values() for line in content.split(b"\n") if line}
    found = []
    for line in sorted(lines):
        try:
            record = reading.parse_json(line.decode("utf-8"), path, reading.MAX_LINE)
        except (reading.Unsafe, UnicodeDecodeError):
            continue  # an old line that is damaged proves nothing; today's ledger is judged by `records`
        if schemas.problem(record) is None and record["type"] == kind:
            found.append(record)
    return found
