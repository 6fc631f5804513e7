"""A world's rows give the latents of the dense encoder, read from the features that make them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from sae_assay import numerics
from sae_assay.errors import AssayError
from sae_assay.evaluation import EvaluationSet
from sae_assay.metrics import world
from sae_assay.saes import encoder, factored, formats
from sae_assay.worlds.pool import Pool

FEATURES, D_IN, ROWS = 150, 50, 700


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small SAEs take part, in more than one block and tile."""
    monkeypatch.setattr(factored, "WORTHWHILE", 0)
    monkeypatch.setattr(factored, "PURSUED_ROWS", 200)
    monkeypatch.setattr(factored, "ROWS", 300)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sae(arch: str, d_sae: int, **config: Any) -> encoder.LightSAE:
    """Random weights; thresholds of either sign, as a latent of negative threshold is active above 0 alone."""
    directions = torch.nn.functional.normalize(drawn(d_sae, D_IN, seed=6))
    arrays: dict[str, Any] = {"W_dec": directions.numpy(), "b_dec": np.linspace(-1, 1, D_IN, dtype=np.float32)}
    if arch != "matching_pursuit":
        arrays |= {"W_enc": drawn(D_IN, d_sae).numpy(), "b_enc": (3 * drawn(d_sae, seed=1) - 8).numpy()}
    arrays |= {"threshold": 2 * drawn(d_sae, seed=2).numpy()} if arch == "jumprelu" else {}
    return encoder.from_file(formats.SaeFile({"architecture": arch, **config}, arrays, {}), "here")


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    directions = torch.nn.functional.normalize(drawn(FEATURES, D_IN, seed=3)).numpy()
    return {"feature_vectors": directions, "bias": drawn(D_IN, seed=4).numpy()}


@pytest.fixture
def evaluation(arrays: dict[str, np.ndarray]) -> EvaluationSet:
    """Rows of some nine features each, the first of none."""
    activations = 4 * drawn(ROWS, FEATURES, seed=5).relu().numpy() * (drawn(ROWS, FEATURES, seed=7) > 1.2).numpy()
    activations[0] = 0
    features = csr_array(activations.astype(np.float32))
    pool = Pool.of_features(features).in_world(arrays, "here")
    return EvaluationSet(pool, np.arange(ROWS, dtype=np.int32), [], ("test",))


@pytest.mark.parametrize("arch", ["standard", "jumprelu"])
@pytest.mark.parametrize("subtracts", [True, False])
def test_latents_are_those_of_the_dense_encoder(
    arch: str, subtracts: bool, evaluation: EvaluationSet, arrays: dict[str, np.ndarray]
) -> None:
    subject = sae(arch, 333, apply_b_dec_to_input=subtracts)
    found = factored.factored(subject, evaluation.pool, arrays)
    assert found is not None
    latents, dense = found.encode(evaluation.pool), subject.encode(torch.from_numpy(evaluation.pool.hidden))
    assert 0.05 < (dense != 0).float().mean() < 0.6 and (dense[0] != 0).any()
    assert torch.equal(latents.dense() != 0, dense != 0)
    torch.testing.assert_close(latents.dense(), dense, rtol=1e-5, atol=1e-4)
    rows = [np.diff(latents.indices[a:b]) for a, b in zip(latents.indptr[:-1], latents.indptr[1:], strict=True)]
    assert (np.concatenate(rows) > 0).all() and latents.indices.dtype == np.int32 and latents.indptr.dtype == np.int64
    through = world.sae_latents(evaluation, subject, arrays).take(torch.arange(ROWS))
    assert np.array_equal(through.values, latents.values)


@pytest.mark.parametrize(
    "config",
    [
        {"max_iterations": 9, "residual_threshold": 0.0, "stop_on_duplicate_support": False},
        {"max_iterations": 9, "residual_threshold": 3.0, "stop_on_duplicate_support": True},
        {"max_iterations": None, "residual_threshold": 1e-2, "stop_on_duplicate_support": True},
    ],
)
@pytest.mark.parametrize("d_sae", [90, 256])
def test_pursuit_takes_what_the_encoder_takes(
    config: dict[str, Any], d_sae: int, evaluation: EvaluationSet, arrays: dict[str, np.ndarray]
) -> None:
    subject = sae("matching_pursuit", d_sae, **config)
    found = factored.factored(subject, evaluation.pool, arrays)
    assert found is not None
    latents = found.encode(evaluation.pool).dense()
    dense = subject.encode(torch.from_numpy(evaluation.pool.hidden))
    assert torch.equal(latents != 0, dense != 0) and 0 < (dense != 0).float().mean() < 0.5
    torch.testing.assert_close(latents, dense, rtol=1e-4, atol=1e-4)


def test_pursuit_of_a_row_that_no_latent_fits_takes_nothing(arrays: dict[str, np.ndarray]) -> None:
    subject = sae("matching_pursuit", 40, apply_b_dec_to_input=False, max_iterations=5)
    opposed = replace(subject, W_dec=-subject.W_dec.abs())
    arrays = {"feature_vectors": np.abs(arrays["feature_vectors"]), "bias": np.zeros(D_IN, np.float32)}
    pool = Pool.of_features(csr_array(np.eye(FEATURES, dtype=np.float32))).in_world(arrays, "here")
    found = factored.factored(opposed, pool, arrays)
    assert found is not None and not len(found.encode(pool).values)


def test_rows_of_another_world_are_refused(evaluation: EvaluationSet, arrays: dict[str, np.ndarray]) -> None:
    moved = arrays | {"feature_vectors": np.roll(arrays["feature_vectors"], 1, 0)}
    found = factored.factored(sae("standard", 64), evaluation.pool, moved)
    assert found is not None
    with pytest.raises(AssayError, match="not those that the world makes"):
        found.encode(evaluation.pool)
    narrow = factored.factored(sae("standard", 64), evaluation.pool, {k: v[..., :40] for k, v in arrays.items()})
    assert narrow is not None
    with pytest.raises(AssayError, match="not those that the world makes"):
        narrow.encode(evaluation.pool)
    end = evaluation.pool.hidden.copy()
    end[-1] += 9
    found = factored.factored(sae("standard", 64), evaluation.pool, arrays)
    assert found is not None
    with pytest.raises(AssayError, match="not those that the world makes"):
        found.encode(replace(evaluation.pool, hidden=end))


def test_what_is_not_a_number_is_no_silent_latent(evaluation: EvaluationSet, arrays: dict[str, np.ndarray]) -> None:
    values = evaluation.pool.values.copy()
    values[evaluation.pool.indptr[300]] = np.nan
    pool = replace(evaluation.pool, values=values)
    found = factored.factored(sae("standard", 64), pool, arrays)
    assert found is not None
    assert np.isnan(found.encode(pool).values).sum() == 64


def test_other_saes_are_read_densely(
    evaluation: EvaluationSet, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, pool = sae("standard", 64), evaluation.pool
    broken, broken_bias = replace(good, W_enc=good.W_enc / 0), replace(good, b_dec=good.b_dec / 0)
    assert factored.factored(good, pool, arrays) is not None
    for other in (broken, broken_bias, good.to(torch.float64), replace(good, arch="topk"), good.on("meta")):
        assert factored.factored(other, pool, arrays) is None
    assert factored.factored(good, replace(pool, hidden=pool.hidden[:100]), arrays) is None  # fewer rows than features
    dense = Pool.from_dense(pool.hidden, np.ones((ROWS, FEATURES), np.float32))
    assert factored.factored(good, dense, arrays) is None
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not numerics.native() and factored.factored(good, pool, arrays) is None
