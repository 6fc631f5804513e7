"""What one evaluation seed moves on a language-model substrate: splits, probes on raw activations, sampled rows.

Nothing here depends on an SAE: every SAE is scored on the same splits, probes and draws of a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_assay import seeds
from sae_assay.anatomy import Streams
from sae_assay.lms import activations
from sae_assay.metrics import probes

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assay.lms.texts import Texts, TextSet

TEST_SHARE = 5  # one row in five is for testing, as in SAEBench (4,000 and 1,000)
PASSAGE_SHARE = 8  # one passage in eight is read per seed: each costs a pass through the upper model per SAE
TOKEN_SHARE = 2  # one row in two is sampled for explained variance
MODES = ("saebench", "strict")


@dataclass(frozen=True)
class Split:
    """Rows of a set, int64: train [classes, m], test [classes, r]."""

    train: Tensor
    test: Tensor


@dataclass(frozen=True)
class Evaluation:
    """One evaluation seed.

    Attributes:
        splits: by set name; classes in label order.
        probes: by `probe_key(mode, set)`: one per class of the TPP set; target, spurious and biased of a crossed one.
        passages: passages read for cross-entropy.
        purpose: names the streams of all that scoring draws.
    """

    splits: dict[str, Split]
    probes: dict[str, probes.Probes]
    passages: Tensor
    purpose: tuple[str | int, ...]

    def sampled_rows(self, name: str, rows: int) -> Tensor:
        """Half of a set's rows, for explained variance and dead latents."""
        generator = seeds.torch_generator(*self.purpose, "tokens", name)
        return torch.randperm(rows, generator=generator)[: max(1, rows // TOKEN_SHARE)].sort().values

    def save(self, path: str | Path) -> None:
        tensors = {f"{name}/{part}": getattr(s, part) for name, s in self.splits.items() for part in ("train", "test")}
        for key, found in self.probes.items():
            tensors |= {f"probes.{key}/{part}": getattr(found, part) for part in _PROBES}
        tensors["passages/rows"] = self.passages
        about = {"sets": list(self.splits), "probes": list(self.probes), "purpose": list(self.purpose)}
        activations.save(path, tensors, about)

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read the file; AssayError if it is missing, truncated or something else."""
        tensors, about = activations.load(path)
        splits = {name: Split(tensors[f"{name}/train"], tensors[f"{name}/test"]) for name in about["sets"]}
        found = {key: probes.Probes(*(tensors[f"probes.{key}/{part}"] for part in _PROBES)) for key in about["probes"]}
        return cls(splits, found, tensors["passages/rows"], tuple(about["purpose"]))


_PROBES = ("weight", "bias", "epoch", "accuracy")


def build(texts: Texts, purpose: tuple[str | int, ...] | Streams, text_share: float | None = None) -> Evaluation:
    """Everything of one evaluation seed.

    Args:
        purpose: (study, substrate, evaluation seed), or the streams of each source.
        text_share: share of each class's rows that take part, chosen by the source `data`; None: all.
    """
    streams = purpose if isinstance(purpose, Streams) else Streams.of(purpose)
    splits = {s.name: _split(s, streams, text_share) for s in texts.sets}
    count = len(texts.passages.tokens)
    generator = seeds.torch_generator(*streams.negatives, "passages")
    passages = torch.randperm(count, generator=generator)[: max(1, count // PASSAGE_SHARE)].sort().values
    found = _train_probes(texts.many, splits[texts.many.name], streams.probe)
    for crossed in texts.crossed:
        found |= _train_scr_probes(crossed, splits[crossed.name], streams.probe)
    return Evaluation(splits, found, passages, streams.negatives)


def _split(found: TextSet, streams: Streams, text_share: float | None) -> Split:
    """A set's rows under the sources `data`, `split` and a resampling."""
    classes = None
    if streams.data is not None and text_share is not None:
        generator = seeds.torch_generator(*streams.data, "texts", found.name)
        classes = [
            rows[torch.randperm(len(rows), generator=generator)[: round(text_share * len(rows))]].sort().values
            for rows in usable_rows(found)
        ]
    rows = split(found, streams.split, classes)
    if streams.resample is None:
        return rows
    return resampled(rows, seeds.torch_generator(*streams.resample, found.name))


def usable_rows(found: TextSet) -> list[Tensor]:
    """Rows of each class that have a counted token."""
    usable = torch.bincount(found.row, minlength=len(found.labels)) > 0
    return [torch.where(usable & (found.labels == c))[0] for c in range(len(found.classes))]


def resampled(rows: Split, generator: torch.Generator) -> Split:
    """Every class's rows drawn anew with replacement, each within its part of the split.

    A fifth of the training rows chooses epochs in the mode `strict` (`selections`): they are a part of their own.
    """

    def drawn(part: Tensor) -> Tensor:
        return part.gather(1, torch.randint(part.shape[1], part.shape, generator=generator))

    held = rows.train.shape[1] // TEST_SHARE
    return Split(torch.cat([drawn(rows.train[:, :held]), drawn(rows.train[:, held:])], 1), drawn(rows.test))


def split(found: TextSet, purpose: tuple[str | int, ...], classes: list[Tensor] | None = None) -> Split:
    """Rows that have a counted token (of each class those in `classes`), split anew for the seed; classes are cut to the
    smallest."""
    generator = seeds.torch_generator(*purpose, "split", found.name)
    rows = usable_rows(found) if classes is None else classes
    size = min(len(r) for r in rows)
    shuffled = torch.stack([r[torch.randperm(len(r), generator=generator)[:size]] for r in rows])
    held = size // TEST_SHARE
    return Split(shuffled[:, held:], shuffled[:, :held])


def pooled_hidden(found: TextSet) -> Tensor:
    """Mean raw activation of every row [rows, d_model]."""
    return activations.pooled(found.hidden.float(), found.row, len(found.labels))


def probe_key(mode: str, name: str) -> str:
    return f"{mode}.{name}"


def selections(rows: Split) -> dict[str, Split]:
    """Rows to train probes on and to choose their epoch on. `saebench` chooses on the test rows; `strict` on a fifth of
    the training rows that it is not trained on."""
    held = rows.train.shape[1] // TEST_SHARE
    return {"saebench": rows, "strict": Split(rows.train[:, held:], rows.train[:, :held])}


def _train_probes(found: TextSet, rows: Split, purpose: tuple[str | int, ...]) -> dict[str, probes.Probes]:
    """One probe per class and mode."""
    plans = []
    for mode, part in selections(rows).items():
        generator = seeds.torch_generator(*purpose, "probes", mode, found.name)
        classes = range(len(found.classes))
        plans += [probes.plan(list(part.train), list(part.test), c, found.last.shape[1], generator) for c in classes]
    return _by_mode(found, plans)


def _train_scr_probes(found: TextSet, rows: Split, purpose: tuple[str | int, ...]) -> dict[str, probes.Probes]:
    """Target, spurious and biased probe in each mode."""
    plans = []
    for mode, part in selections(rows).items():
        generator = seeds.torch_generator(*purpose, "probes", mode, found.name)
        for train, test in zip(scr_classes(part.train, mode), scr_classes(part.test, mode), strict=True):
            plans.append(probes.plan(train, test, 0, found.last.shape[1], generator, paired=True))
    return _by_mode(found, plans)


def _by_mode(found: TextSet, plans: list[probes.ProbePlan]) -> dict[str, probes.Probes]:
    trained, each = probes.train(pooled_hidden(found), plans), len(plans) // len(MODES)
    return {probe_key(mode, found.name): trained.take(range(i * each, (i + 1) * each)) for i, mode in enumerate(MODES)}


def scr_classes(cells: Tensor, mode: str) -> list[list[Tensor]]:
    """Rows of the target, spurious and biased problem, each [concept there, not there], from a table's cells [4, rows].

    Target and spurious classes hold as many rows of either cell; in SAEBench no more in all than the biased ones, which
    are single cells, so half of each; the mode `strict` uses every row.
    """
    neither, spurious, target, both = cells
    part = slice(None, cells.shape[1] // 2 if mode == "saebench" else None)

    def join(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a[part], b[part]])

    return [
        [join(both, target), join(spurious, neither)],
        [join(both, spurious), join(target, neither)],
        [both, neither],
    ]


def describe(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracies of the raw probes, for a log."""
    return {mode: [round(float(a), 3) for a in found.accuracy] for mode, found in evaluation.probes.items()}
