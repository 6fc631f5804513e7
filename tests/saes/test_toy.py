"""The toy SAE's own assignment and training, which the workflow's tests lean on."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from sae_assay.saes import toy
from sae_assay.worlds import toy as worlds


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 9), (16, 48)])
def test_assignment_finds_scipys_optimum(shape):
    generator = np.random.default_rng(7)
    for _ in range(20):
        gain = generator.random(shape)
        assert gain[toy.assignment(gain)].sum() == pytest.approx(gain[linear_sum_assignment(gain, maximize=True)].sum())


def test_the_oracle_matches_its_own_features():
    world = worlds.build({"num_features": 12, "hidden_dim": 24, "seed": 1})
    x, magnitudes = world.sample(500, "test")
    scores = toy.ground_truth(toy.ToySae(world.features, 3), world.features, x, magnitudes)
    assert scores["mcc"] == pytest.approx(1, abs=1e-5)
    assert scores["uniqueness"] == 1
    assert scores["l0"] <= 3


def test_training_brings_an_sae_nearer_to_the_features():
    world = worlds.build({"num_features": 12, "hidden_dim": 24, "seed": 1})
    x, magnitudes = world.sample(2000, "train")
    first, last = toy.train(x, 12, 2, [1, 60], 500, seed=0)
    assert toy.ground_truth(last, world.features, x, magnitudes)["mcc"] > (
        toy.ground_truth(first, world.features, x, magnitudes)["mcc"] + 0.1
    )
