# Language models: the model, its activations, one evaluation set per evaluation seed, and the scores. A scoring job takes a
# training run with all its snapshots, because loading the model costs more than scoring an SAE.


rule lm_model:
    input:
        registry=plan.registry,
    output:
        model=update("data/inputs/{name}/model.gguf"),
    params:
        settings=plan.lm_model_settings,
    log:
        plan.log("lm_model", "name"),
    wildcard_constraints:
        name=plan.input_pattern(),
    threads: 1
    script:
        RUN


# A model of the hub: its files stay in the client's cache, and their manifest stands here.
use rule lm_model as lm_hub_model with:
    output:
        model=update("data/inputs/{name}/model.json"),
    params:
        step="lm_model",
        settings=plan.lm_model_settings,
    log:
        plan.log("lm_hub_model", "name"),
    wildcard_constraints:
        name=plan.input_pattern(on_hub=True),


rule lm_activations:
    input:
        registry=plan.registry,
        model=lambda w: plan.lm_model(w.substrate),
    output:
        training=update(plan.activations("training.safetensors")),
        text=update(plan.activations("text.safetensors")),
    params:
        settings=plan.lm_activations_settings,
    log:
        plan.log("lm_activations", "substrate"),
    wildcard_constraints:
        substrate=plan.pattern("lm"),
    resources:
        gpu=1,
    threads: 1
    script:
        RUN


for substrate in plan.with_corpus():

    # As shards do, a killed job goes on behind the documents that it has.
    rule:
        name:
            rule_name("lm_corpus", substrate)
        input:
            registry=plan.registry,
            model=plan.lm_model(substrate),
        output:
            corpus=update(plan.corpus(substrate)),
        params:
            step="lm_corpus",
            settings=plan.corpus_settings(substrate),
        log:
            plan.log(rule_name("lm_corpus", substrate)),
        threads: 1
        script:
            RUN


for substrate in plan.with_shards():

    # Finished shards lie in .sae-assay/scratch until all are done: a killed job goes on behind the last.
    rule:
        name:
            rule_name("lm_shards", substrate)
        input:
            training=plan.activations("training.safetensors", substrate),
            corpus=plan.corpus(substrate),
            text=plan.activations("text.safetensors", substrate),
            model=plan.lm_model(substrate),
        output:
            shards=update(plan.shards(substrate)),
        params:
            step="lm_shards",
            settings=plan.shards_settings(substrate),
        log:
            plan.log(rule_name("lm_shards", substrate)),
        resources:
            gpu=1,
        threads: 1
        script:
            RUN


rule lm_evaluation:
    input:
        text=rules.lm_activations.output.text,
    output:
        evaluations=update(plan.evaluation_sets("{substrate}", plan.evaluation_seeds)),
    params:
        settings=plan.lm_evaluation_settings,
    log:
        plan.log("lm_evaluation", "substrate"),
    wildcard_constraints:
        substrate=plan.pattern("lm"),
    resources:
        gpu=1,
    threads: 1
    script:
        RUN


for batch in plan.lm_batches():

    rule:
        name:
            rule_name("lm_score", batch.name)
        input:
            cards=plan.sae_files(batch.substrate, batch.saes, "cards"),
            weights=plan.sae_files(batch.substrate, batch.saes, "weights"),
            model=plan.lm_model(batch.substrate),
            text=plan.activations("text.safetensors", batch.substrate),
            evaluations=plan.evaluation_sets(batch.substrate, batch.seeds),
        output:
            scores=update(batch.files()),
        params:
            step="lm_score",
            settings=plan.lm_score_settings(batch),
        log:
            plan.log(rule_name("lm_score", batch.name)),
        resources:
            gpu=1,
        threads: 1
        script:
            RUN

    # The real sae-probes library reads all its text when it is imported: a job of its own.
    if "sae_probes" in plan.slow_metrics(batch.substrate):

        rule:
            name:
                rule_name("lm_sae_probes_score", batch.name)
            input:
                cards=plan.sae_files(batch.substrate, batch.saes, "cards"),
                weights=plan.sae_files(batch.substrate, batch.saes, "weights"),
                text=plan.activations("text.safetensors", batch.substrate),
            output:
                scores=update(batch.files("sae_probes_")),
            params:
                step="lm_sae_probes",
                settings=plan.lm_score_settings(batch, "sae_probes"),
            log:
                plan.log(rule_name("lm_sae_probes_score", batch.name)),
            resources:
                gpu=1,
            threads: 1
            script:
                RUN
