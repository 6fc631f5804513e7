# Synthetic worlds: the world, the rows drawn from it, its tasks, and one evaluation set per evaluation seed, all by one job: pulled results lack them.


rule world:
    input:
        published=lambda w: plan.published_world(w.substrate),
    output:
        weights=update(plan.world("world.safetensors")),
        card=update(plan.world("world.json")),
    params:
        step=plan.step("world"),
        settings=plan.world_settings,
    log:
        plan.log("world", "substrate"),
    wildcard_constraints:
        substrate=plan.pattern("world", "toy"),
    resources:
        gpu=1,
    threads: 1
    script:
        RUN


# One process draws the training rows and every pool.
rule samples:
    input:
        weights=rules.world.output.weights,
        card=rules.world.output.card,
    output:
        training=update(plan.activations("training.safetensors")),
        task_pool=update(plan.activations("pool_tasks.safetensors")),
        pools=update([plan.activations(f"pool_{seed}.safetensors") for seed in plan.evaluation_seeds]),
    params:
        step=plan.step("samples"),
        settings=plan.samples_settings,
    log:
        plan.log("samples", "substrate"),
    wildcard_constraints:
        substrate=plan.pattern("world", "toy"),
    resources:
        gpu=1,
    threads: 1
    script:
        RUN


rule tasks:
    input:
        card=rules.world.output.card,
        task_pool=rules.samples.output.task_pool,
    output:
        tasks=update(plan.world("tasks.json")),
    params:
        step=plan.step("tasks"),
        settings=plan.tasks_settings,
    log:
        plan.log("tasks", "substrate"),
    wildcard_constraints:
        substrate=plan.pattern("world", "toy"),
    threads: 1
    script:
        RUN


rule evaluation_sets:
    input:
        tasks=rules.tasks.output.tasks,
        world=rules.world.output.weights,
        pools=rules.samples.output.pools,
    output:
        evaluations=update(plan.evaluation_sets("{substrate}", plan.evaluation_seeds)),
    params:
        step=plan.step("evaluation_sets"),
        settings=plan.evaluation_settings,
    log:
        plan.log("evaluation_sets", "substrate"),
    wildcard_constraints:
        substrate=plan.pattern("world", "toy"),
    resources:
        gpu=1,
    threads: 1
    script:
        RUN


rule worlds_all:
    input:
        plan.family("worlds"),


rule activations_all:
    input:
        plan.family("activations"),
