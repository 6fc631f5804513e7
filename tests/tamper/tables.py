"""Mutations of scores, tables and statistics."""

from __future__ import annotations

import shutil
from functools import partial

import polars as pl
from tests.tamper.forgery import OTHER, SAE, TABLE, Forgery, Frame, score_file, statistic
from tests.tamper.mutation import mutation

from sae_assay.ledger.files import hash_file

mutate = partial(mutation, "Scores, tables and statistics")
SCORE = score_file()


def better(metric: str = "known_validity", by: float = 0.1) -> Frame:
    """Raise a metric's values."""
    raised = pl.when(pl.col("metric") == metric).then(pl.col("value") + by).otherwise(pl.col("value"))
    return lambda frame: frame.with_columns(value=raised)


def labelled(**names: str | int) -> Frame:
    """Give all rows other names."""
    return lambda frame: frame.with_columns(**{n: pl.lit(v, dtype=frame.schema[n]) for n, v in names.items()})


@mutate("A value in a score file", "ARTIFACT_HASH_MISMATCH", "ROW_RUN_MISMATCH")
def score_value(forgery: Forgery) -> None:
    forgery.rewrite(SCORE, better())


@mutate("A value in a score file, and its hash in the artifact's record", "RECORD_ID_MISMATCH")
def score_value_and_hash(forgery: Forgery) -> None:
    forgery.rewrite(SCORE, better())
    now = hash_file(forgery.file(SCORE))
    new = {"sha256": now.sha256, "size": now.size, "md5": now.md5}
    forgery.edit_records("artifact", lambda r: r.update(new) if r["path"] == SCORE else None, seal=False)


@mutate("A value in a score file, its hash, and the id of the artifact's record", "MISSING_PRODUCER")
def score_value_hash_and_id(forgery: Forgery) -> None:
    forgery.rewrite(SCORE, better())
    now = hash_file(forgery.file(SCORE))
    new = {"sha256": now.sha256, "size": now.size, "md5": now.md5}
    forgery.edit_records("artifact", lambda r: r.update(new) if r["path"] == SCORE else None)


@mutate(
    "A value in a score file, with its hash in every record of its file, its job and its readers", "ROW_RUN_MISMATCH"
)
def score_value_and_all_hashes(forgery: Forgery) -> None:
    forgery.rewrite(SCORE, better())
    forgery.reseal(SCORE)
    forgery.commit()


@mutate("A value in the score table", "ROW_RUN_MISMATCH", "ARTIFACT_HASH_MISMATCH", "OUTPUT_HASH_MISMATCH")
def table_value(forgery: Forgery) -> None:
    forgery.rewrite(TABLE, better())


@mutate("A value in the score table; statistics, charts and page computed from it, all recorded", "ROW_RUN_MISMATCH")
def table_value_and_all_behind_it(forgery: Forgery) -> None:
    forgery.rewrite(TABLE, better())
    forgery.pass_off(TABLE)


@mutate("An SAE's rows dropped from the score table, hash resealed", "COVERAGE_GAP")
def table_rows_dropped(forgery: Forgery) -> None:
    forgery.rewrite(TABLE, lambda frame: frame.filter(pl.col("sae_id") != OTHER))
    forgery.reseal(TABLE)
    forgery.commit()


@mutate("A row of the score table doubled, hash resealed", "ROW_RUN_MISMATCH")
def table_row_doubled(forgery: Forgery) -> None:
    forgery.rewrite(TABLE, lambda frame: pl.concat([frame.head(1), frame]))
    forgery.reseal(TABLE)
    forgery.commit()


@mutate("A value of a statistic, hash resealed", "OUTPUT_HASH_MISMATCH")
def statistic_value(forgery: Forgery) -> None:
    forgery.rewrite(statistic("validity"), lambda frame: frame.with_columns(spearman=pl.col("spearman").abs()))
    forgery.reseal(statistic("validity"))
    forgery.commit()


@mutate(
    "Statistics, charts and page computed from a table without one SAE, then the whole table put back, all resealed",
    "OUTPUT_HASH_MISMATCH",
)
def statistics_of_a_filtered_table(forgery: Forgery) -> None:
    whole = forgery.file(TABLE).read_bytes()
    forgery.rewrite(TABLE, lambda frame: frame.filter((pl.col("sae_id") != OTHER) | (pl.col("metric") == "pure_noise")))
    forgery.pass_off(TABLE)
    forgery.write(TABLE, whole)
    forgery.forget()
    forgery.reseal(TABLE)
    forgery.commit()


@mutate("The score files of two SAEs exchanged", "SWAPPED", "ROW_RUN_MISMATCH")
def score_files_exchanged(forgery: Forgery) -> None:
    forgery.exchange(SCORE, score_file(OTHER))


@mutate("The score files of two SAEs exchanged, all hashes resealed", "ROW_RUN_MISMATCH")
def score_files_exchanged_and_resealed(forgery: Forgery) -> None:
    forgery.exchange(SCORE, score_file(OTHER))
    forgery.reseal(SCORE, score_file(OTHER))
    forgery.commit()


@mutate("One seed's scores copied as another's, all hashes resealed", "ROW_RUN_MISMATCH")
def seed_doubled(forgery: Forgery) -> None:
    shutil.copy(forgery.file(SCORE), forgery.file(score_file(seed=456)))
    forgery.rewrite(score_file(seed=456), labelled(eval_seed=456))
    forgery.reseal(score_file(seed=456))
    forgery.commit()


@mutate("A metric's rows dropped for one SAE, all hashes resealed", "ROW_RUN_MISMATCH")
def metric_dropped_for_one_sae(forgery: Forgery) -> None:
    forgery.rewrite(SCORE, lambda frame: frame.filter(pl.col("metric") != "pure_noise"))
    forgery.reseal(SCORE)
    forgery.commit()


@mutate("One component of a metric dropped for one SAE, all behind it computed and recorded", "COVERAGE_GAP")
def component_dropped_for_one_sae(forgery: Forgery) -> None:
    files = [score_file(seed=seed) for seed in (42, 123, 456)]
    for file in files:
        forgery.rewrite(file, lambda frame: frame.filter(pl.col("component") != "dead_latents"))
    forgery.pass_off(*files)


@mutate("A score file that the study does not plan, put beside the others", "MISSING_PRODUCER")
def extra_score_file(forgery: Forgery) -> None:
    shutil.copy(forgery.file(SCORE), forgery.file(score_file(seed=7)))
    forgery.rewrite(score_file(seed=7), labelled(eval_seed=7))


@mutate("A score file deleted", "COVERAGE_GAP")
def score_file_deleted(forgery: Forgery) -> None:
    forgery.file(SCORE).unlink()


@mutate("A score file replaced by the same job's from an older commit", "ARTIFACT_HASH_MISMATCH", later=True)
def older_score_file(forgery: Forgery) -> None:
    commit = forgery.git("log", "--format=%H", "--", "dvc.lock").split()[1]
    older = forgery.git("show", f"{commit}:results/ledger/tiny/artifacts.jsonl").splitlines()
    md5 = next(line.split('"md5":"')[1][:32] for line in older if f'"{SCORE}"' in line)
    shutil.copyfile(forgery.file(f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"), forgery.file(SCORE))


@mutate("A lucky run put in place of a recorded one, all behind it computed and recorded", "RERUN_UNDISCLOSED")
def unlucky_run_discarded(forgery: Forgery) -> None:
    forgery.rewrite(SCORE, better(by=0.01))
    forgery.reseal(SCORE, readers=False)
    forgery.rerun()


# Invented with all their records: only running the job again tells -----------------------------------------------------------
JOB = f"score_sae sae={SAE} substrate=toy"


@mutate(
    "Scores invented before anything was published; all behind them is honest work", "RERUN_DIFFERS", depth=3, met=JOB
)
def scores_invented(forgery: Forgery) -> None:
    forgery.rewrite(SCORE, better())
    forgery.pass_off(SCORE)


@mutate("Scores of a run with another seed passed off as those of the recorded one", "RERUN_DIFFERS", depth=3, met=JOB)
def another_seed_passed_off(forgery: Forgery) -> None:
    shutil.copy(forgery.recorded.rerun.path / SCORE, forgery.file(SCORE))
    forgery.pass_off(SCORE)


@mutate("The values of two SAEs exchanged, each under its own name", "RERUN_DIFFERS", depth=3, met=JOB)
def values_exchanged(forgery: Forgery) -> None:
    forgery.exchange(SCORE, score_file(OTHER))
    for sae in (SAE, OTHER):
        target = {"toy_l0_02_seed_0": 2, "toy_l0_04_seed_0": 4}[sae]
        forgery.rewrite(score_file(sae), labelled(sae_id=sae, target_l0=target))
    forgery.pass_off(SCORE, score_file(OTHER))


@mutate("One seed's scores copied as another's, with a little noise", "RERUN_DIFFERS", depth=3, met=JOB)
def seed_doubled_with_noise(forgery: Forgery) -> None:
    copied = score_file(seed=456)
    shutil.copy(forgery.file(SCORE), forgery.file(copied))
    forgery.rewrite(copied, labelled(eval_seed=456))
    forgery.rewrite(copied, lambda frame: frame.with_columns(value=pl.col("value") * 0.999))
    forgery.pass_off(copied)


@mutate("A bad score marked as undefined", "RERUN_DIFFERS", depth=3, met=JOB)
def score_marked_undefined(forgery: Forgery) -> None:
    bad = pl.col("metric") == "known_validity"

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        new = {
            "value": pl.lit(None, dtype=pl.Float64),
            "status": pl.lit("undefined_denominator", dtype=frame.schema["status"]),
            "reason": pl.lit("the denominator is zero"),
        }
        return frame.with_columns(pl.when(bad).then(value).otherwise(name).alias(name) for name, value in new.items())

    forgery.rewrite(SCORE, change)
    forgery.pass_off(SCORE)


@mutate("A task's rows dropped for every SAE and seed", "RERUN_DIFFERS", depth=3, met=JOB)
def task_dropped_everywhere(forgery: Forgery) -> None:
    files = [f.relative_to(forgery.path).as_posix() for f in forgery.path.glob("results/scores/tiny/*/*/*.parquet")]
    for file in files:
        forgery.rewrite(file, lambda frame: frame.filter(pl.col("component") != "uniqueness"))
    forgery.pass_off(*files)


@mutate(
    "An SAE's weights replaced by the oracle's; all behind them is honest work",
    "RERUN_DIFFERS",
    depth=3,
    met="train_toy_toy",
)
def weights_replaced(forgery: Forgery) -> None:
    weights = f"data/saes/tiny/toy/{SAE}/sae_weights.safetensors"
    shutil.copy(forgery.file("data/saes/tiny/toy/oracle/sae_weights.safetensors"), forgery.file(weights))
    forgery.pass_off(weights)


@mutate(
    "Scores computed from an input that was edited while their job ran, and put back",
    "RERUN_DIFFERS",
    depth=3,
    met=JOB,
)
def input_edited_while_its_job_ran(forgery: Forgery) -> None:
    weights = f"data/saes/tiny/toy/{SAE}/sae_weights.safetensors"
    true = forgery.file(weights).read_bytes()
    weights_replaced(forgery)
    forgery.forget()
    forgery.write(weights, true)
    forgery.reseal(weights)
    forgery.commit()
