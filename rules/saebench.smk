# The real SAEBench on language models, in an environment of its own (envs/saebench). What all SAEs share is made first, in
# a pass that no SAE is part of; then one job scores an SAE by one metric at one evaluation seed, in every mode.


plan.check_judge()


rule saebench_cache:
    input:
        registry=plan.registry,
        model=lambda w: plan.lm_model(w.substrate),
        environment=lambda w: plan.library_environment(w.metric),
        ravel=lambda w: plan.ravel_files(w.metric),
    output:
        cache=update(plan.library_cache("{metric}", "{seed}")),
    params:
        settings=plan.library_cache_settings,
    log:
        plan.log("saebench_cache", "substrate", "metric", "seed"),
    wildcard_constraints:
        substrate=plan.pattern("lm"),
        metric=plan.library_pattern(),
    resources:
        gpu=1,
    threads: 1
    script:
        RUN


rule saebench_score:
    input:
        card=lambda w: plan.sae("cfg.json", w.sae, w.substrate),
        weights=lambda w: plan.sae("sae_weights.safetensors", w.sae, w.substrate),
        model=lambda w: plan.lm_model(w.substrate),
        cache=rules.saebench_cache.output.cache,
        environment=lambda w: plan.library_environment(w.metric),
    output:
        scores=update(plan.score("{seed}", prefix="{metric}_")),
    params:
        settings=plan.library_score_settings,
    log:
        plan.log("saebench_score", "substrate", "sae", "metric", "seed"),
    wildcard_constraints:
        substrate=plan.pattern("lm"),
        metric=plan.library_pattern(),
    resources:
        gpu=1,
    threads: 1
    script:
        RUN


# A second process at one seed: what differs is not reseed noise but randomness that the library does not control.
use rule saebench_score as saebench_repeat with:
    output:
        scores=update(plan.score("{seed}", prefix="repeat_{metric}_")),
    params:
        step="saebench_score",
        settings=plan.library_score_settings,
    log:
        plan.log("saebench_repeat", "substrate", "sae", "metric", "seed"),
