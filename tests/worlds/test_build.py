"""Worlds through sae_lens.synthetic (slow), and the errors of their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.worlds.forests import arrays

from sae_assay.errors import AssayError
from sae_assay.study.worlds import WorldConfig
from sae_assay.worlds import build, sample
from sae_assay.worlds.pool import Pool
from sae_assay.worlds.sampler import Sampler

CONFIG = WorldConfig.model_validate(
    {
        "num_features": 40,
        "hidden_dim": 12,
        "hierarchy": {"roots": 2, "branching": 2, "depth": 2},
        "correlation": {"rank": 3},
    }
)


def files(folder: Path, config: WorldConfig = CONFIG) -> tuple[Path, Path]:
    paths = folder / "world.safetensors", folder / "world.json"
    build.save_world(build.build(config, "w"), config, *paths)
    return paths


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_dictionary_for_another_device_has_the_same_draws() -> None:
    assert CONFIG.orthogonalization is not None
    here, there = (build.arrays_of(build.build(CONFIG, "w", device)) for device in ("cpu", "cpu:0"))
    assert all(np.array_equal(there[name], array) for name, array in here.items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_equal_configurations_give_equal_files(tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    assert [p.read_bytes() for p in files(tmp_path)] == [p.read_bytes() for p in files(again)]
    arrays = build.read_arrays(tmp_path / "world.safetensors")
    np.testing.assert_allclose(np.linalg.norm(arrays["feature_vectors"], axis=1), 1, rtol=1e-5)
    assert np.linalg.norm(arrays["bias"]) == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_hierarchy_is_breadth_first(tmp_path: Path) -> None:
    nodes = build.read_json(files(tmp_path)[1])["hierarchy"]
    assert [n["feature"] for n in nodes] == list(range(14))
    assert [n["parent"] for n in nodes] == [None, None, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [n["root"] for n in nodes] == [0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert [n["depth"] for n in nodes] == [0] * 2 + [1] * 4 + [2] * 8
    assert [n["exclusive_children"] for n in nodes] == [True] * 6 + [False] * 8
    assert not any(n["scales_children"] for n in nodes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_world_without_hierarchy_correlation_or_bias(tmp_path: Path) -> None:
    config = WorldConfig(num_features=20, hidden_dim=8, hierarchy=None, correlation=None, bias_norm=0)
    paths = files(tmp_path, config)
    assert build.read_json(paths[1])["hierarchy"] is None
    arrays = build.read_arrays(paths[0])
    assert not arrays["bias"].any() and not set(build.CORRELATION) & set(arrays)


def test_files_that_are_no_world(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for read in (build.read_arrays, build.read_json, sample.load_rows, sample.load_features, Pool.load):
        with pytest.raises(AssayError, match="no such"):
            read(tmp_path / "none")
        file.write_bytes(b"{}")
        with pytest.raises(AssayError, match="not a") as caught:
            read(file)
        assert caught.value.where == str(file)


def test_training_rows_round_trip(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    sample.save_rows(tmp_path / "rows", rows, rows[:1])
    loaded = sample.load_rows(tmp_path / "rows")
    np.testing.assert_array_equal(loaded["rows"], rows)
    np.testing.assert_array_equal(loaded["calibration"], rows[:1])


def test_a_worlds_training_rows_round_trip_as_features(tmp_path: Path) -> None:
    sampler = Sampler(arrays([0.5, 0.3, 0.2]), None)
    features = sample.draw_features(sampler, 600, "t", "training")
    np.testing.assert_array_equal(sampler.hidden(features), sample.draw_hidden(sampler, 600, "t", "training"))
    sample.save_features(tmp_path / "rows", features, np.ones((2, 4), np.float32))
    loaded = sample.load_features(tmp_path / "rows")
    assert (loaded != features).nnz == 0 and loaded.shape == (600, 3) and loaded.data.dtype == np.float32
    np.testing.assert_array_equal(sample.load_calibration(tmp_path / "rows"), np.ones((2, 4)))
