"""Values by hand on small SAEs, and equality with sae_lens on every architecture and normalisation (slow)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_assay.errors import AssayError
from sae_assay.saes import encoder, formats


def light(config: dict[str, Any], **tensors: Any) -> encoder.LightSAE:
    arrays = {name: np.array(value, np.float32) for name, value in tensors.items()}
    return encoder.from_file(formats.SaeFile(config, arrays, {}), "here")


EYE = {"W_enc": [[1, 0], [0, 1]], "W_dec": [[2, 0], [0, 1]], "b_enc": [0, -1], "b_dec": [1, 0]}


def test_standard_subtracts_the_decoder_bias_and_folds_norms() -> None:
    sae = light({"architecture": "standard", "apply_b_dec_to_input": True}, **EYE)
    x = torch.tensor([[3.0, 3.0], [0.0, 0.5]])
    assert sae.W_dec.tolist() == [[1, 0], [0, 1]]
    assert sae.encode(x).tolist() == [[4, 2], [0, 0]]  # (3 - 1) * 2, 3 - 1; the bias leaves nothing of the second row
    assert sae.decode(sae.encode(x)).tolist() == [[5, 2], [1, 0]]
    assert light({"architecture": "standard", "apply_b_dec_to_input": False}, **EYE).encode(x).tolist() == [
        [6, 2],
        [0, 0],
    ]


def test_jumprelu_is_active_only_above_its_folded_threshold() -> None:
    sae = light({"architecture": "jumprelu", "apply_b_dec_to_input": False}, **EYE, threshold=[1, 1])
    assert sae.threshold.tolist() == [2, 1]  # type: ignore[union-attr]
    assert sae.encode(torch.tensor([[1.0, 2.0], [1.5, 2.5]])).tolist() == [[0, 0], [3, 1.5]]


def test_topk_keeps_the_largest() -> None:
    plain = light({"architecture": "topk", "k": 1, "apply_b_dec_to_input": False}, **EYE)
    scaled = light(
        {"architecture": "topk", "k": 1, "apply_b_dec_to_input": False, "rescale_acts_by_decoder_norm": True}, **EYE
    )
    x = torch.tensor([[2.0, 4.0]])
    assert plain.encode(x).tolist() == [[0, 3]]
    assert scaled.encode(x).tolist() == [[4, 0]]  # norm 2 lifts the first latent


def test_matching_pursuit_takes_latents_greedily() -> None:
    config = {"architecture": "matching_pursuit", "max_iterations": 2, "apply_b_dec_to_input": False}
    diagonal = [2**-0.5, 2**-0.5]
    sae = light(config, W_dec=[[1, 0], diagonal], b_dec=[0, 0])
    latents = sae.encode(torch.tensor([[1.0, 1.0], [3.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(latents, torch.tensor([[0, 2**0.5], [3, 0], [0, 0]]))


def test_pursuit_is_greedy_whatever_rows_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a pursuit that compares the residual with every decoder row anew."""
    g = torch.Generator().manual_seed(0)
    W_dec = torch.nn.functional.normalize(torch.randn(60, 12, generator=g), dim=1)
    x = 3 * torch.randn(50, 12, generator=g)
    config = {"architecture": "matching_pursuit", "max_iterations": 7, "residual_threshold": 1.0}
    sae = light(config, W_dec=W_dec.tolist(), b_dec=[0] * 12)
    wanted = torch.zeros(50, 60)
    for row, residual in enumerate(x.clone()):
        for _ in range(7):
            value, chosen = (W_dec @ residual).max(0)
            stop = bool(wanted[row, chosen] != 0)
            wanted[row, chosen] += value
            residual -= value * W_dec[chosen]
            if stop or residual.norm() < 1:
                break
    for together in (64, 7):
        monkeypatch.setattr(encoder, "PURSUIT_ROWS", together)
        torch.testing.assert_close(sae.encode(x), wanted)
    assert 1 < (wanted != 0).sum(1).float().mean() < 7


def test_measure_counts_by_hand() -> None:
    sae = light(
        {"architecture": "standard", "apply_b_dec_to_input": False}, **{**EYE, "b_enc": [0, -9], "b_dec": [0, 0]}
    )
    found = encoder.measure(sae, torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    # It reconstructs 2 and 6: squared errors 1 + 9; variance about the mean 1 is 0 + 4 + 1 + 1.
    assert found == {"l0": 0.5, "explained_variance": pytest.approx(1 - 10 / 6), "dead_latents": 1}


def test_an_oracle_has_no_encoder() -> None:
    sae = light({"architecture": "oracle"}, W_dec=[[1, 0]], b_dec=[0, 0])
    assert sae.decode(torch.tensor([[2.0]])).tolist() == [[2, 0]]
    with pytest.raises(AssayError, match="true activations"):
        sae.encode(torch.ones(1, 2))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"normalize_activations": "expected_average_only_in"}, "scale is not in the file"),
        ({"reshape_activations": "hook_z"}, "attention heads"),
    ],
)
def test_what_cannot_be_scored(config: dict[str, Any], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        light({"architecture": "standard", **config}, **EYE)


def test_rows_of_another_width() -> None:
    with pytest.raises(AssayError, match="reads 2 dimensions, not 3"):
        light({"architecture": "standard"}, **EYE).encode(torch.ones(1, 3))


CASES = [
    (arch, {"apply_b_dec_to_input": bias, "normalize_activations": mode, **more})
    for bias in (True, False)
    for mode in ("none", "layer_norm", "constant_norm_rescale")
    for arch, more in [
        ("standard", {}),
        ("jumprelu", {}),
        ("topk", {"k": 3, "rescale_acts_by_decoder_norm": True}),
        ("topk", {"k": 3, "rescale_acts_by_decoder_norm": False}),
        ("matching_pursuit", {"max_iterations": 4, "residual_threshold": 0.5, "stop_on_duplicate_support": True}),
        ("matching_pursuit", {"max_iterations": 4, "residual_threshold": 0.0, "stop_on_duplicate_support": False}),
    ]
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of sae_lens and what it imports
@pytest.mark.parametrize(("arch", "config"), CASES)
def test_equals_sae_lens(arch: str, config: dict[str, Any], tmp_path: Path, make_sae: Any) -> None:
    from sae_lens import SAE

    base, tensors = make_sae(arch, **config)
    formats.write(tmp_path / formats.CONFIG, tmp_path / formats.WEIGHTS, base, tensors, {"arch": arch})
    folds = arch in ("standard", "jumprelu") or config.get("rescale_acts_by_decoder_norm", False)
    theirs = SAE.load_from_disk(tmp_path, fold_W_dec_norm=folds)
    ours = encoder.load(tmp_path)
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)) * 2
    with torch.no_grad():
        latents = theirs.encode(x)
        out = theirs.decode(latents)
    torch.testing.assert_close(ours.encode(x), latents, rtol=1e-5, atol=1e-5)
    assert ((ours.encode(x) != 0) == (latents != 0)).all()
    torch.testing.assert_close(ours.decode(latents, x), out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.W_dec, theirs.W_dec.detach(), rtol=1e-6, atol=1e-6)
    assert theirs.cfg.metadata.sae_assay == {"arch": arch}
