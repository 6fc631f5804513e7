# The score table and its statistics: light, seconds.


rule table:
    input:
        scores=plan.score_files(),
    output:
        **{name: update(plan.tables()[name]) for name in TABLES},
    params:
        group="light",
        settings=plan.settings(planned=plan.planned()),
    log:
        plan.log("table"),
    threads: 1
    script:
        RUN


rule statistics:
    input:
        **plan.tables(),
        queries=plan.package_files("statistics/sql/*"),
    output:
        **{name: update(path) for name, path in plan.marts().items()},
    params:
        group="light",
        settings=plan.settings(**plan.choices()),
    log:
        plan.log("statistics"),
    threads: 1
    script:
        RUN


rule table_all:
    input:
        plan.family("table"),


rule statistics_all:
    input:
        plan.family("statistics"),
