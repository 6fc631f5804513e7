"""What one evaluation seed moves on a language-model substrate: splits, probes on raw activations, sampled rows.

Nothing here depends on an SAE: every SAE is scored on the same splits, probes and draws of a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_assay import seeds
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
        probes: of the TPP set by mode, one per class.
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
        for mode, found in self.probes.items():
            tensors |= {f"probes.{mode}/{part}": getattr(found, part) for part in _PROBES}
        tensors["passages/rows"] = self.passages
        activations.save(path, tensors, {"sets": list(self.splits), "purpose": list(self.purpose)})

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read the file; AssayError if it is missing, truncated or something else."""
        tensors, about = activations.load(path)
        splits = {name: Split(tensors[f"{name}/train"], tensors[f"{name}/test"]) for name in about["sets"]}
        found = {mode: probes.Probes(*(tensors[f"probes.{mode}/{part}"] for part in _PROBES)) for mode in MODES}
        return cls(splits, found, tensors["passages/rows"], tuple(about["purpose"]))


_PROBES = ("weight", "bias", "epoch", "accuracy")


def build(texts: Texts, purpose: tuple[str | int, ...]) -> Evaluation:
    """Everything of one evaluation seed.

    Args:
        purpose: (study, substrate, evaluation seed).
    """
    sets = [*texts.binary, texts.many]
    splits = {s.name: split(s, purpose) for s in sets}
    count = len(texts.passages.tokens)
    generator = seeds.torch_generator(*purpose, "passages")
    passages = torch.randperm(count, generator=generator)[: max(1, count // PASSAGE_SHARE)].sort().values
    return Evaluation(splits, _train_probes(texts.many, splits[texts.many.name], purpose), passages, purpose)


def split(found: TextSet, purpose: tuple[str | int, ...]) -> Split:
    """Rows that have a counted token, split anew for the seed; classes are cut to the smallest."""
    usable = torch.bincount(found.row, minlength=len(found.labels)) > 0
    generator = seeds.torch_generator(*purpose, "split", found.name)
    rows = [torch.where(usable & (found.labels == c))[0] for c in range(len(found.classes))]
    size = min(len(r) for r in rows)
    shuffled = torch.stack([r[torch.randperm(len(r), generator=generator)[:size]] for r in rows])
    held = size // TEST_SHARE
    return Split(shuffled[:, held:], shuffled[:, :held])


def pooled_hidden(found: TextSet) -> Tensor:
    """Mean raw activation of every row [rows, d_model]."""
    return activations.pooled(found.hidden.float(), found.row, len(found.labels))


def _train_probes(found: TextSet, rows: Split, purpose: tuple[str | int, ...]) -> dict[str, probes.Probes]:
    """One probe per class and mode. `saebench` chooses the epoch on the test rows; `strict` on a fifth of the training
    rows that it is not trained on."""
    held = rows.train.shape[1] // TEST_SHARE
    ways: dict[str, tuple[Tensor, Tensor]] = {
        "saebench": (rows.train, rows.test),
        "strict": (rows.train[:, held:], rows.train[:, :held]),
    }
    x, plans = pooled_hidden(found), []
    for mode, (train, select) in ways.items():
        generator = seeds.torch_generator(*purpose, "probes", mode, found.name)
        plans += [
            probes.plan(list(train), list(select), c, x.shape[1], generator) for c in range(len(found.classes))
        ]
    trained, classes = probes.train(x, plans), len(found.classes)
    return {mode: trained.take(range(i * classes, (i + 1) * classes)) for i, mode in enumerate(ways)}


def describe(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracies of the raw probes, for a log."""
    return {mode: [round(float(a), 3) for a in found.accuracy] for mode, found in evaluation.probes.items()}
