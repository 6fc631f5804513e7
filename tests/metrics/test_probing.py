"""k-sparse probing against scikit-learn and the sae-probes package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sae_assay.metrics import classification, logistic, probing
from sae_assay.metrics.latents import SparseLatents

KS = [1, 2, 8, 60]


def _task(name: str, p: int, q: int, d: int = 40, seed: int = 0) -> probing.ProbingInput:
    g = torch.Generator().manual_seed(seed)

    def latents(positives: int, pool: int) -> torch.Tensor:
        f = torch.relu(torch.randn(positives + pool, d, generator=g) - 1) * 2
        f[:positives, :3] += torch.relu(torch.randn(positives, 3, generator=g) + 0.2)
        f[:, -4:] = 0
        return f

    orders = [torch.randperm(2 * n, generator=g) for n in (p, q)]
    train, test = (SparseLatents.of(latents(n, 2 * n)) for n in (p, q))
    return probing.ProbingInput(name, "in", train, test, p, q, *orders)


@pytest.fixture(scope="module")
def tasks() -> list[probing.ProbingInput]:
    return [
        _task("large", 100, 60),
        _task("larger", 140, 50, seed=1),
        _task("folds", 30, 40, seed=2),
        _task("tiny", 5, 30, seed=3),
    ]


def _draws(tasks: list[probing.ProbingInput]) -> list[probing.ProbingDraws]:
    g = torch.Generator().manual_seed(9)
    sizes = [[(n, 2 * n) for n in (t.train_positives, t.test_positives)] for t in tasks]
    return [probing.draw(train, test, len(KS), g) for train, test in sizes]


def _sklearn(x: np.ndarray, y: np.ndarray, C: float):
    linear_model = pytest.importorskip("sklearn.linear_model")
    return linear_model.LogisticRegression(C=C, max_iter=10_000, tol=1e-9).fit(x, y)


def test_weights_are_sklearns(tasks) -> None:
    x = torch.stack([t.train_latents.dense()[:90, :8] for t in tasks[:2]]).double()
    y = (torch.arange(90) % 3 == 0).float().repeat(2, 1)
    x[y > 0] += 0.3
    counts = torch.ones(2, 90, dtype=torch.bool)
    counts[1, 70:] = False
    for C in (100.0, 1.0, 1e-3):
        theta = logistic.fit(x, y, counts, torch.full((2,), C))
        for i, rows in enumerate((90, 70)):
            model = _sklearn(x[i, :rows].numpy(), y[i, :rows].numpy(), C)
            np.testing.assert_allclose(theta[i, :-1], model.coef_[0], atol=1e-4)
            np.testing.assert_allclose(theta[i, -1], model.intercept_[0], atol=1e-4)


def test_separable_and_constant_columns_have_an_optimum() -> None:
    x = torch.tensor([[[0.0, 1, 0], [0, 1, 0], [5, 1, 0], [6, 1, 0]]])
    y = torch.tensor([[0.0, 0, 1, 1]])
    theta = logistic.fit(x, y, torch.ones(1, 4, dtype=torch.bool), torch.tensor([1e5]))
    assert ((logistic.logits(x, theta) > 0) == (y > 0)).all() and theta[0, 2] == 0


def test_saebench_accuracy_is_sklearns(tasks) -> None:
    draws = _draws(tasks)
    found = {(r["task"], r["hp_value"]): r for r in probing.sparse_probing(tasks, draws, KS)}
    for t, task in enumerate(tasks):
        for i, k in enumerate(KS[:3]):
            sides = {}
            for side, n in (("train", task.train_positives), ("test", task.test_positives)):
                latents = getattr(task, f"{side}_latents").dense()
                sides[side] = (
                    torch.cat([latents[:n], latents[getattr(draws[t], side)[i]]]).numpy(),
                    np.arange(2 * n) < n,
                )
            x, y = sides["train"]
            columns = np.argsort(-np.abs(x[y].mean(0) - x[~y].mean(0)))[:k]
            wanted = _sklearn(x[:, columns], y, 1.0).score(sides["test"][0][:, columns], sides["test"][1])
            assert found[task.task, k]["value"] == pytest.approx(wanted, abs=1e-12)
            assert found[task.task, k]["n_train"] == 2 * task.train_positives
        assert found[task.task, 60]["status"] == "not_applicable"
    assert found["large", 1]["value"] > 0.6


def test_the_audits_selection_normalises_latents(tasks) -> None:
    """Fixed negatives, latents ranked as in sae-probes, C = 1: what the audit's synthetic code calls sparse probing."""
    fixed = []
    for task in tasks:
        sides = [torch.arange(n) + n for n in (task.train_positives, task.test_positives)]
        fixed.append(probing.ProbingDraws(*([rows] * len(KS) for rows in sides)))
    found = {(r["task"], r["hp_value"]): r["value"] for r in probing.sparse_probing(tasks, fixed, KS, "normalised")}
    raw = {(r["task"], r["hp_value"]): r["value"] for r in probing.sparse_probing(tasks, fixed, KS)}
    for task in tasks:
        n, m = task.train_positives, task.test_positives
        x, test = task.train_latents.dense()[: 2 * n], task.test_latents.dense()[: 2 * m].numpy()
        y, truth = np.arange(2 * n) < n, np.arange(2 * m) < m
        scaled = x / (x.abs().sum(0) / ((x != 0).sum(0) + 1e-6) + 1e-6)
        order = (scaled[y].mean(0) - scaled[~y].mean(0)).abs().argsort(descending=True).numpy()
        for k in KS[:3]:
            c = order[:k]
            wanted = _sklearn(x.numpy()[:, c], y, 1.0).score(test[:, c], truth)
            assert found[task.task, k] == pytest.approx(wanted, abs=1e-12)
    assert found != raw


def test_sae_probes_is_the_package_within_its_tolerance(tasks) -> None:
    """The package lets scikit-learn stop early, so a near tie may choose another C: AUC within .01 where there is one
    hold-out, in nine of ten cells within .001."""
    training = pytest.importorskip("sae_probes.utils_training")
    found = {(r["task"], r["component"], r["hp_value"]): r["value"] for r in probing.sae_probes(tasks[:2], KS[:3])}
    gaps = []
    for task in tasks[:2]:
        x, y = task.train_latents.dense()[task.train_order], (task.train_order < task.train_positives).numpy()
        test, truth = (
            task.test_latents.dense()[task.test_order].numpy(),
            (task.test_order < task.test_positives).numpy(),
        )
        scaled = x / (x.abs().sum(0) / ((x != 0).sum(0) + 1e-6) + 1e-6)
        order = np.argsort(-(scaled[y].mean(0) - scaled[~y].mean(0)).abs().numpy())
        for k in KS[:3]:
            c = order[:k].copy()
            wanted = training.find_best_reg(
                x[:, c].numpy(), y.astype(int), test[:, c], truth.astype(int), n_jobs=1
            ).metrics
            gaps.append(abs(found[task.task, "auc", k] - wanted.test_auc))
    assert max(gaps) < 0.01 and np.mean(np.array(gaps) < 1e-3) >= 0.8


def test_folds_are_the_packages() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    labels = np.random.default_rng(3).integers(0, 2, 47)
    split = selection.StratifiedKFold(6, shuffle=True, random_state=1).split(labels, labels)
    found = probing._folds(labels, 1)
    for (train, held), (wanted_train, wanted_held) in zip(found, split, strict=True):
        assert np.array_equal(train, wanted_train) and np.array_equal(held, wanted_held)
    assert len(probing._folds(np.arange(10) % 2, 1)) == 25  # leave-2-out, one of each class
    ((train, held),) = probing._folds(np.arange(200) % 2, 1)
    assert train.tolist() == list(range(160)) and held.tolist() == list(range(160, 200))
    assert probing._folds(np.array([0, 1, 0]), 1) == []


def test_a_task_of_one_class_or_three_rows_has_a_status() -> None:
    task = _task("three", 1, 20)
    records = probing.sae_probes([task], [1])
    assert {r["status"] for r in records} == {"too_few_rows"} and "2 training rows" in records[0]["reason"]


def test_scores_equal_sklearns_with_ties_and_padding() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, (3, 50)) / 6.0, rng.integers(0, 2, (3, 50))
    counts = np.arange(50) < np.array([[50], [31], [20]])
    given = (torch.from_numpy(labels).float(), torch.from_numpy(counts))
    said = torch.from_numpy(scores > 0.4)
    auc = classification.auc(torch.from_numpy(scores), *given)
    f1, accuracy = classification.weighted_f1(said, *given), classification.accuracy(said, *given)
    for i, rows in enumerate((50, 31, 20)):
        truth, predicted = labels[i, :rows], scores[i, :rows] > 0.4
        assert auc[i].item() == pytest.approx(metrics.roc_auc_score(truth, scores[i, :rows]), abs=1e-12)
        assert f1[i].item() == pytest.approx(metrics.f1_score(truth, predicted, average="weighted"), abs=1e-12)
        assert accuracy[i].item() == pytest.approx((truth == predicted).mean(), abs=1e-12)


def test_probing_is_blind_to_the_order_of_latents_and_to_dead_ones(tasks) -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))

    def moved(task: probing.ProbingInput) -> probing.ProbingInput:
        dense = [f.dense() for f in (task.train_latents, task.test_latents)]
        rows = [SparseLatents.of(torch.cat([f[:, order], torch.zeros(len(f), 3)], 1)) for f in dense]
        return probing.ProbingInput(
            task.task, "in", *rows, task.train_positives, task.test_positives, task.train_order, task.test_order
        )

    draws = _draws(tasks)
    for before, after in (
        (
            probing.sparse_probing(tasks, draws, KS[:3]),
            probing.sparse_probing([moved(t) for t in tasks], draws, KS[:3]),
        ),
        (probing.sae_probes(tasks[:3], KS[:3]), probing.sae_probes([moved(t) for t in tasks[:3]], KS[:3])),
    ):
        assert [r["value"] for r in after] == pytest.approx([r["value"] for r in before], abs=1e-9)


def test_a_batch_keeps_the_widest_precision() -> None:
    values, labels = torch.full((4, 2), 0.1), torch.tensor([0.0, 1, 0, 1])
    single = probing._Problem(values, labels, values, labels)
    double = probing._Problem(values.double() / 3, labels, values, labels)
    assert probing._Batch([single], 2).x.dtype == torch.float32
    assert torch.equal(probing._Batch([single, double], 2).x[1], values.double() / 3)
