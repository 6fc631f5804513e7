"""Draw every chart of a study.

inputs: the marts' parquet files. outputs: NAME.json and NAME.svg of every chart in `report.names.CHART_NAMES`.
params: none.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sae_assay.errors import AssayError


def run(inputs: Iterable[str], outputs: Iterable[str], params: dict[str, Any]) -> None:
    """Read the marts, write the charts to the given paths; equal marts give equal bytes."""
    from sae_assay.report import gallery, render

    marts = read_marts(inputs)
    wanted: dict[str, dict[str, Path]] = {}
    for path in map(Path, outputs):
        wanted.setdefault(chart_name(path), {})[path.suffix] = path
    for name, files in wanted.items():
        for suffix, content in render.files(gallery.draw(name, marts)).items():
            if suffix in files:
                files[suffix].write_bytes(content)


def chart_name(path: Path) -> str:
    """The chart that an output belongs to: its file name begins with the chart's name (a temporary name may follow)."""
    from sae_assay.report.names import CHART_NAMES

    if path.stem in CHART_NAMES:
        return path.stem
    raise AssayError(str(path), "is no chart of the report", "name it after one in report/names.py")


def read_marts(inputs: Iterable[str]) -> dict[str, Any]:
    """Mart name -> table, of the parquet files among the inputs that lie in a `statistics` folder."""
    import polars as pl

    return {p.stem: pl.read_parquet(p) for p in map(Path, inputs) if p.suffix == ".parquet" and "statistics" in p.parts}
