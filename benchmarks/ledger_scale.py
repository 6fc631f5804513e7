"""What the ledger adds to `snakemake -n`: a made-up study of N recorded jobs, dry runs with and without it, alternating.

    uv run python benchmarks/ledger_scale.py --jobs 10000

Prints one JSON line: seconds of both (the medians), and the ledger's share, which is to stay at or below 0.05.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sae_assay.ledger import environment, records
from sae_assay.ledger.files import hash_file

ROOT = Path(__file__).parents[1]
SNAKEFILE = """
import os
from pathlib import Path
from sae_assay.ledger import restore

SETTINGS = {{"study": "scale", "threads": 1, "profile": "native"}}
FILES = [f"results/scores/scale/{{i}}.txt" for i in range({jobs})]

rule all:
    input: FILES

rule score:
    input: "data/source.txt"
    output: update("results/scores/scale/{{i}}.txt")
    params: settings=SETTINGS
    script: "step.py"

if os.environ.get("WITH_LEDGER"):
    restore.sync(workflow, "scale", [Path("results/scores/scale")], FILES)
"""


def build(folder: Path, jobs: int) -> None:
    """Write the artifacts and their ledger."""
    (folder / "data").mkdir()
    (folder / "results/scores/scale").mkdir(parents=True)
    (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs), encoding="utf-8")
    (folder / "data/source.txt").write_text("source", encoding="utf-8")
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    shutil.copy(ROOT / "uv.lock", folder)
    os.chdir(folder)
    source, lock = hash_file("data/source.txt").sha256, environment.lock_digest("compute")
    written = []
    for i in range(jobs):
        path = f"results/scores/scale/{i}.txt"
        Path(path).write_text(f"score {i}\n", encoding="utf-8")
        content = {
            "type": "run", "schema": records.SCHEMA, "study": "scale", "rule": "score", "step": "score", "group": "compute",
            "wildcards": {"i": str(i)}, "inputs": {"data/source.txt": source}, "outputs": {path: hash_file(path).sha256},
            "code": {}, "params": {"study": "scale", "threads": 1, "profile": "native"}, "lock_digest": lock,
        }  # fmt: skip
        written.append(records.with_id(content))
    records.write_ledger("scale", written)


def dry_run(with_ledger: bool) -> float:
    """Seconds of one `snakemake -n`, which must find nothing to do."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "WITH_LEDGER": "1" if with_ledger else ""}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n"], env=variables, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    assert "Nothing to be done" in done.stdout + done.stderr
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        build(Path(name), arguments.jobs)
        dry_run(with_ledger=True)  # sets the modification times and remembers the digests
        pairs = [(dry_run(with_ledger=False), dry_run(with_ledger=True)) for _ in range(arguments.repeats)]
        os.chdir(ROOT)
    without, with_ledger = (statistics.median(side) for side in zip(*pairs, strict=True))
    share = (with_ledger - without) / without
    print(json.dumps({"jobs": arguments.jobs, "without_s": without, "with_s": with_ledger, "ledger_share": share}))


if __name__ == "__main__":
    main()
