"""CPU time per row of sae_lens's dense sampler and of the sparse one, on one world, single-threaded, turn by turn.

    uv run python benchmarks/sampling.py
    uv run python benchmarks/sampling.py --features 512 --hidden 96 --roots 4
    uv run python benchmarks/sampling.py --profile portable   # arithmetic as jobs have it

The world is SynthSAEBench-16k's, but its directions are not orthogonalised, which costs half an hour of CPU and changes
neither sampler's work. Times include the rows [rows, hidden]; the library's are those of its fastest use, `sample_with_features`.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

from harness import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=16_384)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--roots", type=int, default=128)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--turns", type=int, default=5)
    run(parser, "native", measure)


def measure(chosen: argparse.Namespace) -> dict[str, float]:
    """CPU milliseconds a row (median and extremes of the turns), their ratio, and the mean active features of both."""
    import torch

    from sae_assay import numerics
    from sae_assay.study.worlds import WorldConfig
    from sae_assay.worlds import build, sample
    from sae_assay.worlds.sampler import Sampler

    torch.set_num_threads(1)
    if chosen.profile == "portable":
        numerics.begin({})
    size = {"num_features": chosen.features, "hidden_dim": chosen.hidden, "hierarchy": {"roots": chosen.roots}}
    model = build.build(WorldConfig.model_validate(size | {"orthogonalization": None}), "benchmark")
    sampler = Sampler(build.arrays_of(model), build.nodes_of(model.hierarchy))
    sample.draw(sampler, chosen.rows, "warm")
    model.sample_with_features(chosen.rows)
    times: dict[str, list[float]] = {"library": [], "sparse": []}
    active = {"library": 0.0, "sparse": 0.0}
    for turn in range(chosen.turns):
        start = time.process_time()
        _, features = model.sample_with_features(chosen.rows)
        times["library"].append(time.process_time() - start)
        active["library"] += float((features > 0).sum()) / chosen.rows / chosen.turns
        start = time.process_time()
        pool = sample.draw(sampler, chosen.rows, "turn", turn)
        times["sparse"].append(time.process_time() - start)
        active["sparse"] += len(pool.indices) / chosen.rows / chosen.turns
    found: dict[str, float] = {}
    for name, seconds in times.items():
        per_row = [1e3 * value / chosen.rows for value in seconds]
        found |= {f"{name}_ms_per_row": statistics.median(per_row), f"{name}_fastest": min(per_row)}
        found |= {f"{name}_slowest": max(per_row), f"{name}_active_features": active[name]}
    ratio = found["library_ms_per_row"] / found["sparse_ms_per_row"]
    return found | {"ratio": ratio, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
