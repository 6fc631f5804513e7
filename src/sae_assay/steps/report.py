"""Write the report: one HTML page, and the list of cells that it shows.

inputs: the marts' and the study's tables (parquet), and the charts' .json and .svg files. outputs: report.html and cells.json.
params: `study`, its name; `design`, the study as `Study.model_dump(mode="json", by_alias=True)`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sae_assay.steps.charts import read_marts


def run(inputs: Iterable[str], outputs: Iterable[str], params: dict[str, Any]) -> None:
    """Build the page from the marts and charts; equal inputs give equal bytes."""
    from sae_assay.report import page
    from sae_assay.report.names import CHART_NAMES

    files = list(map(Path, inputs))
    charts = {
        name: page.Chart(spec=_chart_file(files, name, ".json"), svg=_chart_file(files, name, ".svg"))
        for name in CHART_NAMES
    }
    tables = [path for path in files if path.suffix == ".parquet"]
    digests = {path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in tables}
    html, cells = page.render(params["study"], read_marts(map(str, files)), charts, params["design"], digests)
    written = {
        ".html": html,
        ".json": json.dumps(cells, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n",
    }
    for path in map(Path, outputs):
        path.write_text(written[path.suffix], encoding="utf-8")


def _chart_file(files: list[Path], name: str, suffix: str) -> str:
    return next(p for p in files if p.stem == name and p.suffix == suffix).read_text(encoding="utf-8")
