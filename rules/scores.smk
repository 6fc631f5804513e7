# Scores: one job per finished SAE computes all cheap metrics at every evaluation seed; one per trajectory does its snapshots.


rule score_sae:
    input:
        cards=lambda w: plan.sae_files(w.substrate, [w.sae], "cards"),
        weights=lambda w: plan.sae_files(w.substrate, [w.sae], "weights"),
        world_weights=rules.world.output.weights,
        evaluations=plan.evaluation_sets("{substrate}", plan.evaluation_seeds),
    output:
        scores=update([plan.score(seed) for seed in plan.evaluation_seeds]),
    params:
        step=plan.step("score"),
        settings=plan.score_settings,
    log:
        plan.log("score_sae", "substrate", "sae"),
    wildcard_constraints:
        substrate=plan.pattern("world", "toy"),
        sae=r"(?!.*\.step_)[^/]+",
    resources:
        gpu=1,
    threads: 1
    script:
        RUN


# A second process scores a few SAEs again at one seed: what moves is not reseed noise but uncontrolled randomness.
rule score_repeat:
    input:
        cards=lambda w: plan.sae_files(w.substrate, [w.sae], "cards"),
        weights=lambda w: plan.sae_files(w.substrate, [w.sae], "weights"),
        world_weights=rules.world.output.weights,
        evaluations=plan.evaluation_sets("{substrate}", [plan.repeat]),
    output:
        scores=update([plan.score(plan.repeat, prefix="repeat_")]),
    params:
        step=plan.step("score"),
        settings=plan.score_repeat_settings,
    log:
        plan.log("score_repeat", "substrate", "sae"),
    wildcard_constraints:
        substrate=plan.pattern("world", "toy"),
    resources:
        gpu=1,
    threads: 1
    script:
        RUN


# Snapshots differ in number from substrate to substrate, hence a rule each.
for substrate in plan.with_trajectories("world", "toy"):

    rule:
        name:
            rule_name("score_trajectory", substrate)
        input:
            cards=plan.snapshot_files(substrate, "cards"),
            weights=plan.snapshot_files(substrate, "weights"),
            world_weights=plan.world("world.safetensors", substrate),
            evaluations=plan.evaluation_sets(substrate, plan.snapshot_seeds),
        output:
            scores=update(plan.snapshot_scores(substrate)),
        params:
            step="toy" if plan.kind(substrate) == "toy" else "score",
            settings=plan.score_trajectory_settings(substrate),
        log:
            plan.log(rule_name("score_trajectory", substrate), "run"),
        wildcard_constraints:
            run=plan.run_pattern(substrate),
        resources:
            gpu=1,
        threads: 1
        script:
            RUN


rule scores_all:
    input:
        plan.family("scores"),
