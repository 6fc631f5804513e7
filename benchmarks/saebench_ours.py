"""Our TPP, SCR and sparse probing on the token activations that the real SAEBench cached, with its probes' draws.

`prepare` does what the library, too, keeps for all SAEs of a seed: probes. `score` does what is done per SAE: it reads the
activations, encodes tokens that count, and calls the functions of the workflow. A cache is a folder of one mode, as
`steps/saebench_cache.py` packs it: `sets/NAME.json` and `cache/NAME*_activations.pt`, in which masked tokens (pads, BOS,
EOS) are all zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sae_assay.lms import activations
from sae_assay.metrics import probes, probing, scr, tpp
from sae_assay.metrics.ablation import with_padding
from sae_assay.metrics.latents import SparseLatents
from sae_assay.metrics.records import Record
from sae_assay.saes.encoder import LightSAE

METRICS = ("saebench_tpp", "saebench_scr", "saebench_sparse_probing")
SCR_PAIRS = [(0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)]  # each class against its opposite, in the cache's order
TARGET_SPURIOUS_BIASED = [2, 0, 4]
SCR_DATA = [[2, 3], [0, 1]]  # target, spurious: the concept there, not there


@dataclass(frozen=True)
class Shared:
    """What all SAEs share of a set: its file; TPP's and SCR's probes, and the generator that drew for them."""

    name: str
    file: Path
    probes: probes.Probes | None = None
    generator: torch.Generator | None = None


@dataclass(frozen=True)
class Part:
    """Windows of one part of a set by class, [classes, rows, length, d], masked tokens all zeros."""

    tokens: Tensor

    def pooled(self, sae: LightSAE | None = None) -> Tensor:
        """Means over tokens that count [classes, rows, d]; of an SAE's latents where one is given."""
        windows = self.tokens.flatten(0, 1)
        counts = windows.sum(-1) != 0  # as SAEBench tells masked tokens
        values = windows[counts] if sae is None else sae.encode(windows[counts])
        found = activations.pooled(values, counts.nonzero()[:, 0], len(windows))
        return found.unflatten(0, self.tokens.shape[:2])

    def ablated(self, sae: LightSAE) -> Tensor:
        """Latents as SAEBench's ablation removes them, pads included [classes, rows, d_sae]."""
        counts = (self.tokens.flatten(0, 1).sum(-1) != 0).sum(-1)
        masked = (self.tokens.shape[2] - counts) / counts
        zero = sae.encode(torch.zeros(1, sae.d_in))[0]
        return with_padding(self.pooled(sae).flatten(0, 1), masked, zero).unflatten(0, self.tokens.shape[:2])


def parts_of(file: Path) -> tuple[Part, Part]:
    """The training and the test part of a cached set."""
    stored = torch.load(file)
    train, test = (Part(torch.stack(list(stored[name].values()))) for name in ("train", "test"))
    return train, test


def prepare(metric: str, folder: Path, names: Sequence[str], seed: int) -> list[Shared]:
    """What all SAEs share, in the order of the sets' names."""
    if metric == "saebench_sparse_probing":
        return [Shared(name, folder / "cache" / f"{name}_activations.pt") for name in names]
    pattern = "{}_*_activations.pt" if metric == "saebench_scr" else "{}_activations.pt"
    files = [next((folder / "cache").glob(pattern.format(name))) for name in names]
    return [_trained(metric, name, file, seed) for name, file in zip(names, files, strict=True)]


def _trained(metric: str, name: str, file: Path, seed: int) -> Shared:
    """Probes with the library's draws: its generator is seeded right before each set's."""
    train, test = (part.pooled() for part in parts_of(file))
    classes, m, d = train.shape
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(classes * m).view(classes, m)
    held = classes * m + torch.arange(classes * test.shape[1]).view(classes, -1)
    if metric == "saebench_scr":
        plans = [probes.plan(rows[list(p)], held[list(p)], 0, d, generator, paired=True) for p in SCR_PAIRS]
    else:
        plans = [probes.plan(list(rows), list(held), c, d, generator) for c in range(classes)]
    found = probes.train(torch.cat([train.flatten(0, 1), test.flatten(0, 1)]), plans)
    kept = found.take(TARGET_SPURIOUS_BIASED) if metric == "saebench_scr" else found
    return Shared(name, file, kept, generator)


@torch.no_grad()
def score(
    metric: str, sets: Sequence[Shared], sae: LightSAE, hps: Sequence[int], seed: int, states: Sequence[bytes]
) -> list[Record]:
    """Our records of one SAE.

    Args:
        sets: from `prepare`.
        hps: n or k_probe values that fit the SAE.
        states: of sparse probing, a set each: the library's generator before its first k-sparse probe.
    """
    if metric == "saebench_sparse_probing":
        return _probing(sets, sae, hps, states)
    if metric == "saebench_scr":
        return [row for one in sets for row in _scr(one, sae, hps)]
    scoring = torch.Generator().manual_seed(seed)
    return [row for one in sets for row in _tpp(one, sae, hps, scoring)]


def _tpp(one: Shared, sae: LightSAE, ns: Sequence[int], scoring: torch.Generator) -> list[Record]:
    train, test = parts_of(one.file)
    classes, m = train.tokens.shape[:2]
    assert one.probes and one.generator
    draws = tpp.draw(classes, m, test.tokens.shape[1], len(ns), one.generator.clone_state(), scoring)
    inputs = tpp.TppInput(one.name, None, train.pooled(sae), test.ablated(sae), test.pooled(), sae.W_dec, one.probes)
    return tpp.saebench(inputs, draws, ns)


def _scr(one: Shared, sae: LightSAE, ns: Sequence[int]) -> list[Record]:
    train, test = (Part(part.tokens[torch.tensor(SCR_DATA).flatten()]) for part in parts_of(one.file))
    assert one.probes
    shaped = [values.unflatten(0, (2, 2)) for values in (train.pooled(sae), test.ablated(sae), test.pooled())]
    return scr.scr(scr.ScrInput(one.name, None, *shaped, sae.W_dec, one.probes), ns, "saebench")


def _probing(sets: Sequence[Shared], sae: LightSAE, ks: Sequence[int], states: Sequence[bytes]) -> list[Record]:
    """A task a class, `SET/i`: SAEBench probes for every class of a set."""
    tasks, draws = [], []
    for one, state in zip(sets, states, strict=True):
        train, test = (part.pooled(sae) for part in parts_of(one.file))
        generator = torch.Generator()
        generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
        drawn = [[_negatives(c, train, test, generator) for c in range(len(train))] for _ in ks]
        for c in range(len(train)):
            order = [c, *(other for other in range(len(train)) if other != c)]
            tasks.append(_task(f"{one.name}/{c}", train[order], test[order]))
            draws.append(probing.ProbingDraws([row[c][0] for row in drawn], [row[c][1] for row in drawn]))
    return probing.sparse_probing(tasks, draws, ks)


def _negatives(c: int, train: Tensor, test: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows drawn against a class, counted with that class first and the others after it in order."""
    sizes = ([part.shape[1]] * len(part) for part in (train, test))
    first, second = (probes.draw_sample(size, 0, generator).negatives for size in sizes)
    return first, second


def _task(name: str, train: Tensor, test: Tensor) -> probing.ProbingInput:
    """The first class against the others."""
    flat = [part.flatten(0, 1) for part in (train, test)]
    latents = [SparseLatents.of(part) for part in flat]
    orders = [torch.arange(len(part)) for part in flat]
    return probing.ProbingInput(name, None, *latents, train.shape[1], test.shape[1], *orders)
