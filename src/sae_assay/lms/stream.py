"""A language model's activations as a stream of rows in the text's order, and as shuffled training batches.

A row is a token that counts (`activations.py`). The stream is read in blocks - shards on disk, or as many rows straight from
the model - and a block's rows are shuffled by a stream that names the block, so that any step can be found again without
reading what lies before it. The text stands in random order already; blocks are read in order, and shuffled from the second
pass on. Hence an SAE sees the same batches from the model as from float32 shards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from sae_assay import numerics, seeds
from sae_assay.errors import AssayError
from sae_assay.lms import activations
from sae_assay.lms.tokens import Windows

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from sae_assay.lms.corpus import Corpus
    from sae_assay.lms.model import Llama

CHUNK_TOKENS = 32_768  # windows read together; what is read again after a restart
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def save_text(path: str | Path, windows: Windows, calibration: Tensor) -> None:
    """Write training.safetensors of a stream: `tokens` [windows, context] and `lengths` of the training text, and `calibration`
    rows [m, d_model]."""
    tensors = {name: torch.from_numpy(getattr(windows, name)).to(torch.int32) for name in ("tokens", "lengths")}
    activations.save(path, tensors | {"calibration": calibration}, {})


def load_text(path: str | Path) -> tuple[Windows, Tensor]:
    """Read what `save_text` wrote; AssayError if it is missing, truncated or something else."""
    found, _ = activations.load(path)
    if "tokens" not in found:
        raise AssayError(str(path), "holds no training text", "delete it and run the workflow again")
    return Windows(found["tokens"].long().numpy(), found["lengths"].long().numpy()), found["calibration"]


class Position(NamedTuple):
    """A place in the stream: the chunk of windows that comes next, and how many of its rows are taken already."""

    chunk: int = 0
    used: int = 0


class TokenRows:
    """Rows of a text at a hook, in its order, on the model's device.

    Args:
        model: read up to `layer`.
        windows: the text.
        layer: the hook's block.
        limit: tokens of a larger norm do not count.
        tf32: the model's products on a GPU may use TF32.

    Raises:
        AssayError: a token that the model's vocabulary lacks.
    """

    def __init__(self, model: Llama, windows: Windows | Corpus, layer: int, limit: float, tf32: bool = False) -> None:
        windows.check(len(model.embedding))
        self.width, self.device, self._tf32 = model.config.d_model, model.embedding.device, tf32
        self._model, self._windows, self._layer, self._limit = model, windows, layer, limit
        self._together = max(1, CHUNK_TOKENS // windows.take(np.arange(0)).tokens.shape[1])
        self._last: tuple[int, Tensor] | None = None

    def take(self, rows: int, position: Position, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Position]:
        """The next rows [rows, d_model], and the position behind them.

        Raises:
            AssayError: the text ends before, or an activation is beyond the type's range.
        """
        found, filled, (chunk, used) = torch.empty(rows, self.width, dtype=dtype, device=self.device), 0, position
        while filled < rows:
            part = self._read(chunk)
            taken = part[used : used + rows - filled]
            found[filled : filled + len(taken)] = taken.to(dtype)
            filled, used = filled + len(taken), used + len(taken)
            if used == len(part):
                chunk, used = chunk + 1, 0
        if not bool(torch.isfinite(found).all()):
            raise AssayError("lm.cache.dtype", f"{dtype} cannot hold the activations", "use bf16 or fp32")
        return found, Position(chunk, used)

    def _read(self, chunk: int) -> Tensor:
        if self._last is None or self._last[0] != chunk:
            start = chunk * self._together
            if start >= len(self._windows):
                problem = "has fewer tokens within the norm limit than it asks for"
                raise AssayError("lm.training_tokens", problem, "lower it and training.samples, or give it more text")
            part = self._windows.take(range(start, min(start + self._together, len(self._windows))))
            what = f"training text, chunk {chunk}"
            with numerics.tf32(self._tf32):
                hidden = activations.residuals(self._model, part, self._layer, what, self.device)[0]
            self._last = chunk, hidden[hidden.norm(dim=1) <= self._limit]
        return self._last[1]


class Blocks(Protocol):
    """Where rows come from: `sizes` says how many each block has."""

    sizes: list[int]

    def read(self, block: int, then: int | None = None) -> Tensor:
        """Rows [sizes[block], d_model] of any floating-point type; `then` is the block that will be wanted next."""


class ModelBlocks:
    """Blocks straight from the model, which runs once per block; read in order.

    Args:
        rows: the text's rows.
        sizes: rows of every block.
        places: where the first blocks begin, as an earlier process found them.
    """

    def __init__(self, rows: TokenRows, sizes: list[int], places: list[Position] | None = None) -> None:
        self.sizes, self._rows = sizes, rows
        self.places = list(places or [Position()])

    def read(self, block: int, then: int | None = None) -> Tensor:
        found, behind = self._rows.take(self.sizes[block], self.places[block])
        if block + 1 == len(self.places):
            self.places.append(behind)
        return found


def batches(blocks: Blocks, size: int, purpose: tuple[str | int, ...], start: int = 0) -> Iterator[Tensor]:
    """Endless float32 batches [size, d_model] from step `start` on (0: the first).

    A block's rows beyond whole batches are left out; study/trajectories.py lets that happen in the last block alone.

    Args:
        purpose: names the order's random streams.

    Raises:
        AssayError: no block holds a batch.
    """
    whole = [rows // size for rows in blocks.sizes]
    if not sum(whole):
        raise AssayError("training.batch_size", f"no block of the stream holds {size} rows", "lower it")
    for number in itertools.count(start // sum(whole)):
        order, skipped = _order(len(whole), purpose, number), start % sum(whole)
        start = 0
        for block, then in itertools.zip_longest(order, order[1:]):
            if skipped >= whole[block]:
                skipped -= whole[block]
                continue
            rows, generator = blocks.read(block, then), seeds.torch_generator(*purpose, "rows", number, block)
            shuffled = torch.randperm(len(rows), generator=generator).to(rows.device)
            for batch in range(skipped, whole[block]):
                yield rows[shuffled[batch * size : (batch + 1) * size]].float()
            skipped = 0


def _order(blocks: int, purpose: tuple[str | int, ...], number: int) -> list[int]:
    """The order of the blocks in a pass."""
    if number == 0:
        return list(range(blocks))
    return torch.randperm(blocks, generator=seeds.torch_generator(*purpose, "blocks", number)).tolist()
