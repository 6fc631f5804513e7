"""A seed is a name: every random choice draws from a stream that its purpose names, never from a global generator."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream(*purpose: str | int) -> np.random.SeedSequence:
    """The seed sequence of a purpose, such as `stream("default", "mini", 42, "split", task_id)`.

    Equal purposes give equal streams; different ones are independent. Reseeding can so move one purpose alone.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in purpose)
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u4")
    return np.random.SeedSequence([int(word) for word in words])


def numpy_generator(*purpose: str | int) -> np.random.Generator:
    """A numpy generator (PCG64) for a purpose."""
    return np.random.Generator(np.random.PCG64(stream(*purpose)))


def integer(*purpose: str | int) -> int:
    """A non-negative 63-bit integer for libraries that take one seed."""
    return int(stream(*purpose).generate_state(1, np.uint64)[0] >> np.uint64(1))


def torch_generator(*purpose: str | int, device: str = "cpu") -> torch.Generator:
    """A torch generator for a purpose."""
    import torch

    return torch.Generator(device=device).manual_seed(integer(*purpose))
