"""Scores SAEs on a world at the points of a noise anatomy: one source of randomness moved at a time, then rows resampled."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from sae_assay import anatomy, numerics
from sae_assay.anatomy import Point
from sae_assay.evaluation import EvaluationSet
from sae_assay.metrics import world
from sae_assay.steps import evaluation_set, score
from sae_assay.study.worlds import Tasks
from sae_assay.tables import scores
from sae_assay.worlds import build, sample, tasks
from sae_assay.worlds.pool import Pool
from sae_assay.worlds.sampler import Sampler


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Score every SAE at every point of some blocks.

    Args:
        inputs: `cards` (each beside its SAE's weights), `world_weights`, `world_card`, `task_pool`, `tasks`.
        outputs: `scores`, one per SAE; `eval_seed` is the point's number.
        params: `study`, `substrate`, `saes` (id, panel), `d_sae`, `blocks`, `sources`, `resamples`, `samples`, `tasks`
            (the substrate's sections) and `metrics`.
    """
    device = numerics.begin(params)
    place = Place(inputs, params)
    folders = [Path(card).parent for card in inputs.cards]
    entries = [
        score._entry(folder, one, params, place.arrays, device)
        for folder, one in zip(folders, params["saes"], strict=True)
    ]
    parts: list[list[pl.DataFrame]] = [[] for _ in entries]
    for point in points(params):
        found = place.evaluation(point)
        draws = world.draw(found, params["metrics"])
        for entry, rows in zip(entries, parts, strict=True):
            records = score.score(entry, found, draws, params["substrate"], point.number, params["metrics"])
            rows.append(score.table(records, entry.columns, point.number, f"point {point.number}"))
    for rows, path in zip(parts, outputs.scores, strict=True):
        scores.write(pl.concat(rows), path)


def points(params: dict[str, Any]) -> Iterator[Point]:
    """Every point of a job's blocks."""
    for number in params["blocks"]:
        yield from anatomy.block(number, params["sources"], params["resamples"])


class Place:
    """A world from which every point's evaluation set is drawn: files and settings of the step."""

    def __init__(self, inputs: Any, params: dict[str, Any]) -> None:
        self.params = params
        self.arrays = build.read_arrays(inputs.world_weights)
        self._card = build.read_json(inputs.world_card)
        self._sampler = Sampler(self.arrays, self._card["hierarchy"])
        self._tasks = evaluation_set.read_tasks(inputs.tasks)
        self._task_pool = Pool.load(inputs.task_pool)
        self._pool = lru_cache(maxsize=2)(self._drawn_pool)
        self._chosen = lru_cache(maxsize=2)(self._chosen_tasks)

    def evaluation(self, point: Point) -> EvaluationSet:
        """The evaluation set of a point."""
        params = self.params
        streams = anatomy.streams(point, params["study"], params["substrate"])
        pool = self._pool(point.levels.get("data", 0))
        chosen = self._chosen(point.levels.get("tasks"))
        return evaluation_set.build(pool, chosen, params["tasks"], params["metrics"], streams)

    def _drawn_pool(self, level: int) -> Pool:
        purpose = anatomy.purpose(self.params["study"], self.params["substrate"], level)
        rows = self.params["samples"]["pool_rows"]
        features = sample.draw_features(self._sampler, rows, *purpose, "pool")
        return Pool.of_features(features).in_world(self.arrays, f"pool of level {level}")

    def _chosen_tasks(self, level: int | None) -> dict[str, list[dict[str, Any]]]:
        """The world's own tasks where they stay (None), else others from the same rows."""
        if level is None:
            return self._tasks
        purpose = anatomy.purpose(self.params["study"], self.params["substrate"], level)
        wanted = Tasks.model_validate(self.params["tasks"])
        return tasks.choose(self._task_pool, self._card["hierarchy"], self.params["d_sae"], wanted, *purpose)
