"""Activations of a language model at one hook: rows to train SAEs on, and token activations of evaluation prompts.

Which tokens count, everywhere in the substrate: not a pad, not a window's first token, and of a norm of at most
`max_norm_ratio` medians. The first token and a few others are attention sinks, a dozen times as long as the rest; an SAE
would spend its latents on them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from sae_assay.errors import AssayError
from sae_assay.lms.tokens import Windows, batches

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assay.lms.model import Llama

BATCH = 64
_REMEDY = "delete the file and run the workflow again; it rebuilds what is missing"


def residuals(
    model: Llama, windows: Windows, layer: int, what: str, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """The residual stream of all windows but for first tokens and pads.

    Args:
        what: names the pass in the progress bar and in errors.
        device: where hidden and last are kept.

    Returns:
        hidden [tokens, d_model] ordered by window and position, row [tokens], last [windows, d_model].

    Raises:
        AssayError: an activation is not finite.
    """
    lengths = torch.from_numpy(windows.lengths)
    starts = torch.cumsum((lengths - 1).clamp(min=0), 0) - (lengths - 1).clamp(min=0)
    hidden = torch.empty(int((lengths - 1).clamp(min=0).sum()), model.config.d_model, device=device)
    last = torch.empty(len(windows), model.config.d_model, device=device)
    for rows in tqdm(list(batches(windows.lengths, BATCH)), desc=what, disable=None):
        these, longest = torch.from_numpy(rows), int(windows.lengths[rows].max())
        x = model.residual(torch.from_numpy(windows.tokens[rows][:, :longest]), layer)
        behind = torch.arange(longest - 1)  # tokens behind the first one
        there = behind < lengths[these, None] - 1
        place = (starts[these, None] + behind)[there]
        hidden[place.to(device)] = x[:, 1:][there.to(x.device)].to(device)
        last[these.to(device)] = x[torch.arange(len(x)), lengths[these] - 1].to(device)
    if not bool(torch.isfinite(hidden).all() & torch.isfinite(last).all()):
        raise AssayError(what, "the model gave activations that are not finite", "delete the model file and run again")
    row = torch.repeat_interleave(torch.arange(len(windows)), (lengths - 1).clamp(min=0))
    return hidden, row, last


def norm_limit(hidden: Tensor, max_ratio: float) -> float:
    """The largest norm that counts: `max_ratio` medians over these tokens."""
    return max_ratio * float(hidden.norm(dim=1).median())


def pooled(values: Tensor, row: Tensor, windows: int) -> Tensor:
    """Mean over each window's tokens: [windows, width] from [tokens, width]; NaN for a window without a token.

    Linear in `values`, so removing a latent from every token removes its mean from the pooled activation.
    """
    total = torch.zeros(windows, values.shape[1], dtype=values.dtype).index_add_(0, row, values)
    return total / torch.bincount(row, minlength=windows)[:, None]


def save(path: str | Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and a description as one safetensors file; equal content gives equal bytes."""
    metadata = {"about": json.dumps(about, sort_keys=True)}
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    except (OSError, SafetensorError) as error:
        raise AssayError(str(path), f"cannot be written: {error}", "free disk space and run again") from error


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote.

    Raises:
        AssayError: no such file, truncated, or written by something else.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return tensors, json.loads(file.metadata()["about"])
    except FileNotFoundError:
        raise AssayError(str(path), "no such file", "run the workflow") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise AssayError(str(path), f"not a whole file ({' '.join(str(error).split())})", _REMEDY) from None
