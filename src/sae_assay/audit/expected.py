"""The jobs that a study asks for, as the verifier knows the rules: it never runs a stranger's Snakefile.

It says of each job what rules/*.smk say: inputs, outputs, settings, all from the plan. A test holds it to the rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

from sae_assay.audit.tree import PACKAGE, own_package
from sae_assay.ledger.job import job_key, job_label
from sae_assay.plan import ANATOMY_TABLES, TABLES, Plan, rule_name


@dataclass(frozen=True)
class ExpectedJob:
    """A job of the study: what its record must name."""

    rule: str
    wildcards: dict[str, str]
    step: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        return job_key(self.rule, self.wildcards)

    @property
    def label(self) -> str:
        return job_label(self.rule, self.wildcards)


def jobs(plan: Plan) -> dict[str, ExpectedJob]:
    """Every job behind the study's report, by its key."""
    found = [*_worlds(plan), *_saes(plan), *_scores(plan), *_language_models(plan), *_libraries(plan)]
    found += [*_imports(plan), *_anatomy(plan), *_tail(plan)]
    return {job.key: job for job in found}


def package_files(*patterns: str) -> list[str]:
    """Paths, as records name them, of the verifier's own package files."""
    base = own_package()
    return [PACKAGE + file.relative_to(base).as_posix() for pattern in patterns for file in sorted(base.glob(pattern))]


def mart_files(plan: Plan) -> dict[str, str]:
    """Mart -> file, of the verifier's own statistics."""
    names = [PurePosixPath(path).stem for path in package_files("statistics/sql/*.sql")]
    return {n: plan.results("statistics", f"{n}.parquet") for n in names if not n.startswith("stg_")}


def _job(
    rule: str, wildcards: dict[str, str], step: str, inputs: list[str], outputs: list[str], settings: Any
) -> ExpectedJob:
    read, made = (tuple(_fill(path, wildcards) for path in side) for side in (inputs, outputs))
    return ExpectedJob(rule, wildcards, step, read, made, settings)


def _fill(path: str, wildcards: dict[str, str]) -> str:
    for name, value in wildcards.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def _worlds(plan: Plan) -> Iterator[ExpectedJob]:
    for substrate in plan.substrates("world", "toy"):
        words = {"substrate": substrate}
        w = SimpleNamespace(**words)
        weights, card, tasks = (plan.world(name) for name in ("world.safetensors", "world.json", "tasks.json"))
        pools = [plan.activations(f"pool_{seed}.safetensors") for seed in plan.evaluation_seeds]
        training, task_pool = (plan.activations(f"{name}.safetensors") for name in ("training", "pool_tasks"))
        sets = plan.evaluation_sets("{substrate}", plan.evaluation_seeds)

        def step(name: str, w: Any = w) -> str:
            return str(plan.step(name)(w))

        yield _job(
            "world", words, step("world"), plan.published_world(substrate), [weights, card], plan.world_settings(w)
        )
        drawn = [training, task_pool, *pools]
        yield _job("samples", words, step("samples"), [weights, card], drawn, plan.samples_settings(w))
        yield _job("tasks", words, step("tasks"), [card, task_pool], [tasks], plan.tasks_settings(w))
        yield _job(
            "evaluation_sets",
            words,
            step("evaluation_sets"),
            [tasks, weights, *pools],
            sets,
            plan.evaluation_settings(w),
        )


def _saes(plan: Plan) -> Iterator[ExpectedJob]:
    for group in plan.study.training_groups:
        substrate, saes = group.substrate, plan.group_saes(group)
        rule = rule_name("train", substrate, group.name)
        inputs = [plan.activations("training.safetensors", substrate), *plan.dictionary(substrate)]
        inputs += [*plan.corpus(substrate), *plan.stream_inputs(substrate)]
        yield _job(rule, {}, plan.train_step(group), inputs, _both(plan, substrate, saes), plan.train_settings(group))
    for substrate in plan.with_published():
        inputs = [plan.registry, *plan.published_inputs(substrate)]
        outputs = _both(plan, substrate, plan.published(substrate))
        rule = rule_name("published_saes", substrate)
        yield _job(rule, {}, "published_saes", inputs, outputs, plan.published_settings(substrate))
    for substrate in plan.with_controls():
        step = "toy" if plan.kind(substrate) == "toy" else "controls"
        inputs = [plan.world(name, substrate) for name in ("world.safetensors", "world.json")]
        inputs += [plan.activations("training.safetensors", substrate), *_both(plan, substrate, plan.bases(substrate))]
        outputs = _both(plan, substrate, plan.controls(substrate))
        rule = rule_name("controls", substrate)
        yield _job(rule, {}, step, inputs, outputs, plan.controls_settings(substrate))


def _both(plan: Plan, substrate: str, saes: list[str]) -> list[str]:
    """Cards and weights."""
    return [path for kind in ("cards", "weights") for path in plan.sae_files(substrate, saes, kind)]


def _scores(plan: Plan) -> Iterator[ExpectedJob]:
    for substrate in plan.substrates("world", "toy"):
        step = str(plan.step("score")(SimpleNamespace(substrate=substrate)))
        world = plan.world("world.safetensors", substrate)
        sets = plan.evaluation_sets(substrate, plan.evaluation_seeds)
        for sae in plan.finished(substrate):
            words = {"substrate": substrate, "sae": sae}
            outputs = [plan.score(seed, sae, substrate) for seed in plan.evaluation_seeds]
            inputs = [*_both(plan, substrate, [sae]), world, *sets]
            yield _job("score_sae", words, step, inputs, outputs, plan.score_settings(SimpleNamespace(**words)))
        for sae in plan.repeated(substrate):
            words = {"substrate": substrate, "sae": sae}
            repeat = plan.repeat if plan.repeat is not None else 0
            inputs = [*_both(plan, substrate, [sae]), world, *plan.evaluation_sets(substrate, [repeat])]
            outputs = [plan.score(repeat, sae, substrate, "repeat_")]
            yield _job(
                "score_repeat", words, step, inputs, outputs, plan.score_repeat_settings(SimpleNamespace(**words))
            )
    for substrate in plan.with_trajectories("world", "toy"):
        yield from _trajectories(plan, substrate)


def _trajectories(plan: Plan, substrate: str) -> Iterator[ExpectedJob]:
    rule = rule_name("score_trajectory", substrate)
    step = "toy" if plan.kind(substrate) == "toy" else "score"
    snapshots = [path for kind in ("cards", "weights") for path in plan.snapshot_files(substrate, kind)]
    sets = plan.evaluation_sets(substrate, plan.snapshot_seeds)
    for run in dict.fromkeys(name.partition(".step_")[0] for name in plan.snapshots(substrate)):
        settings = plan.score_trajectory_settings(substrate)(SimpleNamespace(run=run))
        inputs = [*snapshots, plan.world("world.safetensors", substrate), *sets]
        yield _job(rule, {"run": run}, step, inputs, plan.snapshot_scores(substrate), settings)


def _language_models(plan: Plan) -> Iterator[ExpectedJob]:
    for path in plan.shared_inputs():
        words = {"name": path.split("/")[2]}
        settings = plan.lm_model_settings(SimpleNamespace(**words))
        rule = "lm_hub_model" if path.endswith(".json") else "lm_model"
        yield _job(rule, words, "lm_model", [plan.registry], [path], settings)
    for substrate in plan.substrates("lm"):
        words = {"substrate": substrate}
        w = SimpleNamespace(**words)
        text, training = (plan.activations(f"{name}.safetensors") for name in ("text", "training"))
        inputs = [plan.registry, plan.lm_model(substrate)]
        yield _job("lm_activations", words, "lm_activations", inputs, [training, text], plan.lm_activations_settings(w))
        if corpus := plan.corpus(substrate):
            settings, rule = plan.corpus_settings(substrate), rule_name("lm_corpus", substrate)
            yield _job(rule, {}, "lm_corpus", inputs, corpus, settings)
        if shards := plan.shards(substrate):
            files = [plan.activations(f"{name}.safetensors", substrate) for name in ("training", "text")]
            settings, rule = plan.shards_settings(substrate), rule_name("lm_shards", substrate)
            yield _job(rule, {}, "lm_shards", [*files, *corpus, plan.lm_model(substrate)], shards, settings)
        sets = plan.evaluation_sets("{substrate}", plan.evaluation_seeds)
        yield _job("lm_evaluation", words, "lm_evaluation", [text], sets, plan.lm_evaluation_settings(w))
    for batch in plan.lm_batches():
        text = plan.activations("text.safetensors", batch.substrate)
        read = [*_both(plan, batch.substrate, batch.saes), text]
        sets = plan.evaluation_sets(batch.substrate, batch.seeds)
        inputs = [*read, plan.lm_model(batch.substrate), *sets]
        rule = rule_name("lm_score", batch.name)
        yield _job(rule, {}, "lm_score", inputs, batch.files(), plan.lm_score_settings(batch))
        if "sae_probes" in plan.slow_metrics(batch.substrate):
            rule, settings = rule_name("lm_sae_probes_score", batch.name), plan.lm_score_settings(batch, "sae_probes")
            yield _job(rule, {}, "lm_sae_probes", read, batch.files("sae_probes_"), settings)


def _imports(plan: Plan) -> Iterator[ExpectedJob]:
    for substrate in plan.imported():
        rule, files = rule_name("import_saebench", substrate), plan.import_files(substrate)
        outputs, settings = list(plan.import_outputs(substrate)), plan.import_settings(substrate)
        yield _job(rule, {}, "import_saebench", files, outputs, settings)


def _libraries(plan: Plan) -> Iterator[ExpectedJob]:
    """Jobs of the real SAEBench."""
    for substrate in plan.substrates("lm"):
        for metric in plan.library_metrics(substrate):
            environment = plan.library_environment(metric)
            for seed in plan.evaluation_seeds:
                words = {"substrate": substrate, "metric": metric, "seed": str(seed)}
                inputs = [plan.registry, plan.lm_model(substrate), *environment, *plan.ravel_files(metric)]
                outputs = [plan.library_cache(metric, seed, substrate)]
                settings = plan.library_cache_settings(SimpleNamespace(**words))
                yield _job("saebench_cache", words, "saebench_cache", inputs, outputs, settings)
    for job in plan.library_jobs():
        words = {"substrate": job.substrate, "sae": job.sae, "metric": job.metric, "seed": job.seed}
        inputs = [*_both(plan, job.substrate, [job.sae]), plan.lm_model(job.substrate)]
        inputs += [plan.library_cache(job.metric, job.seed, job.substrate), *plan.library_environment(job.metric)]
        outputs = [plan.score(job.seed, job.sae, job.substrate, f"{job.prefix}{job.metric}_")]
        rule, settings = "saebench_repeat" if job.prefix else "saebench_score", plan.library_score_settings(job)
        yield _job(rule, words, "saebench_score", inputs, outputs, settings)


def _anatomy(plan: Plan) -> Iterator[ExpectedJob]:
    for substrate, job in plan.anatomy_jobs("world", "lm"):
        saes, rule = plan.anatomy_saes(substrate), rule_name("anatomy", substrate, str(job))
        inputs, world = _both(plan, substrate, saes), plan.kind(substrate) == "world"
        if world:
            files = ("world.safetensors", "world.json", "tasks.json")
            inputs += [plan.world(name, substrate) for name in files]
        inputs.append(plan.activations("pool_tasks.safetensors" if world else "text.safetensors", substrate))
        outputs = [plan.anatomy_file(job, sae, substrate) for sae in saes]
        step = "anatomy" if world else "anatomy_lm"
        yield _job(rule, {}, step, inputs, outputs, plan.anatomy_settings(substrate, job))
    if plan.anatomy_files():
        outputs = [plan.tables()[name] for name in ANATOMY_TABLES]
        settings = plan.settings(points=plan.anatomy_points())
        yield _job("anatomy_table", {}, "anatomy_table", plan.anatomy_files(), outputs, settings)


def _tail(plan: Plan) -> Iterator[ExpectedJob]:
    tables, marts = list(plan.tables().values()), list(mart_files(plan).values())
    collected = [plan.tables()[name] for name in TABLES]
    queries = package_files("statistics/sql/*")
    templates = package_files("report/templates/*", "report/*.csv", "statistics/sql/*.yml")
    page = [plan.results("report", name) for name in ("report.html", "cells.json")]
    choices = plan.settings(**plan.choices())
    yield _job("table", {}, "table", plan.score_files(), collected, plan.settings(planned=plan.planned()))
    yield _job("statistics", {}, "statistics", [*tables, *queries], marts, choices)
    yield _job("charts", {}, "charts", marts, plan.charts(), choices)
    inputs = [*marts, *tables, *plan.charts(), *templates]
    yield _job("report", {}, "report", inputs, page, plan.settings(design=plan.page_design()))
