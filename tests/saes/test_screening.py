"""The screen misses no active latent, also where rounding to bfloat16 hides it, and gives the values of the dense encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sae_assay import numerics
from sae_assay.evaluation import EvaluationSet
from sae_assay.metrics import world
from sae_assay.saes import encoder, formats, screening
from sae_assay.worlds.pool import Pool


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small SAEs, and machines whose products of bfloat16 are merely slow, take part."""
    monkeypatch.setattr(screening, "WORTHWHILE", 0)
    monkeypatch.setattr(numerics, "matrix_units", lambda: True)


def sae(arch: str, W_enc: torch.Tensor, b_enc: torch.Tensor, threshold: torch.Tensor) -> encoder.LightSAE:
    d_in, d_sae = W_enc.shape
    arrays: dict[str, Any] = {
        "W_enc": W_enc.numpy(),
        "b_enc": b_enc.numpy(),
        "W_dec": np.eye(d_in, dtype=np.float32)[np.arange(d_sae) % d_in],  # of norm 1: nothing is folded
        "b_dec": np.linspace(-1, 1, d_in, dtype=np.float32),
    }
    arrays |= {"threshold": threshold.numpy()} if arch == "jumprelu" else {}
    return encoder.from_file(formats.SaeFile({"architecture": arch}, arrays, {}), "here")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("arch", ["standard", "jumprelu"])
def test_latents_are_those_of_the_dense_encoder(arch: str) -> None:
    # Thresholds of either sign; a latent of negative threshold is active above 0 alone.
    subject = sae(arch, drawn(50, 333), 3 * drawn(333, seed=1) - 8, 2 * drawn(333, seed=2))
    hidden = 5 * drawn(700, 50, seed=3)
    pool = Pool.from_dense(hidden.numpy(), np.zeros((700, 2), np.float32))
    evaluation = EvaluationSet(pool, np.arange(700, dtype=np.int32), [], ("test",))
    assert screening.screen(subject) is not None
    found = world.sae_latents(evaluation, subject).at(torch.arange(700))
    dense = subject.encode(hidden)
    assert 0.05 < (dense != 0).float().mean() < 0.6
    assert torch.equal(found != 0, dense != 0)
    torch.testing.assert_close(found, dense, rtol=1e-5, atol=1e-4)


def hidden_by_rounding(d: int, d_sae: int) -> tuple[torch.Tensor, encoder.LightSAE]:
    """Rows and latents whose products all round down: every entry lies just below the middle of two bfloat16s."""
    entry = 1 + 2.0**-8 - 2.0**-16  # rounds to 1
    exact = d * entry * entry
    x = torch.full((d_sae, d), entry) + torch.linspace(-1, 1, d)  # b_dec, which the encoder subtracts
    thresholds = torch.full((d_sae,), exact * (1 - 1e-5))
    subject = sae("jumprelu", torch.full((d, d_sae), entry), torch.zeros(d_sae), thresholds)
    return x, subject


def test_no_active_latent_is_missed_in_the_worst_case() -> None:
    x, subject = hidden_by_rounding(64, 40)
    found = screening.screen(subject)
    assert found is not None
    inputs = subject.encoder_input(x)
    active = (inputs.double() @ subject.W_enc.double() > subject.threshold.double()).nonzero()  # type: ignore[union-attr]
    assert len(active) == 40 * 40
    assert torch.equal(torch.stack(found.candidates(inputs), 1), active)
    # Without the columns that bound the rounding all would be missed.
    found.screen[:, 66:] = 0
    assert not len(found.candidates(inputs)[0])


def test_few_latents_are_computed_in_vain() -> None:
    subject = sae("jumprelu", drawn(768, 512) / 28, torch.zeros(512), torch.full((512,), 2.5))
    found = screening.screen(subject)
    assert found is not None
    x = subject.encoder_input(3 * drawn(256, 768, seed=1))
    row, column = found.candidates(x)
    pre = x @ subject.W_enc
    loose = pre > subject.threshold - 0.03 * x.norm(dim=1, keepdim=True) * subject.W_enc.norm(dim=0)  # type: ignore[operator]
    assert loose[row, column].all() and len(row) < 1.5 * int((pre > subject.threshold).sum())


def test_what_cannot_be_screened_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    good = sae("standard", drawn(8, 16), torch.zeros(16), torch.zeros(16))
    broken = sae("standard", drawn(8, 16) / 0, torch.zeros(16), torch.zeros(16))
    assert screening.screen(good) is not None
    assert screening.screen(broken) is None and screening.screen(good.to(torch.float64)) is None
    monkeypatch.setattr(numerics, "matrix_units", lambda: False)
    assert screening.screen(good) is None


def test_portable_arithmetic_has_no_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not numerics.matrix_units()
