# Noise anatomy: each source of randomness reseeded alone (src/sae_assay/anatomy.py). A job takes some blocks; nothing where a
# study declares none.

for substrate, job in plan.anatomy_jobs("world"):

    rule:
        name:
            rule_name("anatomy", substrate, str(job))
        input:
            cards=plan.sae_files(substrate, plan.anatomy_saes(substrate), "cards"),
            weights=plan.sae_files(substrate, plan.anatomy_saes(substrate), "weights"),
            world_weights=plan.world("world.safetensors", substrate),
            world_card=plan.world("world.json", substrate),
            task_pool=plan.activations("pool_tasks.safetensors", substrate),
            tasks=plan.world("tasks.json", substrate),
        output:
            scores=update([plan.anatomy_file(job, sae, substrate) for sae in plan.anatomy_saes(substrate)]),
        params:
            step="anatomy",
            settings=plan.anatomy_settings(substrate, job),
        log:
            plan.log(rule_name("anatomy", substrate, str(job))),
        resources:
            gpu=1,
        threads: 1
        script:
            RUN


for substrate, job in plan.anatomy_jobs("lm"):

    rule:
        name:
            rule_name("anatomy", substrate, str(job))
        input:
            cards=plan.sae_files(substrate, plan.anatomy_saes(substrate), "cards"),
            weights=plan.sae_files(substrate, plan.anatomy_saes(substrate), "weights"),
            text=plan.activations("text.safetensors", substrate),
        output:
            scores=update([plan.anatomy_file(job, sae, substrate) for sae in plan.anatomy_saes(substrate)]),
        params:
            step="anatomy_lm",
            settings=plan.anatomy_settings(substrate, job),
        log:
            plan.log(rule_name("anatomy", substrate, str(job))),
        resources:
            gpu=1,
        threads: 1
        script:
            RUN


rule anatomy_all:
    input:
        plan.anatomy_files(),


if plan.anatomy_files():

    rule anatomy_table:
        input:
            scores=plan.anatomy_files(),
        output:
            anatomy=update(plan.tables()["anatomy"]),
            points=update(plan.tables()["points"]),
        params:
            group="light",
            settings=plan.settings(points=plan.anatomy_points()),
        log:
            plan.log("anatomy_table"),
        threads: 1
        script:
            RUN
