"""Reseeding one source leaves the draws of every other one equal bit for bit, in a world and on a language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.lms import stand_in
from tests.lms.test_scoring import CONTEXT, LAYER, some_windows, text_set
from tests.metrics.conftest import features, pool
from tests.metrics.test_world import DEFINITIONS, LIMITS, METRICS

from sae_assay import anatomy
from sae_assay.anatomy import Streams
from sae_assay.evaluation import EvaluationSet
from sae_assay.lms import evaluation, texts
from sae_assay.metrics import world
from sae_assay.steps import evaluation_set

__all__ = ["features", "pool"]  # fixtures
BASE = Streams.of(("s", "hand", 0))
OTHER = ("s", "hand", 1)
Rows = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def built(pool) -> Callable[[Streams], EvaluationSet]:
    return lambda streams: evaluation_set.build(pool, DEFINITIONS, LIMITS, METRICS, streams)


def content(found: EvaluationSet) -> dict[str, Rows]:
    """By family: what every task holds, rows by their activations (positions among used rows move with the rows)."""
    parts: dict[str, Rows] = {"rows of probing": {}, "rows of ablations": {}, "probes": {}}
    for task in found.tasks:
        for name, array in task.arrays.items():
            key = f"{task.family} {task.id} {task.mode} {name}"
            if name in ("train", "test"):
                kind = "rows of probing" if task.family == "probing" else "rows of ablations"
                parts[kind][key] = found.pool.hidden[array]
            else:
                parts["probes" if name in ("weight", "bias") else "rows of probing"][key] = array
    drawn = world.draw(found, METRICS)
    parts["negatives"] = {f"tpp {k}": v.ablated.numpy() for k, v in drawn.tpp.items()}
    parts["negatives"] |= {f"probing {k}": v.train[0].numpy() for k, v in drawn.probing.items()}
    return parts


def equal(a: Rows, b: Rows) -> list[bool]:
    assert a.keys() == b.keys() and a
    return [np.array_equal(a[key], b[key]) for key in a]


@pytest.mark.parametrize(
    ("source", "moved"), [("split", "rows of probing"), ("probe", "probes"), ("negatives", "negatives")]
)
def test_a_worlds_source_moves_alone(built, source: str, moved: str) -> None:
    before, after = content(built(BASE)), content(built(replace(BASE, **{source: OTHER})))
    for part in before:
        same = equal(before[part], after[part])
        if part == moved:
            assert not any(same), part
        else:
            assert all(same), part


def test_one_purpose_for_all_is_the_evaluation_seeds_own(pool, built) -> None:
    seeded = evaluation_set.build(pool, DEFINITIONS, LIMITS, METRICS, ("s", "hand", 0))
    first, second = content(seeded), content(built(BASE))
    assert all(all(equal(first[part], second[part])) for part in first)
    assert seeded.purpose == ("s", "hand", 0)


def test_resampled_rows_stay_on_their_side_and_in_their_class(built) -> None:
    plain, drawn = built(BASE), built(replace(BASE, resample=("s", "r")))
    repeated = 0
    for before, after in zip(plain.tasks, drawn.tasks, strict=True):
        for name in set(before.arrays) & {"train", "test"}:
            a, b = (found.pool.hidden[task.arrays[name]] for found, task in ((plain, before), (drawn, after)))
            assert a.shape == b.shape
            count = before.counts.get(f"{name}_positives")
            classes = [slice(None, count), slice(count, None)] if count else list(np.ndindex(a.shape[:-2]))
            for one in classes:
                rows, again = ({row.tobytes() for row in side[one]} for side in (a, b))
                assert again <= rows
                repeated += len(again) < len(rows)
    assert repeated > 5


@pytest.fixture(scope="module")
def text() -> texts.Texts:
    model = stand_in.model()
    passages = texts.read_passages(model, some_windows(24, 9, shortest=CONTEXT), LAYER, limit=1e9)
    sets = [text_set(model, name, 2 + 2 * (i > 1), i) for i, name in enumerate(["1_a", "2_b", "4_d__5_e", "3_c"])]
    return texts.Texts(sets[:2], sets[2:3], sets[3], passages, {"context": CONTEXT})


def of_text(text: texts.Texts, streams: Streams) -> evaluation.Evaluation:
    return evaluation.build(text, streams, 0.5)


LM = replace(BASE, data=("s", "hand", 0))


@pytest.mark.parametrize("source", ["data", "split", "probe", "negatives"])
def test_a_language_models_source_moves_alone(text: texts.Texts, source: str) -> None:
    before, after = of_text(text, LM), of_text(text, replace(LM, **{source: OTHER}))
    moved = {
        "rows": [not torch.equal(before.splits[k].train, after.splits[k].train) for k in before.splits],
        "probes": [not torch.equal(before.probes[k].weight, after.probes[k].weight) for k in before.probes],
        "negatives": [before.purpose != after.purpose],
    }
    # other rows make other probes, of the same draws
    wanted = {"data": ("rows", "probes"), "split": ("rows", "probes"), "probe": ("probes",)}.get(source, ("negatives",))
    for part, changed in moved.items():
        assert all(changed) if part in wanted else not any(changed), part


def test_a_sample_of_text_is_a_share_of_every_class_and_split_whole(text: texts.Texts) -> None:
    first, second = of_text(text, LM), of_text(text, replace(LM, split=OTHER))
    for found in text.sets:
        a, b = (
            torch.cat([s.train, s.test], 1).sort(1).values
            for s in (first.splits[found.name], second.splits[found.name])
        )
        assert torch.equal(a, b)  # the split moves rows between its sides, never in or out of the sample
        assert a.shape[1] == round(0.5 * min(len(rows) for rows in evaluation.usable_rows(found)))
        assert all((found.labels[row] == c).all() for c, row in enumerate(a))


def test_resampled_text_keeps_its_side(text: texts.Texts) -> None:
    plain, drawn = of_text(text, LM), of_text(text, replace(LM, resample=("s", "r")))
    for name, rows in plain.splits.items():
        for a, b in zip(_parts(rows), _parts(drawn.splits[name]), strict=True):
            for before, after in zip(a, b, strict=True):
                assert set(after.tolist()) <= set(before.tolist())


def _parts(rows: evaluation.Split) -> list[torch.Tensor]:
    held = rows.train.shape[1] // evaluation.TEST_SHARE
    return [rows.test, rows.train[:, :held], rows.train[:, held:]]


def test_streams_follow_the_points_levels() -> None:
    start, probe = anatomy.block(3, ["probe", "split"], 1)[0], anatomy.block(3, ["probe", "split"], 1)[2]
    assert probe.moved == "probe"  # block 3 of two sources begins with the second
    first, second = (anatomy.streams(point, "s", "b", texts=True) for point in (start, probe))
    assert first.data == second.data == ("s", "b", "anatomy", 0)  # not reseeded
    assert (first.probe, second.probe) == (("s", "b", "anatomy", 6), ("s", "b", "anatomy", 7))
