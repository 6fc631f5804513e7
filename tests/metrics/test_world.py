"""One SAE on one evaluation set, from a pool to records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tests.metrics.conftest import LinearSae, make_sae

from sae_assay import modes
from sae_assay.evaluation import EvaluationSet, subset
from sae_assay.metrics import ground_truth, world
from sae_assay.metrics.latents import SparseLatents
from sae_assay.metrics.records import frame
from sae_assay.steps import evaluation_set

DEFINITIONS = {
    "sparse_probing": [
        {"id": "single_5", "op": "single", "features": [5], "kind": "in", "status": "ok"},
        {"id": "or_6_7", "op": "or", "features": [6, 7], "kind": "in", "status": "ok"},
        {"id": "none", "op": "single", "features": [8], "kind": "out", "status": "too_few_rows", "reason": "by hand"},
    ],
    "tpp": [{"id": "siblings", "parent": 99, "classes": [0, 1, 2, 3], "kind": "in"}],
    "scr": [
        {
            "id": "pair",
            "target": {"op": "single", "features": [9]},
            "spurious": {"op": "or", "features": [10, 11]},
            "kind": "in-in",
        },
    ],
}
LIMITS = {
    "sparse_probing": {"max_train_positives": 128, "max_test": 200},
    "tpp": {"max_rows_per_class": 200},
    "scr": {"max_rows_per_class": 200},
}
BOTH = ["saebench", "strict"]
METRICS = {
    "ground_truth": {},
    "sparse_probing": {"k_probe": [1, 4]},
    "sae_probes": {"k_probe": [1, 4]},
    "tpp": {
        "n": [1, 4, 100],
        "modes": BOTH,
        "fault_ablation": {"modes": ["fix_epoch", "fix_negatives", "fix_ties"], "n": [4, 100]},
    },
    "scr": {
        "n": [1, 4],
        "modes": BOTH,
        "fault_ablation": {"modes": ["fix_epoch", "fix_overlap", "fix_cells", "fix_direction"], "n": [4]},
    },
    "known_validity": {"tau": 0.01},
    "pure_noise": {"tau": 0.1},
}


@pytest.fixture(scope="module")
def built(pool) -> EvaluationSet:
    return evaluation_set.build(pool, DEFINITIONS, LIMITS, METRICS, ("test", "hand", 42))


def test_a_pool_too_small_for_a_task_says_what_to_raise(pool) -> None:
    few = evaluation_set.build(subset(pool, np.arange(8)), DEFINITIONS, LIMITS, METRICS, ("test", "hand", 42))
    reasons = {task.reason for task in few.tasks if task.status == "too_few_rows" and task.id != "none"}
    assert reasons and all("samples.pool_rows" in str(reason) for reason in reasons)


def _subject(built: EvaluationSet, features: np.ndarray, sae, latents=None) -> world.Subject:
    matched = ground_truth.match(sae.W_dec, torch.from_numpy(features))
    latents = latents or world.sae_latents(built, sae)
    return world.Subject(sae, latents, built, world.draw(built, METRICS), matched, "hand", "some_sae", 42)


def _values(records: list[dict]) -> dict[tuple, float | None]:
    keys = ("metric", "component", "task", "mode", "hp_value", "direction")
    return {tuple(r[k] for k in keys): r["value"] for r in records}


def test_a_set_is_written_and_read_back_and_equal_sets_give_equal_bytes(built, pool, tmp_path) -> None:
    built.save(tmp_path / "a")
    EvaluationSet.load(tmp_path / "a").save(tmp_path / "b")
    again = evaluation_set.build(pool, DEFINITIONS, LIMITS, METRICS, ("test", "hand", 42))
    again.save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_another_seed_draws_other_rows(built, pool) -> None:
    other = evaluation_set.build(pool, DEFINITIONS, LIMITS, METRICS, ("test", "hand", 43))
    assert not np.array_equal(built.tasks[0].arrays["train"], other.tasks[0].arrays["train"])


def test_strict_tasks_share_no_row_between_training_and_test(built) -> None:
    for task in built.tasks:
        if task.mode == "strict":
            assert not np.intersect1d(task.arrays["train"], task.arrays["test"]).size


def test_labels_of_the_stored_rows_are_right(built) -> None:
    task = next(t for t in built.tasks if t.id == "or_6_7")
    labels = built.pool.labels("or", [6, 7])
    positives = task.counts["train_positives"]
    assert labels[task.arrays["train"][:positives]].all() and not labels[task.arrays["train"][positives:]].any()
    order = task.arrays["train_order"]
    assert len(order) == 2 * positives and len(set(order)) == len(order) and (order < positives).sum() == positives


def test_every_cell_has_one_row_with_a_value_or_a_status(built, features) -> None:
    records = world.score(_subject(built, features, make_sae(16, 24)), METRICS)
    table = frame(records)
    assert table.height == len(_values(records)) == 8 + 2 * 3 * 1 + 2 * 3 * 3 + 2 * 3 * 3 + 2 * 2 * 4 + 2 + 3 * 2 + 4
    assert set(table.filter(table["value"].is_null())["status"]) >= {"too_few_rows", "not_applicable"}
    assert (table.filter(table["task"] == "none")["reason"] == "by hand").all()


def test_an_oracle_beats_a_random_sae(built, features) -> None:
    d_sae = 24
    oracle = LinearSae(torch.zeros(16, d_sae), torch.from_numpy(features[:d_sae]), torch.zeros(16))
    best = _values(world.score(_subject(built, features, oracle, world.oracle_latents(built, d_sae)), METRICS))
    rand = _values(world.score(_subject(built, features, make_sae(16, d_sae)), METRICS))
    assert best["ground_truth", "mcc", "__all__", None, None, None] == pytest.approx(1, abs=1e-6)
    assert best["ground_truth", "f1", "__all__", None, None, None] == 1
    for mode in BOTH:
        key = ("tpp", "score", "siblings", mode, 1, None)
        assert best[key] > rand[key] + 0.1 and best[key] > 0.2
    for key in (
        ("sparse_probing", "accuracy", "single_5", "saebench", 1, None),
        ("sae_probes", "auc", "single_5", "saebench", 1, None),
    ):
        assert best[key] == 1 and rand[key] < 1


def test_ground_truth_chunk_by_chunk_gives_the_same_records(built, features, monkeypatch) -> None:
    subject = _subject(built, features, make_sae(16, 24))
    whole = _values(world.score(subject, {"ground_truth": {}}))
    monkeypatch.setattr(world, "SAMPLE_CHUNK", 700)
    assert _values(world.score(subject, {"ground_truth": {}})) == pytest.approx(whole, abs=1e-9)


def test_latents_that_are_not_finite_are_refused(built, features) -> None:
    sae = make_sae(16, 24)
    sae.b_dec[3] = torch.nan
    with pytest.raises(ArithmeticError, match="some_sae has latents that are not finite at seed 42"):
        world.score(_subject(built, features, sae), METRICS)


def test_single_repairs_leave_the_whole_modes_as_they_were(built, pool, features) -> None:
    """Same probes, draws and scores to the last bit, whatever else is scored."""
    whole = {name: {k: v for k, v in part.items() if k != "fault_ablation"} for name, part in METRICS.items()}
    alone = evaluation_set.build(pool, DEFINITIONS, LIMITS, whole, ("test", "hand", 42))
    sae = make_sae(16, 24)
    found = _values(world.score(_subject(built, features, sae), METRICS))
    matched = ground_truth.match(sae.W_dec, torch.from_numpy(features))
    draws = world.draw(alone, whole)
    subject = world.Subject(sae, world.sae_latents(alone, sae), alone, draws, matched, "hand", "some_sae", 42)
    wanted = _values(world.score(subject, whole))
    assert {key: found[key] for key in wanted} == wanted and len(found) == len(wanted) + 10
    snapshot = world.Subject(sae, world.sae_latents(built, sae), built, draws, matched, "hand", "some_sae", 42)
    assert _values(world.score(snapshot, whole)) == wanted  # rows of repaired modes are passed over
    assert {key[3] for key in found.keys() - wanted.keys()} == {m for m in modes.MODES if m.startswith("fix_")}


def test_a_repair_of_the_scoring_uses_saebenchs_draws_at_its_own_n(built, features) -> None:
    """At n = 4 all effects chosen are positive, so the tie rule changes nothing and the draws decide."""
    values = _values(world.score(_subject(built, features, make_sae(16, 24)), METRICS))
    asked = ("saebench", "fix_ties", "fix_negatives", "fix_epoch")
    score = {mode: values["tpp", "score", "siblings", mode, 4, None] for mode in asked}
    assert score["fix_ties"] == score["saebench"] != score["fix_negatives"] and score["fix_epoch"] != score["saebench"]


@dataclass(frozen=True)
class Moved:
    """An SAE with its latents permuted and rescaled, behind three dead ones."""

    sae: LinearSae
    order: torch.Tensor
    scale: torch.Tensor

    @property
    def W_dec(self) -> torch.Tensor:
        return torch.cat([torch.ones(3, 16) / 4, (self.sae.W_dec / self.scale[:, None])[self.order]])

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        f = (self.sae.encode(x) * self.scale)[:, self.order]
        return torch.cat([torch.zeros(len(f), 3), f], 1)

    def decode(self, f: SparseLatents, x: torch.Tensor | None = None) -> torch.Tensor:
        return self.sae.decode(f.dense()[:, 3:][:, self.order.argsort()] / self.scale, x)


def test_strict_scores_do_not_depend_on_order_scale_or_dead_latents_or_batches(built, features) -> None:
    sae, g = make_sae(16, 24), torch.Generator().manual_seed(6)
    moved = Moved(sae, torch.randperm(24, generator=g), 0.5 + torch.rand(24, generator=g))
    hidden = torch.from_numpy(built.pool.hidden)
    small = world.Latents(SparseLatents.encoded(lambda rows: moved.encode(hidden[rows]), len(hidden), 27, chunk=7))
    before = _values(world.score(_subject(built, features, sae), METRICS))
    after = _values(world.score(_subject(built, features, moved, small), METRICS))
    strict = [key for key in before if key[3] == "strict" and key[4] != 100]
    assert len({before[key] for key in strict}) > 8
    assert {key: after[key] for key in strict} == pytest.approx({key: before[key] for key in strict}, abs=1e-6)
