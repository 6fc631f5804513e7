"""Tells on a terminal what an audit is doing; silent elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def told() -> Iterator[Callable[[str], None]]:
    """A function that shows a few words on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("verify") as status:
        yield lambda text: status.update(f"verify: {text}", spinner=None)
