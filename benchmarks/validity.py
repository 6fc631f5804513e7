"""CPU time of the synthetic validity lens against the reference's code, and whether the scores are equal.

    uv run python benchmarks/validity.py --peer DIR [--json] [--cache DIR] [--archs batchtopk ...] [--profile native] [--reuse]

DIR is the unpacked reference (decoderesearch/saebench-reliability-audit); it runs as it is, in envs/saebench, one process
per SAE. Both sides score the same five SAEs (4,096 latents, one per architecture) of SynthSAEBench-16k on the same pool
of 60,000 rows, tasks, splits and draws, in turn, on one thread, two SAEs side by side where there are two cores; seconds
are user and system time of each stage, without imports and the compiling of loops, once a checkout. Ours takes the reference's
draws from the states of torch's generator that it noted.

`ratio_total` is the reference's seconds over ours for ground truth, both probing procedures, TPP and SCR of the SAEs
that ran: all that the reference's `run_one_sae` does (files read, ground truth with its sampling, encoding, metrics), and
all that ours does per SAE (files, matching, encoding, metrics) and once per seed (splits, probes, sampling for ground
truth), the latter in full, so it is shared by the SAEs of this run alone. `ratio_without_ground_truth` leaves out ground
truth on both sides; ours then encodes the tasks' rows alone. `max_abs_diff` compares like with like
(`validity_compare.differences`), and what differs beyond it is counted beside it. Not in the ratios: the pool and the tasks (a line of their
own, the reference's `generate`), and building the world and the SAEs, which stay in the cache folder.

With `--reuse` the reference's scores and seconds of an SAE that an earlier run left in the cache serve again: to work on
our side, or to go on after a run that was cut short. `reused` names these SAEs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from validity_compare import differences
from validity_inputs import ARCHITECTURES
from validity_table import show, summary

from sae_assay.ledger.environment import process_environment

HERE = Path(__file__).parent
ENV = HERE.parent / "envs" / "saebench"
PEER_PYTHON = ENV / ".venv" / "bin" / "python"
_started = time.monotonic()


class Sides:
    """Runs one side's script in a process of its own.

    Args:
        peer: folder of the unpacked reference.
        cache: holds the world, the SAEs, the reference's data and both sides' scores.
        profile: of our side's arithmetic, as in a study.
    """

    def __init__(self, peer: Path, cache: Path, profile: str) -> None:
        self.cache = cache
        self.theirs = process_environment("native", 1) | {"PYTHONPATH": str(peer), "HF_HUB_OFFLINE": "1"}
        self.ours = process_environment(profile, 1) | {"PYTHONPATH": str(HERE.parent / "src")}

    def run(self, side: str, what: str, *arch: str) -> dict[str, Any]:
        """What the script prints on its last line."""
        python, environment = (PEER_PYTHON, self.theirs) if side == "peer" else (sys.executable, self.ours)
        command = [str(python), str(HERE / f"validity_{side}.py"), what, str(self.cache), *arch]
        begun = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
        _say(f"{side} {what} {' '.join(arch)}: {time.monotonic() - begun:.0f} s")
        return json.loads(done.stdout.splitlines()[-1])


def measure(sides: Sides, archs: list[str], lanes: int, reuse: bool) -> dict[str, Any]:
    """Run what is missing, then both sides in turn on every SAE, in as many lanes as are given."""
    for name in ("peer", "ours"):
        (sides.cache / name).mkdir(parents=True, exist_ok=True)
    sides.run("inputs", "build")
    if not (sides.cache / "data_seconds.json").exists():
        sides.run("peer", "data")
    prepared: dict[str, Any] = {}
    found: dict[str, Any] = {"peer": {}, "ours": {}}
    stored = {arch: sides.cache / "peer" / f"{arch}.seconds.json" for arch in archs}
    reused = [arch for arch in archs if reuse and stored[arch].exists()]
    once = threading.Lock()

    def in_turn(arch: str) -> None:
        again = arch in reused
        found["peer"][arch] = json.loads(stored[arch].read_text()) if again else sides.run("peer", "score", arch)
        with once:  # it needs the states that the reference's first scoring notes
            if not prepared:
                prepared.update(sides.run("ours", "prepare", arch))
        found["ours"][arch] = sides.run("ours", "score", arch)

    with ThreadPoolExecutor(lanes) as pool:
        # Matching pursuit, by far the longest, comes first.
        for _ in pool.map(in_turn, sorted(archs, key=lambda arch: -ARCHITECTURES.index(arch))):
            pass
    found = {side: {arch: rows[arch] for arch in archs} for side, rows in found.items()}
    data = json.loads((sides.cache / "data_seconds.json").read_text())
    return summary(found, prepared, data) | differences(sides.cache, archs) | {"reused": reused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="folder of the unpacked reference")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line, no table")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "sae-assay-validity")
    parser.add_argument("--archs", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--lanes", type=int, default=min(2, os.cpu_count() or 1), help="SAEs scored side by side")
    parser.add_argument("--reuse", action="store_true", help="take the reference's part from an earlier run's cache")
    parser.add_argument("--profile", choices=("native", "portable"), default="native")
    arguments = parser.parse_args()
    if not (arguments.peer / "saebench_audit" / "synthetic").is_dir():
        raise SystemExit(
            f"{arguments.peer} holds no saebench_audit/synthetic: name the folder of the unpacked reference"
        )
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    command = ["uv", "sync", "--frozen", "--quiet", "--project", str(ENV)]
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    sides = Sides(arguments.peer.resolve(), arguments.cache.resolve(), arguments.profile)
    result = measure(sides, arguments.archs, arguments.lanes, arguments.reuse)
    result |= {"profile": arguments.profile, "lanes": arguments.lanes}
    print(json.dumps(result) if arguments.json else show(result))


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _started:6.0f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
