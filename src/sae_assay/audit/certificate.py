"""The certificate: one page that says what was checked, by which version, what was found, and what was not checked."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import jinja2

from sae_assay.audit.findings import CODES
from sae_assay.audit.verify import PROMISES_DO_NOT_COVER, Report

DEPTHS = {
    1: "The records, their graph, the plan, the code and the files under results/; the table, every statistic, chart and "
    "cell was computed again by the verifier’s own code.",
    2: "All of depth 1, and every recorded file on disk and in the DVC cache was hashed.",
    3: "All of depth 2, and a random share of the jobs was run again in a temporary clone.",
}
CHECKS = {
    "records": "schema, canonical form and id of every record; no secrets",
    "graph": "one producer a file, no unknown input, no cycle, no orphan",
    "plan": "choices, thresholds, tolerances and jobs as declared; no run dropped",
    "code": "what ran is what git, the tree and the verifier hold",
    "environment": "installed as locked, locked as recorded",
    "lock": "dvc.lock and the ledger name the same bytes",
    "bytes": "SHA-256, size and MD5 of the files",
    "table": "the score table collected again; rows agree with their jobs",
    "statistics": "every mart computed again, bit for bit",
    "charts": "every chart drawn again",
    "cells": "every number shown is its cell’s; the page rendered again",
    "signatures": "bundles hold, are chained, and signed by trusted keys",
    "recompute": "sampled jobs run again",
}


def render(report: Report) -> str:
    """The page's HTML: self-contained, no script, no clock; equal audits give equal bytes."""
    text = (resources.files("sae_assay.audit") / "templates" / "certificate.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(text).render(
        report=report.as_dict(),
        failed=report.failed,
        depths=DEPTHS,
        checks=CHECKS,
        codes=CODES,
        limits=PROMISES_DO_NOT_COVER,
    )


def write(report: Report, path: Path) -> None:
    """Write the page.

    Raises:
        OSError: the disk refuses it.
    """
    path.write_text(render(report), encoding="utf-8")
