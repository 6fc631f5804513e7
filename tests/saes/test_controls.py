from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sae_assay.errors import AssayError
from sae_assay.saes import controls, encoder, formats

ROWS = torch.randn(500, 6, generator=torch.Generator().manual_seed(3))
ARCHS = ["standard", "jumprelu", "topk", "matching_pursuit"]


@pytest.fixture
def base(make_sae: Any) -> Any:
    def make(arch: str) -> encoder.LightSAE:
        more = {"topk": {"k": 3, "rescale_acts_by_decoder_norm": True}, "matching_pursuit": {"max_iterations": 3}}
        return scored(*make_sae(arch, **more.get(arch, {})))

    return make


def scored(config: dict[str, Any], weights: dict[str, np.ndarray], tmp_path: Any = None) -> encoder.LightSAE:
    return encoder.from_file(formats.SaeFile(config, weights, {}), "here")


def test_oracle_is_the_first_features() -> None:
    features = np.eye(5, 6, dtype=np.float32)
    config, weights = controls.oracle(features, 3)
    assert config["architecture"] == "oracle"
    np.testing.assert_array_equal(weights["W_dec"], features[:3])
    assert not weights["b_dec"].any()
    with pytest.raises(AssayError, match="the world has 5"):
        controls.oracle(features, 6)


@pytest.mark.parametrize("arch", ["standard", "jumprelu"])
def test_best_keeps_the_most_active_latents(arch: str, base: Any) -> None:
    whole = base(arch)
    thin = scored(*controls.best(whole, ROWS, 0.25))
    f, g = whole.encode(ROWS), thin.encode(ROWS)
    kept = set(f.abs().mean(0).topk(3).indices.tolist())  # folded decoder rows have norm 1
    assert {j for j in range(12) if thin.W_dec[j].any()} == kept
    for j in range(12):
        torch.testing.assert_close(g[:, j], f[:, j] if j in kept else torch.zeros(500), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arch", ARCHS)
def test_random_init_has_the_stated_variances(arch: str, base: Any) -> None:
    config, weights = controls.random_init(base(arch), 1.0, "s", "id")
    assert config["architecture"] == {"matching_pursuit": "jumprelu"}.get(arch, arch)
    assert weights["W_enc"].std() == pytest.approx(6**-0.5, rel=0.2)
    assert weights["W_dec"].std() == pytest.approx(12**-0.5, rel=0.2)
    assert not weights["b_enc"].any() and not weights["b_dec"].any()
    assert (weights.get("threshold", np.ones(1)) == 1).all()
    again = controls.random_init(base(arch), 1.0, "s", "id")[1]
    assert (again["W_enc"] == weights["W_enc"]).all()
    assert (controls.random_init(base(arch), 1.0, "s", "other")[1]["W_enc"] != weights["W_enc"]).any()


@pytest.mark.parametrize("arch", ARCHS)
def test_random_l0_matched_has_the_bases_l0(arch: str, base: Any, tmp_path: Any) -> None:
    sae = base(arch)
    config, weights = controls.random_l0_matched(sae, ROWS, "s", "id")
    stored = formats.write(tmp_path / "c", tmp_path / "w", config, weights, {})
    found = encoder.measure(encoder.from_file(stored, "here"), ROWS)["l0"]
    wanted = encoder.measure(sae, ROWS)["l0"]
    # A standard base with most pre-activations positive cannot be matched by positive activations alone.
    assert found == pytest.approx(min(wanted, 6), abs=0.15)


@pytest.mark.parametrize("arch", ["standard", "jumprelu", "topk"])
def test_permuted_decoder_leaves_the_latents_alone(arch: str, base: Any) -> None:
    sae = base(arch)
    permuted = scored(*controls.permuted_decoder(sae, "s", "id"))
    torch.testing.assert_close(permuted.encode(ROWS), sae.encode(ROWS), rtol=1e-5, atol=1e-6)
    rows = [{tuple(np.round(row, 4)) for row in one.W_dec.numpy().tolist()} for one in (sae, permuted)]
    assert rows[0] == rows[1]
    assert not torch.allclose(permuted.W_dec, sae.W_dec)


def test_matching_pursuit_has_no_encoder_to_leave_alone(base: Any) -> None:
    with pytest.raises(AssayError, match="no encoder of its own"):
        controls.permuted_decoder(base("matching_pursuit"), "s")


def test_an_unknown_control(base: Any) -> None:
    with pytest.raises(AssayError, match="no such control"):
        controls.build("worst", base("standard"), ROWS, {}, "s")
