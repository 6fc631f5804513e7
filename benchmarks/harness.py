"""What several benchmarks need: arithmetic as jobs have it, and CPU seconds by stage."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def restart(profile: str, *emulator: str) -> None:
    """Start this script again under a numeric profile, with `--inside`: libraries read their variables when they load.

    Args:
        profile: `portable` or `native`.
        emulator: command that runs the interpreter, which then must be no link of a virtual environment.
    """
    sys.path.insert(0, str(ROOT / "src"))
    from sae_assay.ledger.environment import process_environment

    variables = process_environment(profile, 1) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    python = str(Path(sys.executable).resolve()) if emulator else sys.executable
    command = [*emulator, python, *sys.argv, "--inside"]
    os.execvpe(command[0], command, variables)


def run(parser: argparse.ArgumentParser, profile: str, measure: Callable[[argparse.Namespace], dict[str, Any]]) -> None:
    """Measure under the profile that the user chooses, in a process of its own, and print names and values.

    Args:
        parser: of the benchmark's own options.
        profile: where none is chosen.
    """
    parser.add_argument("--profile", default=profile, choices=["portable", "native"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.inside:
        restart(chosen.profile)
    found = measure(chosen)
    if chosen.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:<42}{value:.4g}" if isinstance(value, float) else f"{name:<42}{value}")


class Clock:
    """CPU seconds (user and system, this process) of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - start

    def wrapped(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            with self(stage):
                return function(*args, **options)

        return run
