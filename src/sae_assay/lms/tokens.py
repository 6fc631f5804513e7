"""Prompts to token windows, and windows to batches of equal length. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sae_assay.errors import AssayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from sae_assay.lms.hub_model import HubTokenizer

Keep = Literal["beginning", "end"]
_CHARACTERS_PER_TOKEN = 24  # generous: no window is cut short by it


@dataclass(frozen=True)
class Windows:
    """At most `context` tokens of each prompt, padded on the right.

    Attributes:
        tokens: int64 [prompts, context]; 0 beyond a prompt's end.
        lengths: int64 [prompts], at least 1.
    """

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> Windows:
        return Windows(self.tokens[np.asarray(rows)], self.lengths[np.asarray(rows)])

    def check(self, vocabulary: int) -> None:
        """Refuse token ids that a model's embedding lacks; AssayError says which."""
        low, high = (int(edge) for edge in (self.tokens.min(initial=0), self.tokens.max(initial=0)))
        if low < 0 or high >= vocabulary:
            problem = f"holds token ids {low} to {high}, the model knows 0 to {vocabulary - 1}"
            raise AssayError("training text", problem, "tokenise it with the model's own tokenizer")

    @classmethod
    def concatenate(cls, parts: Sequence[Windows]) -> Windows:
        return cls(np.concatenate([p.tokens for p in parts]), np.concatenate([p.lengths for p in parts]))


def windows(tokenizer: Tokenizer | HubTokenizer, prompts: Sequence[str], context: int, keep: Keep) -> Windows:
    """Tokenise prompts and keep the first or the last `context` tokens of each.

    sae-probes truncates on the left (it probes a prompt's last token), SAEBench on the right. A tokenizer that has a token
    for the beginning (`bos`) puts it before either.
    """
    bos = [] if (first := getattr(tokenizer, "bos", None)) is None else [first]
    room = context - len(bos)
    reach = context * _CHARACTERS_PER_TOKEN
    near = [p[:reach] if keep == "beginning" else p[-reach:] for p in prompts]
    encoded = [e.ids for e in tokenizer.encode_batch(near, add_special_tokens=False)]
    cut = [bos + (ids[:room] if keep == "beginning" else ids[-room:]) for ids in encoded]
    tokens = np.zeros((len(cut), context), np.int64)
    for row, ids in enumerate(cut):
        tokens[row, : len(ids)] = ids
    return Windows(tokens, np.array([len(ids) for ids in cut], np.int64))


def batches(lengths: NDArray[np.integer], size: int) -> Iterator[NDArray[np.int64]]:
    """Rows in batches of like length, so that few pads are computed; the order depends on nothing else."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]
