"""Compiled pursuit has sae_lens's bits: its sums, its choice where float32 cannot tell, its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from sae_assay import numerics
from sae_assay.saes import encoder, factored, formats, pursuit
from sae_assay.worlds.pool import Pool

FEATURES, D_IN, ROWS = 150, 100, 500

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="torch sums in another order here"
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [8, 31, 32, 50, 100, 512, 513, 544, 768, 1000, 1024, 2304, 4096])
def test_sums_have_torchs_bits(width: int) -> None:
    x, y = drawn(100, width), drawn(100, width, seed=1)
    sums, earlier = np.empty(pursuit.LANES, np.float32), np.empty(pursuit.LANES, np.float32)
    found = [pursuit._dot(a, b, sums, earlier) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    assert np.array_equal(np.array(found, np.float32), (x * y).sum(-1).numpy())


def test_rounded_products_are_within_half_a_part() -> None:
    config = {"architecture": "matching_pursuit"}
    arrays: dict[str, Any] = {"W_dec": 3 * drawn(70, D_IN).numpy(), "b_dec": np.zeros(D_IN, np.float32)}
    sae = encoder.from_file(formats.SaeFile(config, arrays, {}), "here")
    products = pursuit.Products.of(sae)
    off = np.abs(products.parts * np.float64(products.part) - sae.gram.numpy())
    assert off.max() <= products.part * 0.5001 and np.abs(products.parts).max() == np.iinfo(np.int16).max


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of sae_lens and what it imports
@pytest.mark.parametrize(
    ("d_sae", "most", "threshold", "stops"),
    [
        (180, 12, 0.0, False),
        (180, 12, 1.0, True),
        (180, None, 1e-2, True),  # until nothing is left
        (3, 40, 0.0, False),  # soon no latent fits
    ],
)
def test_latents_are_sae_lenss_bit_for_bit(
    d_sae: int, most: int | None, threshold: float, stops: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sae_lens import SAE

    monkeypatch.setattr(factored, "WORTHWHILE", 0)
    monkeypatch.setattr(factored, "FEWER", 1)
    monkeypatch.setattr(factored, "PURSUED_ROWS", 100)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    numerics._overrides.clear()  # the library multiplies by torch's own kernels
    W_dec = torch.nn.functional.normalize(drawn(d_sae, D_IN))
    first = W_dec[: min(40, d_sae - 1) : 2]
    W_dec[1 : 2 * len(first) : 2] = torch.nextafter(first, first.flip(1))  # pairs that float32 hardly tells apart
    config = {
        "architecture": "matching_pursuit",
        "d_in": D_IN,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "max_iterations": most,
        "residual_threshold": threshold,
        "stop_on_duplicate_support": stops,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    arrays: dict[str, Any] = {"W_dec": W_dec.numpy(), "b_dec": drawn(D_IN, seed=2).numpy()}
    formats.write(tmp_path / formats.CONFIG, tmp_path / formats.WEIGHTS, config, arrays, {})
    activations = 4 * drawn(ROWS, FEATURES, seed=3).relu().numpy() * (drawn(ROWS, FEATURES, seed=4) > 1).numpy()
    made = {"feature_vectors": drawn(FEATURES, D_IN, seed=5).numpy(), "bias": drawn(D_IN, seed=6).numpy()}
    pool = Pool.of_features(csr_array(activations.astype(np.float32))).in_world(made, "here")
    reader = factored.factored(encoder.load(tmp_path), pool, made)
    assert reader is not None
    with torch.no_grad():
        theirs = SAE.load_from_disk(tmp_path).encode(torch.from_numpy(pool.hidden))
    asked: list[int] = []
    again = pursuit.Pursuit.as_sae_lens
    monkeypatch.setattr(pursuit.Pursuit, "as_sae_lens", lambda self, x: asked.append(len(x)) or again(self, x))
    assert torch.equal(reader.encode(pool).dense(), theirs)
    assert (theirs != 0).any(1).float().mean() > 0.5 and (0 < sum(asked) < ROWS or d_sae == 3)
