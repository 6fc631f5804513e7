"""The sparse sampler: closed forms (fast), and the library's own sampler, which it replaces (slow)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.worlds.forests import arrays, both_fire, family

from sae_assay.errors import AssayError
from sae_assay.study.worlds import WorldConfig
from sae_assay.worlds import build, sample
from sae_assay.worlds.pool import Pool
from sae_assay.worlds.sampler import Sampler, _below

ROWS = 40_000


def drawn(world: dict[str, Any], nodes: list[dict[str, Any]] | None = None, rows: int = ROWS) -> Any:
    """True activations [rows, num_features]."""
    pool = sample.draw(Sampler(world, nodes), rows, "test")
    return pool.activations(np.arange(rows), pool.num_features)


def assert_rates(found: Any, expected: Any, rows: int = ROWS) -> None:
    """Shares within 4 standard errors of what they should be."""
    expected = np.asarray(expected, float)
    np.testing.assert_array_less(np.abs(np.asarray(found) - expected), 4 * np.sqrt(expected * (1 - expected) / rows))


def test_features_without_parents_fire_at_their_probabilities() -> None:
    p = [1.0, 0.5, 0.2, 0.0039, 0.0005, 0.0]
    fires = drawn(arrays(p)) > 0
    assert fires[:, 0].all() and not fires[:, 5].any()
    assert_rates(fires[:, 1:5].mean(0), p[1:5])
    assert_rates((fires[:, 1] & fires[:, 2]).mean(), 0.1)


def test_heads_low_enough_are_found_with_their_standing() -> None:
    """As numpy's own comparison and arithmetic have it; a feature without noise stands infinitely far from its threshold."""
    rng = np.random.default_rng(0)
    heads, largest = rng.integers(0, 256, (30, 70), np.uint8), rng.integers(0, 40, 70).astype(np.uint8)
    field, thresholds, noise = rng.standard_normal((30, 70), np.float32), rng.standard_normal(70), rng.random(70)
    noise[:5] = 0
    found, standing = _below(heads, largest, field, thresholds, noise)
    expected = np.flatnonzero(heads <= largest)
    with np.errstate(divide="ignore"):
        wanted = ((field - thresholds) / noise).ravel()[expected]
    assert np.array_equal(found, expected) and np.array_equal(standing, wanted) and np.isinf(standing).any()


def test_correlated_features_fire_together_as_the_gaussian_copula_says() -> None:
    world = arrays([0.3, 0.2, 0.05], factor=[[0.6, 0.3], [0.5, -0.6], [0.6, 0.3]])
    fires = drawn(world) > 0
    assert_rates(fires.mean(0), [0.3, 0.2, 0.05])
    assert_rates((fires[:, 0] & fires[:, 1]).mean(), both_fire(0.3, 0.2, 0.12))
    assert_rates((fires[:, 0] & fires[:, 2]).mean(), both_fire(0.3, 0.05, 0.45))


def test_a_child_correlates_with_features_outside_its_family() -> None:
    world = arrays([1.0, 0.2, 0.3], factor=[[0.0], [0.7], [0.8]])
    fires = drawn(world, family(0, [1], exclusive=False)) > 0
    assert_rates((fires[:, 1] & fires[:, 2]).mean(), both_fire(0.2, 0.3, 0.56))


@pytest.mark.parametrize("exclusive", [False, True])
def test_children_fire_with_their_parent_and_exclude_each_other(exclusive: bool) -> None:
    fires = drawn(arrays([0.1, 0.4, 0.5, 0.6]), family(1, [0, 2, 3], exclusive)) > 0
    assert not (fires[:, [0, 2, 3]].any(1) & ~fires[:, 1]).any()
    if not exclusive:
        return assert_rates(fires.mean(0), [0.04, 0.4, 0.2, 0.24])
    assert fires[:, [0, 2, 3]].sum(1).max() == 1
    # Of siblings that fire together one stays, each with equal chance.
    alone = [
        p * ((1 - q) * (1 - r) + (q * (1 - r) + r * (1 - q)) / 2 + q * r / 3)
        for p, q, r in ((0.1, 0.5, 0.6), (0.5, 0.1, 0.6), (0.6, 0.1, 0.5))
    ]
    return assert_rates(fires[:, [0, 2, 3]].mean(0), 0.4 * np.array(alone))


def test_magnitudes_are_normal_and_a_negative_one_silences_the_feature_and_its_children() -> None:
    active = drawn(arrays([0.8, 1.0, 0.5], mean=1.0, std=2.0), family(0, [1], exclusive=True))
    above = stats.norm.sf(-0.5)  # P(N(1, 2) > 0)
    assert_rates((active > 0).mean(0), [0.8 * above, 0.8 * above**2, 0.5 * above])
    cut = stats.truncnorm(-0.5, np.inf, loc=1, scale=2)
    for column in active.T:
        assert stats.kstest(column[column > 0], cut.cdf).pvalue > 1e-3
    assert (active >= 0).all()


def test_a_parent_that_scales_multiplies_magnitudes_by_its_own_over_its_mean() -> None:
    world = arrays([0.9, 0.9, 0.9], mean=2.0, std=0.0)
    world["magnitude_means"][:] = [4.0, 2.0, 3.0]
    world["magnitude_stds"][0] = 0.5
    active = drawn(world, family(0, [1, 2], exclusive=False, scales=True), 500)
    both = (active[:, 0] > 0) & (active[:, 1] > 0)
    assert both.sum() > 300
    np.testing.assert_allclose(active[both, 1], 2.0 * active[both, 0] / 4.0, rtol=1e-6)
    world["magnitude_means"][0] = 0.0
    with pytest.raises(AssayError, match="scale"):
        Sampler(world, family(0, [1, 2], exclusive=False, scales=True))


def test_hidden_rows_are_features_times_directions_plus_bias() -> None:
    world = arrays([0.5, 0.3, 0.2], factor=[[0.5], [0.5], [-0.5]])
    pool = sample.draw(Sampler(world, None), 700, "t", "pool", 1)
    dense = pool.activations(np.arange(700), 3)
    np.testing.assert_allclose(pool.hidden, dense @ world["feature_vectors"] + world["bias"], rtol=1e-5, atol=1e-5)
    assert pool.hidden.dtype == pool.values.dtype == np.float32 and pool.indices.dtype == np.int32
    assert pool.indptr.dtype == np.int64
    assert all((np.diff(pool.indices[a:b]) > 0).all() for a, b in zip(pool.indptr, pool.indptr[1:], strict=False))


def test_a_stream_gives_the_same_rows_with_and_without_features_and_another_gives_others() -> None:
    sampler = Sampler(arrays([0.5, 0.3, 0.2]), None)
    rows = sample.draw_hidden(sampler, 600, "t", "a")
    np.testing.assert_array_equal(rows, sample.draw(sampler, 600, "t", "a").hidden)
    assert (rows != sample.draw_hidden(sampler, 600, "t", "b")).any()
    assert len(sample.draw_hidden(sampler, 0, "t", "a")) == 0


def test_a_world_that_never_fires_has_rows_of_bias_alone() -> None:
    world = arrays([0.0, 0.0])
    pool = sample.draw(Sampler(world, None), 300, "t")
    assert len(pool.indices) == 0
    np.testing.assert_array_equal(pool.hidden, np.tile(world["bias"], (300, 1)))


# Against the library -------------------------------------------------------------------------------------------------
COMPARED = 150_000
BASE: dict[str, Any] = {"num_features": 34, "hidden_dim": 10, "zipf": {"min_prob": 0.02}, "orthogonalization": None}
TREE = {"roots": 2, "branching": 3, "depth": 2}
WORLDS: dict[str, dict[str, Any]] = {
    "reference": {"hierarchy": TREE, "correlation": {"rank": 3, "scale": 0.4}},
    "scaled": {
        "hierarchy": TREE | {"scale_children_by_parent": True},
        "correlation": {"rank": 3, "scale": 0.4},
        "std_magnitude": {"mean": 1.5, "std": 1.0},
    },
    "half exclusive, uncompensated, wide magnitudes": {
        "hierarchy": TREE | {"mutually_exclusive_portion": 0.5, "compensate_probabilities": False},
        "correlation": None,
        "mean_magnitude": {"start": 2.0, "end": 1.0},
        "std_magnitude": {"mean": 2.0, "std": 0.5},
        "zipf": {"max_prob": 0.8, "min_prob": 0.2},
    },
    "no hierarchy": {"hierarchy": None, "correlation": {"rank": 2, "scale": 0.5}},
    "neither": {"hierarchy": None, "correlation": None, "bias_norm": 0},
}


@pytest.fixture(scope="module")
def library() -> dict[str, tuple[dict[str, Any], Any, Pool]]:
    """Each world's arrays and nodes, and rows that the library drew from it."""
    import torch

    found = {}
    for name, more in WORLDS.items():
        model = build.build(WorldConfig.model_validate(BASE | more), name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            hidden, features = model.sample_with_features(COMPARED)
        nodes = build.nodes_of(model.hierarchy) if model.hierarchy else None
        found[name] = (build.arrays_of(model), nodes, Pool.from_dense(hidden.numpy(), features.numpy()))
    return found


def deviations(one: Pool, other: Pool) -> dict[str, float]:
    """How far two pools of equal length are apart: the largest z of a family of counts or means, or the z of a p-value."""
    a, b = (pool.activations(np.arange(len(pool)), pool.num_features).astype(np.float64) for pool in (one, other))
    pairs = [(x > 0).astype(np.float64).T @ (x > 0) for x in (a, b)]
    active = [[x[:, i][x[:, i] > 0] for i in range(x.shape[1])] for x in (a, b)]
    ks = [stats.ks_2samp(x, y).pvalue for x, y in zip(*active, strict=True) if min(len(x), len(y)) > 50]
    width = int(max((x > 0).sum(1).max() for x in (a, b))) + 1
    l0 = np.array([np.bincount((x > 0).sum(1), minlength=width) for x in (a, b)])
    return {
        "pairs": _largest_z(*pairs, len(a)),  # the diagonal holds the firing rates
        "products": _largest_difference(a, b),
        "magnitudes": float(stats.norm.isf(min(ks) / 2 / len(ks))),
        "l0": float(stats.norm.isf(stats.chi2_contingency(l0[:, l0.sum(0) >= 10]).pvalue / 2)),
    }


def _largest_z(one: Any, other: Any, rows: int) -> float:
    """Of two tables of counts out of `rows` each; both empty is no difference."""
    share = (one + other) / (2 * rows)
    spread = np.sqrt(2 * share * (1 - share) / rows)
    seen = one + other > 0
    return float(np.max(np.abs(one - other)[seen] / rows / spread[seen]))


def _largest_difference(a: Any, b: Any) -> float:
    """z of the means of every product of two activations: covariances of magnitudes, of parent and child above all."""
    means = [x.T @ x / len(x) for x in (a, b)]
    spread = sum(((x**2).T @ x**2 / len(x) - mean**2) / len(x) for x, mean in zip((a, b), means, strict=True))
    often = ((a > 0).astype(float).T @ (a > 0)) > 200
    return float(np.max(np.abs(means[0] - means[1])[often] / np.sqrt(spread[often])))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WORLDS)
def test_the_distribution_is_the_librarys(name: str, library: dict[str, Any]) -> None:
    world, nodes, theirs = library[name]
    ours = sample.draw(Sampler(world, nodes), COMPARED, "test", name)
    found = deviations(ours, theirs)
    assert max(found.values()) < 5, found  # a z of 5 by chance: one in 1.7 million, of a few thousand looked at
    impossible = _impossible(nodes or [], ours.num_features)
    a = ours.activations(np.arange(COMPARED), ours.num_features) > 0
    assert not (a.astype(np.float32).T @ a)[impossible].any()


def _impossible(nodes: list[dict[str, Any]], num_features: int) -> Any:
    """Pairs of features that exclude each other."""
    found = np.zeros((num_features, num_features), bool)
    for parent in (node["feature"] for node in nodes if node["exclusive_children"]):
        children = [node["feature"] for node in nodes if node["parent"] == parent]
        found[np.ix_(children, children)] = ~np.eye(len(children), dtype=bool)
    return found


def _without(key: str, nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [node | {key: False} for node in nodes]


WRONG: dict[str, Any] = {
    "siblings that do not exclude each other": ("reference", lambda w, n: (w, _without("exclusive_children", n))),
    "no correlation": ("no hierarchy", lambda w, n: ({k: v for k, v in w.items() if "corr" not in k}, n)),
    "no hierarchy": ("reference", lambda w, n: (w, None)),
    "unscaled children": ("scaled", lambda w, n: (w, _without("scales_children", n))),
    "rates a tenth too high": (
        "neither",
        lambda w, n: (w | {"firing_probabilities": w["firing_probabilities"] * 1.1}, n),
    ),
    "spread a tenth too wide": ("neither", lambda w, n: (w | {"magnitude_stds": w["magnitude_stds"] * 1.1}, n)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_sampler_is_told_apart(fault: str, library: dict[str, Any]) -> None:
    name, change = WRONG[fault]
    world, nodes, theirs = library[name]
    found = deviations(sample.draw(Sampler(*change(world, nodes)), COMPARED, "test", name), theirs)
    assert max(found.values()) > 8, found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_first_sibling_that_always_wins_is_told_apart(
    library: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sae_assay.worlds import sampler

    def first(groups: Any, exclusive: Any, generator: Any) -> Any:
        return ~exclusive | (np.diff(groups, prepend=-1) != 0)

    monkeypatch.setattr(sampler, "_one_each", first)
    world, nodes, theirs = library["reference"]
    found = deviations(sample.draw(Sampler(world, nodes), COMPARED, "test"), theirs)
    assert max(found.values()) > 8, found
