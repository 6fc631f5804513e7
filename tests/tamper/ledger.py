"""Mutations of the records, of dvc.lock, of signatures, and of bytes in the tree and in DVC's stores."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from tests.tamper.forgery import CELLS, LEDGER, OTHER, SAE, STUDY, TABLE, Forgery, Record, score_file
from tests.tamper.mutation import mutation
from tests.tamper.tables import JOB, SCORE, better

from sae_assay.audit.bundle import folder_of
from sae_assay.ledger import records

mutate = partial(mutation, "Records and dvc.lock")
signed = partial(mutation, "Signatures")
bytes_of = partial(mutation, "Bytes")


def seed_seven(run: Record) -> None:
    """Let a run say that it scored at another evaluation seed."""
    run["params"]["evaluation_seeds"][0] = run["seeds"]["evaluation_seeds"][0] = 7


@mutate("A field of a record (the seconds that a job took)", "RECORD_ID_MISMATCH")
def record_field(forgery: Forgery) -> None:
    forgery.edit_records("run", lambda run: run.update(duration_ms=1), seal=False)


@mutate("A seed in a run's record", "RECORD_ID_MISMATCH")
def seed_in_a_record(forgery: Forgery) -> None:
    chosen = {"rule": "score_sae", "wildcards": {"sae": SAE, "substrate": "toy"}}

    def change(run: Record) -> None:
        if chosen.items() <= run.items():
            seed_seven(run)

    forgery.edit_records("run", change, seal=False)


@mutate("A seed in a run's record, with every id and digest recomputed", "PLAN_CHANGED", "ROW_RUN_MISMATCH")
def seed_in_a_record_resealed(forgery: Forgery) -> None:
    forgery.edit_runs(seed_seven, "score_sae", sae=SAE)
    forgery.commit()


@mutate("A run's record deleted", "MISSING_PRODUCER", "COVERAGE_GAP")
def run_deleted(forgery: Forgery) -> None:
    forgery.write_runs([run for run in forgery.runs() if run["wildcards"].get("sae") != SAE])
    forgery.commit()


@mutate("A run's record and all that it made deleted, from records, disk and dvc.lock", "COVERAGE_GAP")
def run_and_outputs_deleted(forgery: Forgery) -> None:
    folder = score_file().rpartition("/")[0]
    run_deleted(forgery)
    shutil.rmtree(forgery.file(folder))
    forgery.write_records("artifact", [r for r in forgery.records("artifact") if not r["path"].startswith(folder)])
    forgery.edit_runs(lambda run: run.update(inputs={p: s for p, s in run["inputs"].items() if folder not in p}))
    forgery.commit()


@mutate("A run that leads to nothing in the study, added", "GRAPH_INVALID", "PLAN_CHANGED")
def orphan(forgery: Forgery) -> None:
    runs = forgery.runs()
    run = json.loads(json.dumps(next(r for r in runs if r["wildcards"].get("sae") == SAE)))
    run["wildcards"]["sae"] = "ghost"
    run["outputs"] = {path.replace(SAE, "ghost"): sha for path, sha in run["outputs"].items()}
    forgery.write_runs([*runs, run])
    forgery.commit()


@mutate("A cycle: the world says that it was made from the page", "GRAPH_INVALID")
def cycle(forgery: Forgery) -> None:
    [cells] = [r["sha256"] for r in forgery.records("artifact") if r["path"] == CELLS]
    forgery.edit_runs(lambda run: run["inputs"].update({CELLS: cells}), "world")
    forgery.commit()


@mutate("A run's input replaced by another file, ids recomputed", "GRAPH_INVALID")
def input_replaced(forgery: Forgery) -> None:
    weights = f"data/saes/{STUDY}/toy/{SAE}/sae_weights.safetensors"
    forgery.edit_runs(lambda run: run["inputs"].update({weights: "0" * 64}), "score_sae", sae=SAE)
    forgery.commit()


@mutate("Runs of another study put among the records", "GRAPH_INVALID")
def records_of_another_study(forgery: Forgery) -> None:
    runs = forgery.runs()
    other = json.loads(json.dumps([run for run in runs if run["rule"] == "score_sae"]).replace(STUDY, "other"))
    forgery.write_runs([*runs, *other])
    forgery.commit()


@mutate(
    "All records replaced by those of the same study with another world seed", "PLAN_CHANGED", "ARTIFACT_HASH_MISMATCH"
)
def ledger_of_another_run(forgery: Forgery) -> None:
    shutil.copytree(forgery.recorded.rerun.path / LEDGER, forgery.file(LEDGER), dirs_exist_ok=True)


@mutate("A digit of a record's number replaced by its look-alike in another script, ids recomputed", "GRAPH_INVALID")
def record_look_alike(forgery: Forgery) -> None:
    forgery.edit_runs(lambda run: run.update(start=run["start"].replace("2", "２", 1)), "table")
    forgery.commit()


@mutate("A rule's name written with a letter of another script, ids recomputed", "UNSAFE_INPUT")
def rule_look_alike(forgery: Forgery) -> None:
    forgery.edit_runs(lambda run: run.update(rule="tаble"), "table")  # a Cyrillic a
    forgery.commit()


@mutate("A score file and dvc.lock together (dvc commit)", "ARTIFACT_HASH_MISMATCH", "LOCK_LEDGER_DISAGREE")
def score_and_lock(forgery: Forgery) -> None:
    forgery.rewrite(SCORE, better())
    forgery.commit()


@mutate("A digest in dvc.lock", "LOCK_LEDGER_DISAGREE")
def lock_digest(forgery: Forgery) -> None:
    md5 = next(line for line in forgery.file("dvc.lock").read_text().splitlines() if line.endswith(".dir"))
    forgery.replace("dvc.lock", md5, md5[:-8] + "0000.dir", count=-1)


# Signatures: the seed in a record is changed in each, and every digest recomputed -------------------------------------------
def audited_by(forgery: Forgery, *keys: Path) -> None:
    """The auditor brings a list of the keys that they trust, and insists on a signature."""
    forgery.options = {"trusted_keys": forgery.trust(*keys), "require_signed": True}


@signed("A seed in a record resealed, unsigned, where the auditor asks for a signature", "UNSIGNED", "PLAN_CHANGED")
def resealed_unsigned(forgery: Forgery) -> None:
    seed_in_a_record_resealed(forgery)
    audited_by(forgery, forgery.key("auditor"))


@signed("The same, signed by a key that nobody knows", "UNTRUSTED_SIGNER", "UNSIGNED", "PLAN_CHANGED")
def resealed_signed_by_an_unknown(forgery: Forgery) -> None:
    seed_in_a_record_resealed(forgery)
    forgery.sign(forgery.key("stranger"))
    audited_by(forgery, forgery.key("auditor"))


@signed("The same, after a trusted key had signed the true records", "STALE_BUNDLE", "PLAN_CHANGED")
def resealed_after_signing(forgery: Forgery) -> None:
    key = forgery.key("author")
    forgery.sign(key)
    seed_in_a_record_resealed(forgery)
    audited_by(forgery, key)


@signed("The same, signed by a trusted key, whose holder lies", "PLAN_CHANGED")
def resealed_signed_by_a_trusted_key(forgery: Forgery) -> None:
    key = forgery.key("author")
    seed_in_a_record_resealed(forgery)
    forgery.sign(key)
    audited_by(forgery, key)


@signed(
    "Scores invented with all their records, signed by a trusted key, whose holder lies",
    "RERUN_DIFFERS",
    depth=3,
    met=JOB,
)
def invented_and_signed(forgery: Forgery) -> None:
    key = forgery.key("author")
    forgery.rewrite(SCORE, better())
    forgery.pass_off(SCORE)
    forgery.sign(key)
    audited_by(forgery, key)


@signed("A stranger's key written into the tree's own list of trusted keys, and signed with", "UNTRUSTED_SIGNER")
def key_added_to_the_tree(forgery: Forgery) -> None:
    key = forgery.key("stranger")
    forgery.trust(key, file=forgery.file("trusted-keys.yaml"))
    forgery.commit()
    forgery.sign(key)
    audited_by(forgery, forgery.key("auditor"))


@signed(
    "The same, where the auditor believes the tree's own list",
    depth=None,
    limit="the list in a tree says whom its authors trust: an auditor brings a list of their own",
)
def key_added_to_the_tree_and_believed(forgery: Forgery) -> None:
    key_added_to_the_tree(forgery)
    forgery.options = {"require_signed": True}


@signed("A signature of an older bundle put beside a newer one", "UNTRUSTED_SIGNER")
def signature_moved(forgery: Forgery) -> None:
    key, stranger = forgery.key("author"), forgery.key("stranger")
    forgery.sign(key)
    folder = folder_of(forgery.path, STUDY)
    forgery.edit_runs(lambda run: run.update(duration_ms=1))
    forgery.commit()
    forgery.sign(stranger)
    shutil.copy(folder / "0001.dsse.json", folder / "0002.dsse.json")
    audited_by(forgery, key)


@signed("A bundle and its signature removed", "UNSIGNED")
def bundle_removed(forgery: Forgery) -> None:
    key = forgery.key("author")
    forgery.sign(key)
    shutil.rmtree(folder_of(forgery.path, STUDY))
    forgery.commit()
    audited_by(forgery, key)


@signed(
    "The newest of two signed bundles removed, and the records of that time put back with their files",
    depth=None,
    limit="a shorter chain is a valid one: an auditor keeps the id of the newest bundle that they have seen",
)
def rolled_back(forgery: Forgery) -> None:
    key = forgery.key("author")
    forgery.sign(key)
    commit = forgery.git("rev-parse", "HEAD").strip()
    forgery.edit_runs(lambda run: run.update(duration_ms=1))
    forgery.commit()
    forgery.sign(key)
    forgery.git("reset", "-q", "--hard", commit)
    audited_by(forgery, key)


# Bytes -----------------------------------------------------------------------------------------------------------------------
def stored(forgery: Forgery, path: str, store: str) -> str:
    """A file's object in a store of DVC."""
    md5 = next(record["md5"] for record in forgery.records("artifact") if record["path"] == path)
    return f"{store}/files/md5/{md5[:2]}/{md5[2:]}"


@bytes_of("A bit of a score file, size and time of modification kept", "ARTIFACT_HASH_MISMATCH")
def bit_of_a_score_file(forgery: Forgery) -> None:
    forgery.flip(SCORE)


@bytes_of("A bit of the score table, size and time of modification kept", "ARTIFACT_HASH_MISMATCH")
def bit_of_the_table(forgery: Forgery) -> None:
    forgery.flip(TABLE)


@bytes_of("A bit of an SAE's weights, size and time of modification kept", "ARTIFACT_HASH_MISMATCH", depth=2)
def bit_of_weights(forgery: Forgery) -> None:
    forgery.flip(f"data/saes/{STUDY}/toy/{SAE}/sae_weights.safetensors")


@bytes_of("A bit of the training activations", "ARTIFACT_HASH_MISMATCH", depth=2)
def bit_of_activations(forgery: Forgery) -> None:
    forgery.flip(f"data/activations/{STUDY}/toy/training.safetensors")


@bytes_of("A bit of an object in DVC's cache", "ARTIFACT_HASH_MISMATCH", depth=2)
def bit_in_the_cache(forgery: Forgery) -> None:
    name = stored(forgery, SCORE, ".dvc/cache")
    forgery.file(name).chmod(0o644)
    forgery.flip(name)


@bytes_of("A bit of an object in the bundled remote, which the auditor asks to hash", "ARTIFACT_HASH_MISMATCH", depth=2)
def bit_in_the_remote(forgery: Forgery) -> None:
    name = stored(forgery, SCORE, "data/remote")
    forgery.file(name).chmod(0o644)
    forgery.flip(name)
    forgery.options = {"remote": True}


@bytes_of("A score file replaced by a link to a file outside of the tree", "UNSAFE_INPUT")
def link_out_of_the_tree(forgery: Forgery) -> None:
    target = forgery.outside / "scores.parquet"
    shutil.move(forgery.file(SCORE), target)
    forgery.file(SCORE).symlink_to(target)


@bytes_of("An older artifact's record kept beside the new one, both with true ids", "MISSING_PRODUCER")
def second_artifact(forgery: Forgery) -> None:
    other = next(record for record in forgery.records("artifact") if record["path"] == score_file(OTHER))
    other = records.with_id({**{k: v for k, v in other.items() if k != "id"}, "path": SCORE})
    forgery.write_records("artifact", [*forgery.records("artifact"), other])
    forgery.commit()
