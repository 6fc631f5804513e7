"""The designed experiment behind a noise anatomy: which random choices are drawn anew at which point. Light.

Everything random in scoring belongs to one of five sources. A *block* starts with all of them freshly drawn and then
moves one after another to a second level, so that neighbouring points differ in one source alone and its two ends in all:

    start - source - source - ... - source = end

Blocks share nothing, so the differences of one source over blocks are an independent sample, each in another context of
the other sources (a total effect in Saltelli's sense: it counts the source's interactions). The order of the sources
rotates from block to block. Then the rows of the block's start are resampled with replacement a few times, all else kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Source = Literal["data", "tasks", "split", "probe", "negatives"]
SOURCES: tuple[Source, ...] = get_args(Source)
START, RESAMPLE, ALL = "start", "resample", "all"
Purpose = tuple[str | int, ...]


@dataclass(frozen=True)
class Streams:
    """The purpose that names the streams of each source of an evaluation set.

    Attributes:
        split: which rows train and which test.
        probe: everything that training a probe draws: its negatives, initial weights, the order of rows.
        negatives: what scoring draws.
        data: which rows of a fixed text take part; None: all of them. A world's rows are drawn before.
        resample: rows drawn anew with replacement within every class and part of the split; None: as they are.
    """

    split: Purpose
    probe: Purpose
    negatives: Purpose
    data: Purpose | None = None
    resample: Purpose | None = None

    @classmethod
    def of(cls, purpose: Purpose) -> Streams:
        """One purpose for all that an evaluation seed moves."""
        return cls(purpose, purpose, purpose)


@dataclass(frozen=True)
class Point:
    """One scoring of the experiment.

    Attributes:
        number: names the point; the score rows' `eval_seed`.
        block: points of different blocks share no level.
        step: place in the block, from 0.
        moved: the source that differs from the point before; `start`, or `resample` (all as at the start, rows resampled).
        levels: source -> level.
        resample: number of the resampling, or None.
    """

    number: int
    block: int
    step: int
    moved: str
    levels: dict[str, int]
    resample: int | None = None


def block(number: int, sources: Sequence[str], resamples: int) -> list[Point]:
    """The points of one block.

    Args:
        number: of the block; its sources have levels 2 * number and 2 * number + 1.
        sources: those that are reseeded; the order begins with another one in every block.
        resamples: of the start's rows.
    """
    turn = number % len(sources)
    order = [*sources[turn:], *sources[:turn]]
    first = number * (1 + len(sources) + resamples)
    levels = dict.fromkeys(sources, 2 * number)
    points = [Point(first, number, 0, START, dict(levels))]
    for step, source in enumerate(order, 1):
        levels[source] += 1
        points.append(Point(first + step, number, step, source, dict(levels)))
    for i in range(resamples):
        step = len(points)
        points.append(Point(first + step, number, step, RESAMPLE, dict(points[0].levels), i))
    return points


def purpose(study: str, substrate: str, level: int) -> Purpose:
    """What names the streams of one level; its purpose within (split, probe, ...) tells the sources apart."""
    return (study, substrate, "anatomy", level)


def streams(point: Point, study: str, substrate: str, *, texts: bool = False) -> Streams:
    """The streams of a point's evaluation set; a source that the experiment does not reseed stays at level 0.

    Args:
        texts: the source `data` chooses among rows that are there already (a language model's text).
    """

    def at(source: str) -> Purpose:
        return purpose(study, substrate, point.levels.get(source, 0))

    drawn = None if point.resample is None else (*purpose(study, substrate, point.block), RESAMPLE, point.resample)
    return Streams(at("split"), at("probe"), at("negatives"), at("data") if texts else None, drawn)
