from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.saes.conftest import D_IN, D_SAE

from sae_assay.errors import AssayError
from sae_assay.saes import encoder, formats
from sae_assay.steps import published_saes

ONE = {
    "id": "published_x",
    "input": "saes",
    "folder": "btk/l0-3/seed-1",
    "arch": "batchtopk",
    "l0": 3,
    "training_seed": 1,
}
ROWS = torch.from_numpy(np.random.default_rng(2).standard_normal((200, D_IN)).astype(np.float32))


@pytest.fixture
def fetched(make_sae: Any, tmp_path: Path) -> Path:
    """A folder as the hub serves it: SAELens's files, no card of ours."""
    config, weights = make_sae("jumprelu")
    folder = tmp_path / "fetched"
    folder.mkdir()
    formats.write(folder / formats.CONFIG, folder / formats.WEIGHTS, config, weights, {}, "float32")
    return folder


def take(folder: Path, target: Path, shape: tuple[int, int] = (D_SAE, D_IN)) -> Path:
    target.mkdir(exist_ok=True)
    published_saes.take(folder, ONE, shape, ROWS, str(target / formats.CONFIG), str(target / formats.WEIGHTS))
    return target


def test_a_published_sae_becomes_a_panel_entry_with_the_same_latents(fetched: Path, tmp_path: Path) -> None:
    before, after = encoder.load(fetched), encoder.load(take(fetched, tmp_path / "taken"))
    torch.testing.assert_close(before.encode(ROWS), after.encode(ROWS), rtol=0, atol=0)
    expected = {"arch": "batchtopk", "target_l0": 3.0, "training_seed": 1, "panel": "panel", "is_final": True}
    assert expected.items() <= after.card.items()
    assert after.card["published"] == "saes: btk/l0-3/seed-1"
    assert after.card["l0"] == pytest.approx(float((before.encode(ROWS) != 0).sum(1).float().mean()))


def test_an_sae_of_another_width_is_refused(fetched: Path, tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=f"published_x: has {D_SAE} latents of width {D_IN}, the study 99 of width"):
        take(fetched, tmp_path / "taken", (99, D_IN))
    with pytest.raises(AssayError, match="of width 7"):
        take(fetched, tmp_path / "taken", (D_SAE, 7))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w["W_enc"].__setitem__((1, 2), np.nan), "W_enc has 1 values that are not finite"),
        (lambda w: w.pop("threshold"), "lacks the tensor threshold"),
        (lambda w: w.__setitem__("b_enc", w["b_enc"][:-1]), "b_enc has shape"),
    ],
)
def test_a_broken_file_is_named(fetched: Path, tmp_path: Path, change: Any, said: str) -> None:
    weights = load_file(fetched / formats.WEIGHTS)
    change(weights)
    save_file(weights, fetched / formats.WEIGHTS)
    with pytest.raises(AssayError, match=said):
        take(fetched, tmp_path / "taken")
