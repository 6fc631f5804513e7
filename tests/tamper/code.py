"""Mutations of queries, code, environment, the plan, and git's history."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.project import ROOT
from tests.tamper.forgery import LEDGER, SAE, Forgery, Record
from tests.tamper.mutation import mutation

from sae_assay.ledger import records
from sae_assay.ledger.canonical import digest

mutate = partial(mutation, "Queries, code and environment")
plan = partial(mutation, "Plan and history")
QUERY = "src/sae_assay/statistics/sql/validity.sql"
HELPER = "src/sae_assay/saes/toy.py"
GALLERY = "src/sae_assay/report/gallery.py"


def quiet_where(forgery: Forgery) -> None:
    """Leave an SAE out of a statistic."""
    forgery.replace(QUERY, "WHERE m.comparison = 'panel'", f"WHERE m.comparison = 'panel' AND m.sae_id <> '{SAE}'")


def flattering(forgery: Forgery) -> None:
    """Let the metric say more than is true."""
    forgery.replace("src/sae_assay/steps/toy.py", '("pure_noise", 0.0)', '("pure_noise", truth["mcc"])')


def recorded_again(forgery: Forgery, message: str = "small cleanup") -> None:
    """Commit an edit before the results, then do and record everything behind it honestly."""
    forgery.forget()
    forgery.git("commit", "-qm", message, "--", "src", "config.yaml", "tolerances.yaml")
    forgery.rerun()


@mutate("A quiet WHERE in a query", "QUERY_HASH_MISMATCH")
def query_where(forgery: Forgery) -> None:
    quiet_where(forgery)


@mutate("A quiet WHERE in a query, committed, run and recorded", "QUERY_HASH_MISMATCH", "OUTPUT_HASH_MISMATCH")
def query_where_recorded(forgery: Forgery) -> None:
    quiet_where(forgery)
    recorded_again(forgery)


@mutate("A WHERE in the SQL of the auditor's own installation", "QUERY_HASH_MISMATCH", "OUTPUT_HASH_MISMATCH")
def query_of_the_verifier(forgery: Forgery) -> None:
    forgery.package = installation(forgery)
    query = forgery.package / QUERY.removeprefix("src/")
    query.write_text(
        query.read_text().replace("WHERE m.comparison = 'panel'", "WHERE m.comparison = 'panel' AND false")
    )


def installation(forgery: Forgery) -> Path:
    """Another installation of the package, for the auditor to use."""
    target = forgery.outside / "installed"
    shutil.copytree(ROOT / "src", target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@mutate(
    "A quiet WHERE, committed, run and recorded, and the auditor runs the program of the tree that they audit",
    depth=None,
    limit="the edited program finds itself right: an auditor uses an installation of their own, as docs/auditors.md says",
)
def verifier_of_the_tree(forgery: Forgery) -> None:
    query_where_recorded(forgery)
    forgery.package = forgery.path / "src"


@mutate("A chart's code reads another table, committed, run and recorded", "CODE_CLOSURE_MISMATCH", "CHART_MISMATCH")
def chart_reads_another_table(forgery: Forgery) -> None:
    fewer = '{**m, "panel_points": m["panel_points"].filter(~pl.col("is_control"))}'
    forgery.replace(GALLERY, ": views.truth_scatter,", f": lambda m: views.truth_scatter({fewer}),")
    recorded_again(forgery)


@mutate("A helper that a step imports, edited after the run", "CODE_CLOSURE_MISMATCH")
def helper_edited(forgery: Forgery) -> None:
    forgery.write(HELPER, forgery.file(HELPER).read_text() + "\nTAU = 0.5\n")


@mutate("A helper that a step imports, edited after the run, with its hash in all records", "CODE_CLOSURE_MISMATCH")
def helper_edited_and_recorded(forgery: Forgery) -> None:
    helper_edited(forgery)
    sha = hashlib.sha256(forgery.file(HELPER).read_bytes()).hexdigest()

    def change(run: Record) -> None:
        if HELPER in run["code"]:
            run["code"][HELPER] = sha

    forgery.edit_runs(change)
    forgery.commit()


@mutate("A metric's code made to flatter, committed before the run, all run and recorded", "CODE_CLOSURE_MISMATCH")
def metric_flatters(forgery: Forgery) -> None:
    flattering(forgery)
    recorded_again(forgery)


def run_dirty(forgery: Forgery) -> None:
    forgery.forget()
    flattering(forgery)
    forgery.rerun()


@mutate(
    "A metric's code made to flatter, run from the dirty tree and put back, and every record says that the tree was clean",
    "CODE_CLOSURE_MISMATCH",
)
def dirty_flag_cleared(forgery: Forgery) -> None:
    run_dirty(forgery)
    forgery.git("checkout", "-q", "HEAD~1", "--", "src")
    forgery.edit_runs(lambda run: run.update(dirty=False))
    forgery.commit()


@mutate("A step made to read a file that its rule does not declare; the run is refused", "CODE_CLOSURE_MISMATCH")
def undeclared_input(forgery: Forgery) -> None:
    read_quietly(forgery)
    said = forgery.snakemake(check=False)
    assert "does not declare it" in said, said[-2000:]


def read_quietly(forgery: Forgery) -> None:
    step = "src/sae_assay/steps/toy.py"
    forgery.replace(
        step, "    toy, places = _world(inputs", '    Path("config.yaml").read_text()\n    toy, places = _world(inputs'
    )


@mutate("uv.lock names another version than the one that ran", "ENV_MISMATCH")
def lock_names_another_version(forgery: Forgery) -> None:
    text = forgery.file("uv.lock").read_text(encoding="utf-8")
    before, _, after = text.partition('name = "numpy"\nversion = "')
    forgery.write("uv.lock", f'{before}name = "numpy"\nversion = "9.9.9"{after[after.index(chr(10)) :]}')


@mutate("A run with another numpy than the locked one, as its records say", "ENV_MISMATCH")
def installed_another_version(forgery: Forgery) -> None:
    other_numpy(forgery, lambda record: record["differing"].update(numpy=["2.0.0", "1.0.0"]))


@mutate("A run with another numpy than the locked one, and the difference struck from the records", "ENV_MISMATCH")
def difference_struck(forgery: Forgery) -> None:
    other_numpy(forgery, lambda record: None)


def other_numpy(forgery: Forgery, admit: Callable[[Record], object]) -> None:
    names: dict[str, str] = {}

    def change(record: Record) -> None:
        before = record["id"]
        record["installed"]["numpy"] = "1.0.0"
        admit(record)
        names[before] = digest({name: value for name, value in record.items() if name != "id"})

    forgery.edit_records("environment", change)
    forgery.edit_runs(lambda run: run.update(environment=names[run["environment"]]))
    forgery.commit()


# Plan and history ------------------------------------------------------------------------------------------------------------
THRESHOLDS = "  thresholds: {repeatable: 0.2, valid: 0.2}\n"


def lower_thresholds(forgery: Forgery) -> None:
    forgery.write("config.yaml", forgery.file("config.yaml").read_text() + THRESHOLDS)


@plan("A threshold in the study's file, after the run", "PLAN_CHANGED")
def threshold_changed(forgery: Forgery) -> None:
    lower_thresholds(forgery)


@plan("A threshold lowered after the scores were known; statistics, charts and page run and recorded", "PLAN_CHANGED")
def threshold_changed_and_recorded(forgery: Forgery) -> None:
    lower_thresholds(forgery)
    recorded_again(forgery, "thresholds")


@plan("An unlucky SAE taken out of the study after the scores were known; all run and recorded", "PLAN_CHANGED")
def sae_dropped_from_the_study(forgery: Forgery) -> None:
    forgery.edit("config.yaml", "toy: {l0: [2, 3, 4]}", "toy: {l0: [3, 4]}")
    recorded_again(forgery, "fewer SAEs")


@plan(
    "An unlucky evaluation seed taken out of the study after the scores were known, before they were committed",
    depth=None,
    limit="every score is run again under the new plan, which is then the one declared before; whoever never committed the first scores has left no trace of them",
)
def seed_dropped_from_the_study(forgery: Forgery) -> None:
    forgery.edit("config.yaml", "evaluation: [42, 123, 456]", "evaluation: [42, 123]")
    recorded_again(forgery, "fewer seeds")


@plan(
    "A threshold lowered after the scores were known, and all of git's history and every record written anew with it",
    depth=None,
    limit="nothing in the tree is older than its history: only a bundle that was signed and seen before shows it",
)
def threshold_changed_with_history(forgery: Forgery) -> None:
    lower_thresholds(forgery)
    new_history(forgery)
    forgery.snakemake()
    commit = forgery.git("rev-parse", "HEAD").strip()
    forgery.assay("record")
    forgery.edit_runs(lambda run: run.update(commit=commit))
    forgery.commit()


@plan("The tolerances, after the run", "TOLERANCE_CHANGED")
def tolerance_changed(forgery: Forgery) -> None:
    forgery.replace("tolerances.yaml", "default: 0.05", "default: 0.5")


@plan(
    "The tolerances, after the run, and recorded",
    depth=None,
    limit="told as a note, TOLERANCE_CHANGED: no recorded number depends on a tolerance, only what another machine may differ by",
)
def tolerance_changed_and_recorded(forgery: Forgery) -> None:
    tolerance_changed(forgery)
    sha = hashlib.sha256(forgery.file("tolerances.yaml").read_bytes()).hexdigest()
    forgery.edit_records("plan", lambda record: record.update(tolerances=sha))
    forgery.commit()


@plan(
    "The study run with two seeds, and only the luckier one ever committed",
    depth=None,
    limit="all its records are true; what was never recorded leaves no trace",
    later=True,
)
def lucky_seed_chosen(forgery: Forgery) -> None:
    new_history(forgery)
    commit = forgery.git("rev-parse", "HEAD").strip()
    forgery.edit_runs(lambda run: run.update(commit=commit))
    forgery.commit()


def new_history(forgery: Forgery) -> None:
    """Begin git's history anew with code and configuration; the results lie there, and are in no commit."""
    forgery.git("checkout", "-q", "--orphan", "anew")
    forgery.git("rm", "-q", "-r", "--cached", "results", "dvc.lock", "dvc.yaml")
    forgery.git("add", "-u")
    forgery.git("commit", "-qm", "code")


@plan("A shallow clone, whose history cannot be compared", "SOURCE_UNVERIFIABLE")
def shallow_clone(forgery: Forgery) -> None:
    target = forgery.outside / "shallow"
    forgery.run("git", "clone", "-q", "--depth", "1", f"file://{forgery.path}", str(target))
    forgery.root = target
    for folder in ("results", "data"):
        shutil.copytree(forgery.file(folder), target / folder, dirs_exist_ok=True)


@plan("The commit that a run names, replaced by one that nobody has, ids recomputed", "SOURCE_UNVERIFIABLE")
def commit_unknown(forgery: Forgery) -> None:
    forgery.edit_runs(lambda run: run.update(commit="1" * 40), "score_sae")
    forgery.commit()


@plan("A failed attempt taken out of the ledger", "RERUN_UNDISCLOSED")
def attempt_removed(forgery: Forgery) -> None:
    run = next(r for r in forgery.records("run") if r["rule"] == "score_sae")
    forgery.write_records("attempt", [records.attempt_of(run, "failed", "a score was not finite")])
    forgery.commit()
    forgery.file(f"{LEDGER}/attempts.jsonl").unlink()
    forgery.commit()
