"""Runs the library's own code for caches, up to the first moment at which it asks for an SAE."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class _AskedError(Exception):
    """The caches are there."""


class _NoSae:
    def __getattr__(self, name: str) -> Any:
        raise _AskedError(name)


@contextlib.contextmanager
def without_an_sae() -> Iterator[Any]:
    """An object that ends the block when the library reads anything of it."""
    with contextlib.suppress(_AskedError):
        yield _NoSae()
        raise RuntimeError("the library never asked for the SAE: it may have stored no caches")
