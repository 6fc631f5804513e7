"""Computes statistics again from a tree's tables, or charts and page from its marts, in a process of its own.

The process starts as a step of the workflow does (one thread, fixed locale and time zone), outside the tree, with the
verifier's own package, and runs beside the other checks. It reads the tree's tables and writes into a temporary folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from sae_assay.audit import reading
from sae_assay.audit.tree import own_package
from sae_assay.errors import AssayError
from sae_assay.ledger.environment import process_environment
from sae_assay.ledger.files import hash_file

TIMEOUT_S = 3600
MEMORY_BYTES = 48 << 30  # of address space: DuckDB and polars reserve far more than they use


class Interrupted(AssayError):
    """The recomputation itself broke down, which says nothing about the tree: the audit could not run."""


class Replay:
    """A running or finished recomputation; use it as a context."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Start it.

        Args:
            job: `root`, the tree; `profile`, the study's numeric one; for the statistics `tables` (name -> path in the tree) and `choices`; for charts and
                page `marts` (name -> path), `page` (its path in the tree), `shown` (paths of tables whose digests it shows), `charts` (name -> suffix ->
                path), `study`, `design` and `pictures` (draw SVG again; else the page takes the tree's SVG).
        """
        self._folder = tempfile.TemporaryDirectory(prefix="sae-assay-replay-")
        self.folder = Path(self._folder.name)
        (self.folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "sae_assay.audit.replay", "job.json"]
        path = os.pathsep.join([str(own_package().parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        variables = process_environment(job["profile"], 1) | {"PYTHONPATH": path}
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, env=variables, stdout=log, stderr=log)

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _wait(self) -> None:
        try:
            code = self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise Interrupted(
                "recomputation", f"took longer than {TIMEOUT_S} s", "look at the size of the tables"
            ) from None
        if code and not (self.folder / "error.json").exists():
            tail = (self.folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise Interrupted(
                "recomputation", f"ended with code {code}: {' '.join(tail)}"[:300], "verify on a larger machine"
            )

    def _result(self, path: str) -> Path:
        """A file of the result.

        Raises:
            AssayError: it could not be made.
        """
        self._wait()
        file = self.folder / path
        if not file.exists():
            error = json.loads((self.folder / "error.json").read_text(encoding="utf-8"))
            raise AssayError(error["where"], error["problem"], error["remedy"])
        return file

    def mart(self, name: str) -> pl.DataFrame:
        """A mart, computed again."""
        return pl.read_parquet(self._result(f"marts/{name}.parquet"))

    def chart(self, name: str, suffix: str) -> bytes:
        """A chart's file (json or svg), drawn again."""
        return self._result(f"charts/{name}.{suffix}").read_bytes()

    def page(self) -> tuple[str, dict[str, Any]]:
        """The page and its list of cells, rendered again."""
        text = self._result("report.html").read_text(encoding="utf-8")
        return text, json.loads(self._result("cells.json").read_text(encoding="utf-8"))


def main(job_path: str) -> int:
    """Run a job; what goes wrong is written as error.json."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    try:
        _replay(job)
    except AssayError as error:
        found = {"where": error.where, "problem": error.problem, "remedy": error.remedy}
        Path("error.json").write_text(json.dumps(found), encoding="utf-8")
        return 1
    return 0


def _replay(job: dict[str, Any]) -> None:
    if "tables" in job:
        _compute(Path(job["root"]), job["tables"], job["choices"])
    else:
        _draw(Path(job["root"]), job["marts"], job)


def _compute(root: Path, tables: dict[str, str], choices: dict[str, Any]) -> None:
    from sae_assay.statistics import runner
    from sae_assay.tables import scores

    for path in tables.values():
        reading.check_table(root, path)
    with _limited():
        marts = runner.compute({name: root / path for name, path in tables.items()}, choices)
    Path("marts").mkdir()
    for name, mart in marts.items():
        scores.write_pinned(mart, Path("marts", f"{name}.parquet"))


def _draw(root: Path, paths: dict[str, str], job: dict[str, Any]) -> None:
    from sae_assay.report import gallery, page, render
    from sae_assay.report.names import CHART_NAMES
    from sae_assay.statistics import contracts

    marts = {name: contracts.check(reading.read_table(root, path), name) for name, path in paths.items()}
    Path("charts").mkdir()
    drawn = {}
    for name in CHART_NAMES:
        spec = _specification(name, {mart: marts[mart] for mart in gallery.SOURCES[name]})
        files = {"json": render.text(spec).encode()}
        if job["pictures"]:
            files["svg"] = render.picture(spec).encode()
        else:
            files["svg"] = reading.read_bytes(root, job["charts"][name]["svg"])
        for suffix, content in files.items():
            Path("charts", f"{name}.{suffix}").write_bytes(content)
        drawn[name] = page.Chart(spec=files["json"].decode(), svg=files["svg"].decode("utf-8", "replace"))
    digests = {path: hash_file(reading.inside(root, path)).sha256 for path in [*paths.values(), *job["shown"]]}
    vega = _vega(root, job["page"])
    html, listed = page.render(job["study"], marts, drawn, job["design"], digests, vega)
    Path("report.html").write_text(html, encoding="utf-8")
    Path("cells.json").write_text(json.dumps(listed, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def _vega(root: Path, path: str) -> str | None:
    """Vega's script from the tree's page if it is byte for byte the verifier's own, which takes two seconds to make."""
    from sae_assay.report.page import VEGA_SHA256

    try:
        html = reading.read_text(root, path)
    except AssayError:
        return None  # the check of the page says what is wrong with it
    embedded = re.search(r'<script type="text/plain" id="vega">([^<]*)<', html)
    same = embedded and hashlib.sha256(embedded[1].encode()).hexdigest() == VEGA_SHA256
    return embedded[1] if embedded and same else None


@contextmanager
def _limited() -> Iterator[None]:
    """No more address space than `MEMORY_BYTES` for the statistics (drawing reserves far more than it uses)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Unvalidated:
    """A chart that Altair does not hold to its schema again (a third of the time): the result is compared anyway."""

    def __init__(self, chart: Any) -> None:
        self._chart = chart

    def to_dict(self, validate: bool = True) -> dict[str, Any]:
        return self._chart.to_dict(validate=False)


def _specification(name: str, marts: dict[str, pl.DataFrame]) -> dict[str, Any]:
    from altair.utils import schemapi

    from sae_assay.report import gallery, render

    with schemapi.debug_mode(False):
        chart: Any = _Unvalidated(gallery.draw(name, marts))
        return render.specification(chart)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
