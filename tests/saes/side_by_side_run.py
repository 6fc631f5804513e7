"""Trains a small group of SAEs on a seeded stream: run as a process by the tests, which kill it (a stand-in for a real job).

python side_by_side_run.py FOLDER NAMES [PAUSE]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from sae_assay.lms import stream
from sae_assay.saes.settings import RunSettings

STEPS, BATCH, D_IN = 60, 64, 16
WAYS = {
    "batchtopk": {"arch": "batchtopk"},
    "matryoshka": {"arch": "matryoshka", "widths": (4, 8, 24), "auxiliary_per_prefix": True},
    "sampled": {"arch": "sampled_matryoshka", "prefixes": 2, "smallest_prefix": 4},
    "jumprelu": {"arch": "jumprelu"},
}


class Rows:
    """Blocks of rows that are sums of two of 16 directions, far from norm 1; each block from its own stream."""

    sizes = [10 * BATCH, 10 * BATCH, 5 * BATCH]

    def read(self, block: int, then: int | None = None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(block)
        directions = torch.eye(D_IN)
        which = torch.randint(0, D_IN, (self.sizes[block], 2), generator=generator)
        return 30 * (1 + torch.rand(len(which), 2, 1, generator=generator)).mul(directions[which]).sum(1)


def settings(name: str) -> RunSettings:
    more = {"dead_feature_window": 5, "normalize_activations": "expected_average_only_in", "hook": "here"}
    return RunSettings(
        name, target_l0=2, training_seed=0, purpose=("t",), d_sae=24, samples=STEPS * BATCH, batch_size=BATCH, lr=3e-3,
        **WAYS[name], **more,
    )  # fmt: skip


def paused(batches: Iterator[torch.Tensor], seconds: float) -> Iterator[torch.Tensor]:
    for batch in batches:
        time.sleep(seconds)
        yield batch


def main(folder: str, names: str, pause: float = 0) -> None:
    from sae_assay import numerics
    from sae_assay.saes.side_by_side import Group, Member

    numerics.begin({})
    members = [Member(settings(name), [1, 20], name != "jumprelu") for name in names.split(",")]
    group = Group(members, Rows().read(0)[:400], Path(folder))
    group.resume()
    print(f"from {group.done}", flush=True)
    group.fit(paused(stream.batches(Rows(), BATCH, ("order",), group.done), pause), 7, dict)


if __name__ == "__main__":
    main(*sys.argv[1:])
