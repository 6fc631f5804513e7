"""What an audit can find."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One finding: its code, the item, what was expected there, what was found, and what to do.

    A `note` is shown and leaves the exit code at 0.
    """

    code: str
    item: str
    expected: str | None
    found: str | None
    remedy: str
    note: bool = False
