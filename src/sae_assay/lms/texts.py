"""The evaluation text of a language-model substrate: drawn once per study, read by the model once, shared by all SAEs.

Caching an LM's activations is what costs, so the text is fixed; evaluation seeds move splits, negatives, probes and the
rows that reconstruction is measured on. Two windows per kind of set, as the procedures ask: binary sets keep each
prompt's last tokens (sae-probes probes the last one), the TPP set its first ones (SAEBench).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_assay.errors import AssayError
from sae_assay.lms import activations, text
from sae_assay.lms.tokens import Keep, Windows, windows

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from sae_assay.lms.model import Llama

FEWEST_TOKENS = 2  # the first one does not count


@dataclass(frozen=True)
class TextSet:
    """Token activations of one labelled set.

    Attributes:
        name: the set.
        classes: names of its labels.
        labels: int64 [rows].
        hidden: float16 [tokens, d_model] as stored: tokens that count, rows laid end to end.
        row: int64 [tokens], the row of each.
        last: float32 [rows, d_model], every row's last token, whatever its norm.
    """

    name: str
    classes: list[str]
    labels: Tensor
    hidden: Tensor
    row: Tensor
    last: Tensor


@dataclass(frozen=True)
class Passages:
    """Whole windows for cross-entropy: tokens int64 [rows, context], hidden float32 [rows, context, d_model], and which
    tokens count, bool [rows, context]."""

    tokens: Tensor
    hidden: Tensor
    counts: Tensor

    def take(self, rows: Tensor) -> Passages:
        return Passages(self.tokens[rows], self.hidden[rows], self.counts[rows])


@dataclass(frozen=True)
class Texts:
    """All evaluation text: binary sets, crossed ones (SCR; labels are 2 * target + spurious), the TPP set, passages."""

    binary: list[TextSet]
    crossed: list[TextSet]
    many: TextSet
    passages: Passages
    about: dict[str, Any]

    @property
    def sets(self) -> list[TextSet]:
        """All labelled sets, in the order in which they are stored."""
        return [*self.binary, *self.crossed, self.many]

    def save(self, path: str | Path) -> None:
        tensors = {f"{s.name}/{part}": getattr(s, part) for s in self.sets for part in _PARTS}
        tensors |= {f"passages/{part}": getattr(self.passages, part) for part in ("tokens", "hidden", "counts")}
        kinds = {"sets": [[s.name, s.classes] for s in self.sets], "binary_sets": len(self.binary)}
        activations.save(path, tensors, {**self.about, **kinds})

    @classmethod
    def load(cls, path: str | Path) -> Texts:
        """Read the file; AssayError if it is missing, truncated or something else."""
        tensors, about = activations.load(path)
        sets = [
            TextSet(name, classes, *(tensors[f"{name}/{part}"] for part in _PARTS)) for name, classes in about["sets"]
        ]
        passages = Passages(*(tensors[f"passages/{part}"] for part in ("tokens", "hidden", "counts")))
        binary = about["binary_sets"]
        return cls(sets[:binary], sets[binary:-1], sets[-1], passages, about)


_PARTS = ("labels", "hidden", "row", "last")


@dataclass(frozen=True)
class Drawn:
    """A labelled set's drawn rows before the model reads them."""

    source: text.LabelledText
    rows: list[int]
    windows: Windows

    @property
    def labels(self) -> Tensor:
        return torch.tensor([self.source.labels[row] for row in self.rows])

    @property
    def prompts(self) -> list[str]:
        return [self.source.prompts[row] for row in self.rows]


def draw(
    source: text.LabelledText,
    tokenizer: Tokenizer,
    context: int,
    per_class: int,
    keep: Keep,
    purpose: Sequence[str | int],
) -> Drawn:
    """Equally many rows of each class of a set, prompts of fewer than two tokens left out.

    Raises:
        AssayError: the set holds too few rows of a class for a split.
    """
    found = windows(tokenizer, source.prompts, context, keep)
    usable = {i for i, length in enumerate(found.lengths.tolist()) if length >= FEWEST_TOKENS}
    rows = text.balanced(source, per_class, purpose, usable)
    if len(rows) < 20 * len(source.classes):
        problem = f"{source.name} has {len(rows)} usable rows in {len(source.classes)} classes, too few to split"
        raise AssayError("lm.probe_datasets", problem, "choose another set")
    return Drawn(source, rows, found.take(rows))


def read_set(model: Llama, drawn: Drawn, layer: int, limit: float) -> TextSet:
    """Run the model over a drawn set and keep the tokens within the norm limit."""
    hidden, row, last = activations.residuals(model, drawn.windows, layer, drawn.source.name)
    counts = hidden.norm(dim=1) <= limit
    return TextSet(drawn.source.name, drawn.source.classes, drawn.labels, hidden[counts].half(), row[counts], last)


def read_passages(model: Llama, found: Windows, layer: int, limit: float) -> Passages:
    """Run the model over windows of equal, full length."""
    tokens = torch.from_numpy(found.tokens)
    hidden = torch.cat([model.residual(part, layer).cpu() for part in tokens.split(activations.BATCH)])
    counts = hidden.norm(dim=2) <= limit
    counts[:, 0] = False
    return Passages(tokens, hidden, counts)
