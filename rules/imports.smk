# Scores that others computed: SAEBench's result files become score rows, and an account of every file.

for substrate in plan.imported():

    rule:
        name:
            rule_name("import_saebench", substrate)
        input:
            files=plan.import_files(substrate),
        output:
            scores=update(plan.import_outputs(substrate)[0]),
            account=update(plan.import_outputs(substrate)[1]),
        params:
            step="import_saebench",
            group="light",
            settings=plan.import_settings(substrate),
        log:
            plan.log(rule_name("import_saebench", substrate)),
        threads: 1
        script:
            RUN
