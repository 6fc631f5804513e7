"""The controls step from files: cards, order of outputs, equal bytes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sae_assay.saes import encoder, formats
from sae_assay.steps import controls
from sae_assay.worlds import build, sample

BASE = "jumprelu_l0_03_seed_0"
KINDS = ["best", "random_init", "random_l0_matched", "permuted_decoder"]
PARAMS = {
    "study": "s",
    "substrate": "w",
    "d_sae": 12,
    "options": {"bases": [BASE], "best_fraction": 0.25, "random_init_threshold": 1.0},
    "controls": [
        {"id": "oracle", "kind": "oracle", "base": None},
        *({"id": f"{kind}.of.{BASE}", "kind": kind, "base": BASE} for kind in KINDS),
    ],
}


@pytest.fixture
def inputs(tmp_path: Path, make_sae: Any) -> SimpleNamespace:
    draw = np.random.default_rng(0).standard_normal
    shapes = {"feature_vectors": (20, 6), "bias": (6,)} | dict.fromkeys(build.ARRAYS[2:], (20,))
    arrays = {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}
    build.write_world(arrays, {}, None, tmp_path / "world", tmp_path / "json")
    sample.save_rows(tmp_path / "rows", draw((9, 6)).astype(np.float32), draw((300, 6)).astype(np.float32))
    card = {"arch": "batchtopk", "target_l0": 3.0, "training_seed": 0, "step": 9}
    formats.write(tmp_path / "card", tmp_path / "weights", *make_sae("jumprelu"), card)
    return SimpleNamespace(
        weights=tmp_path / "world",
        training=tmp_path / "rows",
        base_cards=[tmp_path / "card"],
        base_weights=[tmp_path / "weights"],
    )


def outputs(folder: Path) -> SimpleNamespace:
    folders = [folder / one["id"] for one in PARAMS["controls"]]  # type: ignore[index]
    for one in folders:
        one.mkdir(parents=True)
    return SimpleNamespace(cards=[f / formats.CONFIG for f in folders], weights=[f / formats.WEIGHTS for f in folders])


def test_every_control_is_written_with_its_card(inputs: SimpleNamespace, tmp_path: Path) -> None:
    written, again = outputs(tmp_path / "one"), outputs(tmp_path / "two")
    controls.run(inputs, written, PARAMS)
    controls.run(inputs, again, PARAMS)
    for side in ("cards", "weights"):
        for one, other in zip(getattr(written, side), getattr(again, side), strict=True):
            assert one.read_bytes() == other.read_bytes()
    saes = [encoder.load(path.parent) for path in written.cards]
    assert saes[0].arch == "oracle"
    assert (saes[0].card["control"], saes[0].card["base_sae_id"]) == ("oracle", None)
    for kind, sae in zip(KINDS, saes[1:], strict=True):
        card = sae.card
        assert (card["control"], card["base_sae_id"], card["arch"], card["panel"]) == (
            kind,
            BASE,
            "batchtopk",
            "control",
        )
        assert (card["step"], card["is_final"], card["target_l0"]) == (None, True, 3.0)
    base = encoder.from_file(formats.read_files(inputs.base_cards[0], inputs.base_weights[0]), "base")
    l0 = encoder.measure(base, torch.from_numpy(sample.load_rows(inputs.training)["calibration"]))["l0"]
    by_kind = dict(zip(KINDS, saes[1:], strict=True))
    assert by_kind["permuted_decoder"].card["l0"] == pytest.approx(l0, abs=0.05)
    assert by_kind["random_l0_matched"].card["l0"] == pytest.approx(l0, abs=0.05)
    assert by_kind["best"].card["dead_latents"] >= 9
