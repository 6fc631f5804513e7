"""Gemma Scope through sae_lens's own list and loader; only the download is a stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.lms.test_registry import HUB

from sae_assay.errors import AssayError
from sae_assay.saes import encoder, formats, releases
from sae_assay.steps import published_saes

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]
RELEASE, SAE_ID = "gemma-scope-2b-pt-res-canonical", "layer_12/width_16k/canonical"
FOLDER, REVISION = "layer_12/width_16k/average_l0_82", "0" * 40
D_IN, D_SAE = 2304, 16384


@pytest.fixture(scope="module")
def params() -> dict[str, np.ndarray]:
    """Weights as Gemma Scope's params.npz has them, at its true size; drawn, not Gemma Scope's."""
    rng = np.random.default_rng(0)
    decoder = rng.standard_normal((D_SAE, D_IN), dtype=np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    return {
        "W_enc": np.ascontiguousarray(decoder.T),
        "W_dec": decoder,
        "b_enc": np.zeros(D_SAE, np.float32),
        "b_dec": rng.standard_normal(D_IN, dtype=np.float32),
        "threshold": np.full(D_SAE, 2.0, np.float32),
    }


def register(tmp_path: Path, **changes: Any) -> Path:
    source = HUB | {"repository": "google/gemma-scope-2b-pt-res", "revision": REVISION, "files": ["params.npz"]}
    source |= {"folders": [FOLDER]} | changes
    entry = {"title": "t", "used_for": "u", "source": source, "obtained": "fetched", "licence": "CC-BY-4.0"}
    path = tmp_path / "registry.yaml"
    path.write_text(yaml.safe_dump({"gemma-scope": entry}))
    return path


def test_gemma_scope_becomes_a_panel_entry_with_jumprelu_latents(
    params: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str]] = []
    np.savez(tmp_path / "params.npz", **params)

    def download(repository: str, path: str, revision: str) -> str:
        asked.append((repository, path, revision))
        return str(tmp_path / "params.npz")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    releases.fetch("gemma-scope", (RELEASE, SAE_ID), tmp_path / "fetched", register(tmp_path))
    assert asked == [("google/gemma-scope-2b-pt-res", f"{FOLDER}/params.npz", REVISION)]
    one = {
        "id": "published_gemma",
        "input": "gemma-scope",
        "folder": SAE_ID,
        "arch": "jumprelu",
        "l0": 82,
        "training_seed": 0,
    }
    rows = torch.from_numpy(np.random.default_rng(1).standard_normal((20, D_IN), dtype=np.float32))
    (tmp_path / "taken").mkdir()
    target = [str(tmp_path / "taken" / name) for name in (formats.CONFIG, formats.WEIGHTS)]
    published_saes.take(tmp_path / "fetched", one, (None, D_IN), rows, *target)
    taken = encoder.load(tmp_path / "taken")
    assert (taken.d_sae, taken.arch, taken.card["published"]) == (D_SAE, "jumprelu", f"gemma-scope: {SAE_ID}")
    pre = rows.numpy() @ params["W_enc"] + params["b_enc"]  # Gemma Scope subtracts no b_dec from its input
    expected = np.where(pre > params["threshold"], pre, 0)
    np.testing.assert_allclose(taken.encode(rows).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert 0 < taken.card["l0"] == pytest.approx((expected != 0).sum(1).mean(), rel=1e-3)


def test_what_is_not_registered_or_unknown_is_named(tmp_path: Path) -> None:
    def fails(said: str, sae: tuple[str, str] = (RELEASE, SAE_ID), **changes: Any) -> None:
        with pytest.raises(AssayError, match=said):
            releases.fetch("gemma-scope", sae, tmp_path / "t", register(tmp_path, **changes))

    fails(r"gemma-scope has no pinned revision \(no hub\)", revision=None)
    fails("gemma-scope has no 'layer_12/width_16k/average_l0_82', where", folders=["layer_1"])
    fails("no-release: is no release that sae_lens knows", ("no-release", SAE_ID))
    fails("has no SAE layer_99.*use one of its ids", (RELEASE, "layer_99"))
    fails("is a/b, and .* lies in google/gemma-scope-2b-pt-res", repository="a/b")


def test_without_a_hub_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AssayError, match=r"params.npz: could not be fetched .*HF_HOME"):
        releases.fetch("gemma-scope", (RELEASE, SAE_ID), tmp_path / "t", register(tmp_path))
