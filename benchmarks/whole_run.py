"""Time and memory of a whole run, stage by stage, in a fresh clone with nothing to restore from.

    uv run python benchmarks/whole_run.py [--study tiny] [--cores 2] [--json FILE]
    uv run python benchmarks/whole_run.py --recorded     the table alone, from the ledger here

Wall and CPU seconds per rule come from the ledger's run records; the peak of the whole process tree is sampled.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import chdir
from pathlib import Path
from typing import Any

import psutil

from sae_assay.ledger.records import Ledger


class PeakMemory(threading.Thread):
    """Samples the resident memory of a process and its children twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process, self.peak, self.stopped = psutil.Process(pid), 0, threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.5):
            total = 0
            for process in [self.process, *self.process.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total)


def run(study: str, cores: int) -> dict[str, Any]:
    """Run a study in a temporary clone; returns seconds, peak bytes and a row per rule."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        shutil.rmtree(clone / "data" / "remote" / "files", ignore_errors=True)
        command = [sys.executable, "-m", "snakemake", "--cores", str(cores)]
        command += [] if study == "default" else ["--config", f"study={study}"]
        environment = {**os.environ, "PYTHONPATH": str(clone / "src")}
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=clone, env=environment)
        memory = PeakMemory(process.pid)
        memory.start()
        code = process.wait()
        seconds = time.monotonic() - started
        memory.stopped.set()
        memory.join()
        if code != 0:
            raise SystemExit(f"the run failed with exit code {code}")
        with chdir(clone):
            rules = by_rule(records(study))
        return {"study": study, "cores": cores, "seconds": round(seconds, 1), "peak_bytes": memory.peak, "rules": rules}


def records(study: str) -> list[dict[str, Any]]:
    """The newest run record of every job that the ledger here knows."""
    return [candidates[0].raw for candidates in Ledger(study).runs.values()]


def by_rule(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Jobs, summed seconds and largest peak memory per rule, longest first."""
    rules: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in runs:
        rules[record["rule"]].append(record)
    rows = [
        {
            "rule": rule,
            "jobs": len(jobs),
            "seconds": round(sum(job["duration_ms"] for job in jobs) / 1000, 1),
            "peak_bytes": max(job["peak_memory_bytes"] for job in jobs),
        }
        for rule, jobs in rules.items()
    ]
    return sorted(rows, key=lambda row: (-row["seconds"], row["rule"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="default")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--recorded", action="store_true")
    arguments = parser.parse_args()
    if arguments.recorded:
        show(by_rule(records(arguments.study)))
        return
    result = run(arguments.study, arguments.cores)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        f"{result['study']}: {result['seconds']} s on {result['cores']} cores, peak {result['peak_bytes'] / 2**30:.2f} GiB"
    )
    show(result["rules"])


def show(rules: list[dict[str, Any]]) -> None:
    for row in rules:
        print(f"{row['rule']:28} {row['jobs']:5d} jobs {row['seconds']:9.1f} s {row['peak_bytes'] / 2**20:7.0f} MiB")


if __name__ == "__main__":
    main()
