"""Where the page's numbers come from: one record a table and one a chart, so that cells need not repeat them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from sae_assay.ledger.canonical import digest
from sae_assay.report import gallery, queries, seconds
from sae_assay.report.names import CHART_NAMES
from sae_assay.statistics import runner

PUBLISHED = "src/sae_assay/report/paper-numbers.csv"


def of_tables(
    study: str, names: Iterable[str], design: Mapping[str, Any], digests: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The source of every table that cells are read from.

    Args:
        study: its name.
        names: marts, `paper` (published numbers), `study` (the design's) or `seconds` (measured).
        design: the study as plain JSON values.
        digests: path -> SHA-256 of the tables and marts at hand; what is missing is left out.

    Returns:
        For a mart: `kind` query, `path` and `sha256` of its values, `sql` (its query's file), `sql_sha256` (over it and all
        that it needs), `tables` (name -> SHA-256), `tolerance` (null: equal bit by bit). For the others: `kind` published,
        design or measured, `path`, `sha256`.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(set(names)):
        if name == "paper":
            text = (resources.files("sae_assay.report") / "paper-numbers.csv").read_bytes()
            found[name] = {"kind": "published", "path": PUBLISHED, "sha256": hashlib.sha256(text).hexdigest()}
        elif name == "study":
            found[name] = {"kind": "design", "path": "the study’s configuration", "sha256": digest(design)}
        elif name == seconds.TABLE:
            path = f"a measurement kept in {design['report']['seconds']}"
            found[name] = {"kind": "measured", "path": path, "sha256": design["measured"]["sha256"]}
        elif name in runner.MARTS:
            found[name] = _of_mart(study, name, digests)
    return found


def _of_mart(study: str, mart: str, digests: Mapping[str, str]) -> dict[str, Any]:
    path = f"results/statistics/{study}/{mart}.parquet"
    tables = {name: digests.get(f"results/table/{study}/{name}.parquet") for name in queries.tables(mart)}
    return {
        "kind": "query",
        "path": path,
        "sha256": digests.get(path),
        "sql": queries.query_file(mart),
        "sql_sha256": queries.sql_sha256(mart),
        "tables": {name: sha for name, sha in tables.items() if sha},
        "tolerance": None,
    }


def of_charts(specs: Mapping[str, str]) -> list[dict[str, Any]]:
    """A record a chart, which all of its points share: `chart`, `marts`, `data_sha256` (canonical JSON of its data)."""
    return [
        {
            "chart": name,
            "marts": list(gallery.SOURCES[name]),
            "data_sha256": digest(json.loads(specs[name])["datasets"]),
        }
        for name in CHART_NAMES
        if name in specs
    ]
