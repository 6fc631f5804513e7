# Charts and the page.
try:
    design = plan.page_design()
except AssayError as error:
    raise WorkflowError(str(error))


rule charts:
    input:
        **plan.marts(),
    output:
        charts=update(plan.charts()),
    params:
        group="light",
        settings=plan.settings(**plan.choices()),
    log:
        plan.log("charts"),
    threads: 1
    script:
        RUN


rule report:
    input:
        **plan.marts(),
        tables=list(plan.tables().values()),
        charts=plan.charts(),
        templates=[path for pattern in ("report/templates/*", "report/*.csv", "statistics/sql/*.yml") for path in plan.package_files(pattern)],
    output:
        report=update(plan.results("report", "report.html")),
        cells=update(plan.results("report", "cells.json")),
    params:
        group="light",
        settings=plan.settings(design=design),
    log:
        plan.log("report"),
    threads: 1
    script:
        RUN


rule charts_all:
    input:
        plan.family("charts"),


rule report_all:
    input:
        plan.family("report"),
