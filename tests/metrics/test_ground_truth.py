"""Ground truth: closed forms, invariances, and sae_lens's own evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from tests.metrics.conftest import make_sae

from sae_assay.metrics import ground_truth as gt


def _sample(features: np.ndarray, rows: int = 400) -> tuple[torch.Tensor, csr_array]:
    rng = np.random.default_rng(4)
    fires = (rng.random((rows, len(features))) < 0.1) * (1 + rng.random((rows, len(features))))
    activations = csr_array(fires.astype(np.float32))
    return torch.from_numpy(activations @ features + np.float32(0.3)), activations


def _values(records: list[dict]) -> dict[str, float]:
    return {r["component"]: r["value"] for r in records}


def test_the_true_dictionary_is_perfect(features) -> None:
    hidden, activations = _sample(features)
    directions = torch.from_numpy(features)
    latents = torch.from_numpy(activations.toarray())
    values = _values(
        gt.ground_truth(latents, latents @ directions + 0.3, hidden, activations, gt.match(directions, directions))
    )
    assert values["mcc"] == pytest.approx(1, abs=1e-6)
    assert values["f1"] == values["precision"] == values["recall"] == values["uniqueness"] == 1
    assert values["explained_variance"] == pytest.approx(1, abs=1e-6) and values["dead_latents"] == 0
    assert values["l0"] == pytest.approx(activations.nnz / 400)


def test_a_case_by_hand() -> None:
    """Latent 0 fires in both of feature 0's rows and in one more; latent 1 tracks feature 0 too and never fires."""
    activations = csr_array(np.array([[1, 0], [2, 0], [0, 1], [0, 0]], np.float32))
    matched = gt.match(torch.tensor([[1.0, 0], [0.8, 0.6]]), torch.eye(2))
    assert matched.feature.tolist() == [0, 0] and matched.uniqueness == 0.5
    assert matched.mcc == pytest.approx((1 + 0.6) / 2)
    latents = torch.tensor([[3.0, 0], [1, 0], [1, 0], [0, 0]])
    f1, precision, recall = gt.detection(latents, activations, matched.feature)
    assert (f1, precision, recall) == pytest.approx((0.8 / 2, (2 / 3) / 2, 1 / 2))


def test_a_feature_fires_where_its_activation_is_positive() -> None:
    """Of three stored activations one is 0 and one negative: feature 0 fires in the last row alone."""
    activations = csr_array((np.array([0, -1, 2], np.float32), [0, 0, 0], [0, 1, 2, 3]), shape=(3, 1))
    assert gt.detection(torch.ones(3, 1), activations, torch.zeros(1, dtype=torch.long)) == pytest.approx(
        (0.5, 1 / 3, 1)
    )


def test_counts_of_other_shapes_are_refused() -> None:
    activations = csr_array(np.eye(2, dtype=np.float32))
    for rows, width, feature in ((2, 3, [0]), (3, 1, [0]), (1, 1, [0]), (2, 1, [2])):
        with pytest.raises(ValueError, match=r"rows of|beyond"):
            gt.detection(torch.ones(rows, width), activations, torch.tensor(feature))


def test_order_scale_and_sign_of_decoder_rows_do_not_matter(features) -> None:
    hidden, activations = _sample(features)
    sae, directions = make_sae(16, 24), torch.from_numpy(features)
    order, scale = torch.randperm(24, generator=torch.Generator().manual_seed(0)), torch.linspace(-2, -0.5, 24)
    f = sae.encode(hidden)
    values = _values(gt.ground_truth(f, sae.decode(f), hidden, activations, gt.match(sae.W_dec, directions)))
    matched = gt.match((sae.W_dec * scale[:, None])[order], directions)
    again = _values(gt.ground_truth(f[:, order], sae.decode(f), hidden, activations, matched))
    assert again == pytest.approx(values, abs=1e-6) and 0 < values["f1"] < 1


def test_activations_that_do_not_vary_have_no_explained_variance() -> None:
    ones = torch.ones(5, 2)
    records = gt.ground_truth(
        ones, ones, ones, csr_array(np.ones((5, 2), np.float32)), gt.match(torch.eye(2), torch.eye(2))
    )
    (record,) = [r for r in records if r["component"] == "explained_variance"]
    assert record["value"] is None and record["status"] == "undefined_denominator"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_equals_sae_lens(features) -> None:
    evals = pytest.importorskip("sae_lens.synthetic.evals")
    hidden, activations = _sample(features)
    sae, directions = make_sae(16, 24), torch.from_numpy(features)
    f = sae.encode(hidden)

    class Dictionary(torch.nn.Module):
        feature_vectors = directions

        def forward(self, acts: torch.Tensor) -> torch.Tensor:
            return hidden

    class Generator:
        def sample(self, n: int) -> torch.Tensor:
            return torch.from_numpy(activations.toarray())

    sae.eval = lambda: None
    theirs = evals.eval_sae_on_synthetic_data(sae, Dictionary(), Generator(), num_samples=len(hidden))
    ours = _values(gt.ground_truth(f, sae.decode(f), hidden, activations, gt.match(sae.W_dec, directions)))
    assert ours == pytest.approx(
        {
            "mcc": theirs.mcc,
            "f1": theirs.classification.f1_score,
            "precision": theirs.classification.precision,
            "recall": theirs.classification.recall,
            "uniqueness": theirs.uniqueness,
            "l0": theirs.sae_l0,
            "dead_latents": theirs.dead_latents,
            "explained_variance": theirs.explained_variance,
        },
        abs=1e-7,
    )
