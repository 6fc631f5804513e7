"""Worlds that `SyntheticModel.save` wrote: taken over whole, sampled as the library samples them, refused where broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.worlds.test_sampler import deviations

from sae_assay.errors import AssayError
from sae_assay.steps import world as step
from sae_assay.study.worlds import WorldConfig
from sae_assay.worlds import build, sample
from sae_assay.worlds.pool import Pool
from sae_assay.worlds.sampler import Sampler

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CONFIG = WorldConfig.model_validate(
    {
        "num_features": 40,
        "hidden_dim": 12,
        "hierarchy": {"roots": 2, "branching": 3, "depth": 2, "scale_children_by_parent": True},
        "correlation": {"rank": 3},
    }
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "world"
    build.build(CONFIG, "w").save(folder)
    return folder


def take(folder: Path, target: Path) -> tuple[Path, Path]:
    """Run the workflow's step on a folder."""
    outputs = SimpleNamespace(weights=target / "world.safetensors", card=target / "world.json")
    params = {"substrate": "s", "world": None, "published_world": {"path": str(folder)}}
    step.run(SimpleNamespace(published=[]), outputs, params)
    return outputs.weights, outputs.card


def test_a_published_world_equals_the_one_that_is_built(saved: Path, tmp_path: Path) -> None:
    taken = take(saved, tmp_path)
    build.save_world(build.build(CONFIG, "w"), CONFIG, tmp_path / "built", tmp_path / "built.json")
    one, other = build.read_arrays(taken[0]), build.read_arrays(tmp_path / "built")
    assert set(one) == set(other)
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-4, err_msg=name)
    cards = [build.read_json(path) for path in (taken[1], tmp_path / "built.json")]
    assert cards[0]["hierarchy"] == cards[1]["hierarchy"] and any(n["scales_children"] for n in cards[0]["hierarchy"])
    assert (cards[0]["num_features"], cards[0]["hidden_dim"]) == (40, 12)
    assert cards[0]["config"]["published"] == {"path": str(saved)}


@pytest.mark.parametrize("plain", [False, True])
def test_a_variant_is_sampled_as_the_library_samples_it(saved: Path, tmp_path: Path, plain: bool) -> None:
    """Constant spread, and halved probabilities that stand in the file alone: the library follows them only where the
    features do not correlate (`plain`, here also without a hierarchy)."""
    import torch
    from sae_lens.synthetic import SyntheticModel
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "variant"
    shutil.copytree(saved, folder)
    _change(folder, std_firing_magnitudes=2.5, **({"correlation": None, "hierarchy": None} if plain else {}))
    weights = load_file(folder / "synthetic_model.safetensors")
    weights["firing_probabilities"] /= 2
    if plain:
        (folder / "hierarchy.json").unlink()
        weights = {name: t for name, t in weights.items() if "correlation" not in name}
    save_file(weights, folder / "synthetic_model.safetensors")
    paths = take(folder, tmp_path)
    nodes = build.read_json(paths[1])["hierarchy"]
    assert (nodes is None) == plain
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        hidden, features = SyntheticModel.load_from_disk(folder).sample_with_features(60_000)
    theirs = Pool.from_dense(hidden.numpy(), features.numpy())
    ours = sample.draw(Sampler(build.read_arrays(paths[0]), nodes), 60_000, "test")
    assert max(deviations(ours, theirs).values()) < 5


@pytest.mark.parametrize(
    ("break_", "said"),
    [
        (lambda f: (f / "synthetic_model.safetensors").unlink(), r"lacks a file.*synthetic_model.safetensors"),
        (lambda f: (f / "synthetic_model_config.json").unlink(), r"lacks a file.*synthetic_model_config.json"),
        (lambda f: (f / "synthetic_model.safetensors").write_bytes(b"abc"), "no world that SyntheticModel.save wrote"),
        (lambda f: (f / "synthetic_model_config.json").write_text("{}"), "no world that SyntheticModel.save wrote"),
        (lambda f: _change(f, num_features=41), "41"),
        (lambda f: _spoil(f), "feature_vectors: values that are not finite"),
    ],
)
def test_a_broken_folder_is_named(saved: Path, tmp_path: Path, break_: Any, said: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(saved, folder)
    break_(folder)
    with pytest.raises(AssayError, match=said) as caught:
        take(folder, tmp_path)
    assert "What to do" in str(caught.value)


def _change(folder: Path, **changes: Any) -> None:
    file = folder / "synthetic_model_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _spoil(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "synthetic_model.safetensors")
    weights["feature_vectors"][3, 2] = float("nan")
    save_file(weights, folder / "synthetic_model.safetensors")
