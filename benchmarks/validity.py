"""CPU time of the synthetic validity lens against the reference's code, and whether the scores are equal.

    uv run python benchmarks/validity.py --peer DIR [--json] [--cache DIR] [--archs batchtopk ...] [--profile native]

DIR is the unpacked reference (decoderesearch/saebench-reliability-audit); it runs as it is, in envs/saebench, one process
per SAE. Both sides score the same five SAEs (4,096 latents, one per architecture) of SynthSAEBench-16k on the same pool
of 60,000 rows, tasks, splits and draws, in turn, on one thread; seconds are user and system time of each stage, without
imports. Ours takes the reference's draws from the states of torch's generator that it noted.

`ratio_total` is the reference's seconds over ours for ground truth, both probing procedures, TPP and SCR of the SAEs
that ran: all that the reference's `run_one_sae` does (files read, ground truth with its sampling, encoding, metrics), and
all that ours does per SAE (files, matching, encoding, metrics) and once per seed (splits, probes, sampling for ground
truth), the latter in full, so it is shared by the SAEs of this run alone. `ratio_without_ground_truth` leaves out ground
truth on both sides; ours then encodes the tasks' rows alone. Not in the ratios: the pool and the tasks (a line of their
own, the reference's `generate`), and building the world and the SAEs, which stay in the cache folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
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


def measure(peer: Path, cache: Path, archs: list[str], profile: str) -> dict[str, Any]:
    """Run what is missing and both sides in turn.

    Args:
        peer: folder of the unpacked reference.
        cache: holds the world, the SAEs, the reference's data and both sides' scores.
        archs: SAEs to score.
        profile: of our side's arithmetic, as in a study.
    """
    theirs = process_environment("native", 1) | {"PYTHONPATH": str(peer), "HF_HUB_OFFLINE": "1"}
    ours = process_environment(profile, 1) | {"PYTHONPATH": str(HERE.parent / "src")}

    def run(side: str, *arguments: str) -> dict[str, Any]:
        _say(f"{side}: {' '.join(arguments)}")
        python, environment = (PEER_PYTHON, theirs) if side == "peer" else (sys.executable, ours)
        script = HERE / f"validity_{side}.py"
        command = [str(python), str(script), *arguments[:1], str(cache), *arguments[1:]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    for name in ("peer", "ours"):
        (cache / name).mkdir(parents=True, exist_ok=True)
    run("inputs", "build")
    if not (cache / "data_seconds.json").exists():
        run("peer", "data")
    data = json.loads((cache / "data_seconds.json").read_text())
    prepared: dict[str, Any] = {}
    found: dict[str, Any] = {"peer": {}, "ours": {}}
    for arch in archs:
        found["peer"][arch] = run("peer", "score", arch)
        prepared = prepared or run("ours", "prepare", arch)
        found["ours"][arch] = run("ours", "score", arch)
    compared = differences(cache, archs)
    return summary(found, prepared, data) | compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="folder of the unpacked reference")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line, no table")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "sae-assay-validity")
    parser.add_argument("--archs", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--profile", choices=("native", "portable"), default="native")
    arguments = parser.parse_args()
    if not (arguments.peer / "saebench_audit" / "synthetic").is_dir():
        raise SystemExit(
            f"{arguments.peer} holds no saebench_audit/synthetic: name the folder of the unpacked reference"
        )
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    command = ["uv", "sync", "--frozen", "--quiet", "--project", str(ENV)]
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    peer, cache = arguments.peer.resolve(), arguments.cache.resolve()
    result = measure(peer, cache, arguments.archs, arguments.profile)
    result["profile"] = arguments.profile
    print(json.dumps(result) if arguments.json else show(result))


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _started:6.0f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
