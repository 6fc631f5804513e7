"""What a tamper test is: a mutation that must come out with its codes, or a change that changes nothing and must be clean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.tamper.forgery import Forgery

Change = Callable[[Forgery], None]


@dataclass(frozen=True)
class Mutation:
    """One edit of a recorded project.

    Attributes:
        name: of the function that makes it.
        changed: what was changed, for the public table.
        kind: the heading under which the table lists it.
        change: makes it.
        codes: finding codes that must come out.
        depth: the least depth of `sae-assay verify` at which they do; None: at none, and `limit` says why.
        met: at depth 3, the job (as messages name it) that the sample must hold to meet the forgery.
        limit: why it is not found.
        later: whether it starts from the project that was run a second time, with another seed.
    """

    name: str
    changed: str
    kind: str
    change: Change
    codes: frozenset[str]
    depth: int | None
    met: str
    limit: str
    later: bool


@dataclass(frozen=True)
class Invocation:
    """How the auditor calls the command: variables, folder, and what stands before it."""

    variables: dict[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class NullChange:
    """A change after which everything must still be clean.

    Attributes:
        name, changed: see Mutation.
        change: makes it; returns how the command is called, where that is the change.
    """

    name: str
    changed: str
    change: Callable[[Forgery], Invocation | None]


MUTATIONS: list[Mutation] = []
NULL_CHANGES: list[NullChange] = []


def mutation(
    kind: str,
    changed: str,
    *codes: str,
    depth: int | None = 1,
    met: str = "",
    limit: str = "",
    later: bool = False,
) -> Callable[[Change], Change]:
    """Enter a function into the table of mutations."""

    def enter(change: Change) -> Change:
        MUTATIONS.append(Mutation(change.__name__, changed, kind, change, frozenset(codes), depth, met, limit, later))
        return change

    return enter


def null_change(changed: str) -> Callable[[Callable], Callable]:
    """Enter a function into the table of null changes."""

    def enter(change: Callable) -> Callable:
        NULL_CHANGES.append(NullChange(change.__name__, changed, change))
        return change

    return enter
