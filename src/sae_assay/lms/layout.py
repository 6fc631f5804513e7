"""How cached activations lie on disk, for the study that budgets them and the jobs that write and read them. No torch."""

from __future__ import annotations

BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
"""Size of a stored number by type."""
TOKEN_BYTES = 4
SPARE = 1.08
"""Tokens of training text that are read for every one asked for: some lie beyond the norm limit."""


def block_rows(rows: int, size: int) -> list[int]:
    """Rows of every block of at most `size`: full ones, then what is left."""
    full, rest = divmod(rows, size)
    return [size] * full + [rest] * (rest > 0)
