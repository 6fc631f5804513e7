# SAEs: one training job per group of runs (its outputs differ from group to group, hence a rule each), published ones, controls.

for group in plan.study.training_groups:

    rule:
        name:
            rule_name("train", group.substrate, group.name)
        input:
            training=plan.activations("training.safetensors", group.substrate),
            world=plan.dictionary(group.substrate),
            corpus=plan.corpus(group.substrate),
            stream=plan.stream_inputs(group.substrate),
        output:
            cards=update(plan.sae_files(group.substrate, plan.group_saes(group), "cards")),
            weights=update(plan.sae_files(group.substrate, plan.group_saes(group), "weights")),
        params:
            step=plan.train_step(group),
            settings=plan.train_settings(group),
        log:
            plan.log(rule_name("train", group.substrate, group.name)),
        resources:
            gpu=1,
        threads: 1
        script:
            RUN


for substrate in plan.with_published():

    rule:
        name:
            rule_name("published_saes", substrate)
        input:
            registry=plan.registry,
            card=plan.published_inputs(substrate)[:-1],
            training=plan.published_inputs(substrate)[-1],
        output:
            cards=update(plan.sae_files(substrate, plan.published(substrate), "cards")),
            weights=update(plan.sae_files(substrate, plan.published(substrate), "weights")),
        params:
            step="published_saes",
            settings=plan.published_settings(substrate),
        log:
            plan.log(rule_name("published_saes", substrate)),
        threads: 1
        script:
            RUN


for substrate in plan.with_controls():

    rule:
        name:
            rule_name("controls", substrate)
        input:
            weights=plan.world("world.safetensors", substrate),
            card=plan.world("world.json", substrate),
            training=plan.activations("training.safetensors", substrate),
            base_cards=plan.sae_files(substrate, plan.bases(substrate), "cards"),
            base_weights=plan.sae_files(substrate, plan.bases(substrate), "weights"),
        output:
            cards=update(plan.sae_files(substrate, plan.controls(substrate), "cards")),
            weights=update(plan.sae_files(substrate, plan.controls(substrate), "weights")),
        params:
            step="toy" if plan.kind(substrate) == "toy" else "controls",
            settings=plan.controls_settings(substrate),
        log:
            plan.log(rule_name("controls", substrate)),
        threads: 1
        script:
            RUN


rule saes_all:
    input:
        plan.family("saes"),


rule trajectories_all:
    input:
        plan.family("trajectories"),
