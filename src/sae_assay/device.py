"""Where a job computes."""

from __future__ import annotations


def device_of(device: str) -> str:
    """A torch device: `auto` is CUDA where there is one, else the CPU."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
