from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.worlds.forests import arrays

from sae_assay.errors import AssayError
from sae_assay.worlds import sample
from sae_assay.worlds.pool import Pool
from sae_assay.worlds.sampler import Sampler

FEATURES = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [3, 0, 0, 0], [1, 5, 0, 0]], np.float32)
HIDDEN = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.fixture
def pool() -> Pool:
    return Pool.from_dense(HIDDEN, FEATURES)


def test_sparse_rows_hold_what_fired(pool: Pool) -> None:
    assert pool.indptr.tolist() == [0, 2, 2, 3, 5]
    assert pool.indices.tolist() == [1, 3, 0, 0, 1]
    assert pool.values.tolist() == [2, 1, 3, 1, 5]
    assert pool.rates.tolist() == [0.5, 0.5, 0, 0.25]
    assert pool.rows_of(1).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("op", "features", "expected"),
    [
        ("single", [0], [False, False, True, True]),
        ("and", [0, 1], [False, False, False, True]),
        ("or", [0, 3], [True, False, True, True]),
        ("or", [2, 2], [False, False, False, False]),
    ],
)
def test_labels(pool: Pool, op: str, features: list[int], expected: list[bool]) -> None:
    assert pool.labels(op, features).tolist() == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("op", "features"), [("single", [0, 1]), ("xor", [0, 1]), ("or", [])])
def test_no_concept(pool: Pool, op: str, features: list[int]) -> None:
    with pytest.raises(ValueError, match="no concept"):
        pool.labels(op, features)  # type: ignore[arg-type]


def test_activations_are_dense_again_in_any_row_order(pool: Pool) -> None:
    rows = np.array([3, 1, 0, 3])
    np.testing.assert_array_equal(pool.activations(rows, 4), FEATURES[rows])
    np.testing.assert_array_equal(pool.activations(rows, 2), FEATURES[rows, :2])
    assert pool.activations(np.array([], int), 2).shape == (0, 2)


def test_concatenation_equals_one_pool(pool: Pool) -> None:
    parts = [Pool.from_dense(HIDDEN[a:b], FEATURES[a:b]) for a, b in [(0, 1), (1, 3), (3, 4)]]
    whole = Pool.concatenate(parts)
    for name in ("hidden", "indptr", "indices", "values"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pool, name))


def test_file_round_trip_with_equal_bytes(pool: Pool, tmp_path: Path) -> None:
    pool.save(tmp_path / "a")
    loaded = Pool.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert loaded.num_features == 4
    np.testing.assert_array_equal(loaded.activations(np.arange(4), 4), FEATURES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    np.testing.assert_array_equal(loaded.hidden, pool.hidden)


def test_a_stored_pool_makes_its_rows_again_bit_for_bit(tmp_path: Path) -> None:
    world = arrays([0.5, 0.3, 0.2])
    drawn = sample.draw(Sampler(world, None), 700, "t")
    drawn.without_rows().save(tmp_path / "pool")
    assert len(Pool.load(tmp_path / "pool")) == 700 and Pool.load(tmp_path / "pool").hidden.shape == (700, 0)
    np.testing.assert_array_equal(Pool.load(tmp_path / "pool", world).hidden, drawn.hidden)
    with pytest.raises(AssayError, match="has 3 features, the world 2"):
        Pool.load(tmp_path / "pool", arrays([0.5, 0.3]))


def test_missing_and_truncated_files(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="no such pool"):
        Pool.load(tmp_path / "none")
    pool.save(tmp_path / "cut")
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-8])
    with pytest.raises(AssayError, match="not a whole pool"):
        Pool.load(tmp_path / "cut")
