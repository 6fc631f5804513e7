# Targets and includes. `snakemake` makes the report of config.yaml's study; `--config study=NAME` takes studies/NAME.yaml.
include: "rules/common.smk"
include: "rules/worlds.smk"
include: "rules/lms.smk"
include: "rules/saebench.smk"
include: "rules/saes.smk"
include: "rules/scores.smk"
include: "rules/imports.smk"
include: "rules/anatomy.smk"
include: "rules/statistics.smk"
include: "rules/report.smk"


localrules: all, worlds_all, activations_all, saes_all, trajectories_all, scores_all, anatomy_all, table_all, statistics_all, charts_all, report_all


rule all:
    default_target: True
    input:
        rules.scores_all.input,
        rules.table_all.input,
        rules.statistics_all.input,
        rules.charts_all.input,
        rules.report_all.input


# After the last rule: what is recorded, intact and unchanged is told apart from what is stale.
if workflow.is_main_process:
    for estimate in plan.disk_estimates():
        print(estimate, file=sys.stderr)
    restore.sync(workflow, plan.name, plan.folders, plan.targets(), plan.shared_inputs())
