"""Errors that a user can act on."""

from __future__ import annotations


class AssayError(Exception):
    """What was wrong, where, and what to do about it; shown as one line, without a traceback.

    Args:
        where: the file, key or job.
        problem: what was wrong there.
        remedy: what to do.
    """

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}. What to do: {remedy}.")
        self.where, self.problem, self.remedy = where, problem, remedy
