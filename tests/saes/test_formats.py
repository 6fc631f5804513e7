from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from sae_assay.errors import AssayError
from sae_assay.saes import formats


@pytest.fixture
def folder(tmp_path: Path, make_sae: Any) -> Path:
    config, tensors = make_sae("jumprelu")
    formats.write(tmp_path / formats.CONFIG, tmp_path / formats.WEIGHTS, config, tensors, {"arch": "batchtopk"})
    return tmp_path


def replace(folder: Path, **tensors: np.ndarray | None) -> None:
    kept = {**formats.read(folder).tensors, **tensors}
    save_file({name: tensor for name, tensor in kept.items() if tensor is not None}, folder / formats.WEIGHTS)


def test_round_trip_rounds_matrices_and_keeps_vectors(folder: Path, make_sae: Any) -> None:
    _, tensors = make_sae("jumprelu")
    read = formats.read(folder)
    assert read.card == {"arch": "batchtopk"}
    np.testing.assert_array_equal(read.tensors["W_enc"], tensors["W_enc"].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(read.tensors["threshold"], tensors["threshold"])
    assert all(tensor.dtype == np.float32 for tensor in read.tensors.values())


def test_what_write_returns_is_what_is_read(tmp_path: Path, make_sae: Any) -> None:
    config, tensors = make_sae("standard")
    written = formats.write(tmp_path / formats.CONFIG, tmp_path / formats.WEIGHTS, config, tensors, {"step": 3})
    read = formats.read(tmp_path)
    assert (written.config, written.card) == (read.config, read.card)
    for name, tensor in written.tensors.items():
        np.testing.assert_array_equal(tensor, read.tensors[name])


def test_equal_content_gives_equal_bytes(folder: Path, tmp_path: Path, make_sae: Any) -> None:
    config, tensors = make_sae("jumprelu")
    turned = dict(reversed(tensors.items()))
    other = (tmp_path / "c", tmp_path / "w")
    formats.write(*other, dict(reversed(config.items())), turned, {"arch": "batchtopk"})
    assert other[0].read_bytes() == (folder / formats.CONFIG).read_bytes()
    assert other[1].read_bytes() == (folder / formats.WEIGHTS).read_bytes()


def test_bfloat16_is_read(tmp_path: Path) -> None:
    header = {"b_dec": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    header |= {"W_dec": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [4, 8]}}
    text = json.dumps(header).encode()
    values = bytes.fromhex("803f 00c0 0040 003f")  # 1, -2, 2, .5, little-endian
    (tmp_path / formats.WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + values)
    (tmp_path / formats.CONFIG).write_text('{"architecture": "matching_pursuit", "d_in": 2, "d_sae": 1}')
    tensors = formats.read(tmp_path).tensors
    assert tensors["b_dec"].tolist() == [1, -2]
    assert tensors["W_dec"].tolist() == [[2, 0.5]]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"W_enc": None}, "lacks the tensor W_enc"),
        ({"threshold": None}, "lacks the tensor threshold"),
        ({"b_dec": np.zeros(5, np.float32)}, r"b_dec has shape \[5\], cfg.json says \[6\]"),
        ({"W_dec": np.full((12, 6), np.nan, np.float32)}, "W_dec has 72 values that are not finite"),
        ({"b_enc": np.full(12, np.inf, np.float32)}, "b_enc has 12 values that are not finite"),
        ({"b_dec": np.zeros(6, np.int32)}, "b_dec is of type I32"),
    ],
)
def test_bad_tensors_are_named(folder: Path, tensors: dict[str, Any], message: str) -> None:
    replace(folder, **tensors)
    with pytest.raises(AssayError, match=message) as caught:
        formats.read(folder)
    assert caught.value.where.endswith(formats.WEIGHTS)
    assert caught.value.remedy


def test_a_removed_latent_may_have_an_infinite_threshold(folder: Path) -> None:
    replace(folder, threshold=np.full(12, np.inf, np.float32))
    assert np.isinf(formats.read(folder).tensors["threshold"]).all()


@pytest.mark.parametrize("file", [formats.CONFIG, formats.WEIGHTS])
def test_missing_and_truncated_files(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-5])
    with pytest.raises(AssayError, match=r"not (a whole|JSON)"):
        formats.read(folder)
    (folder / file).unlink()
    with pytest.raises(AssayError, match="no such file"):
        formats.read(folder)


@pytest.mark.parametrize(
    ("change", "message"), [({"architecture": "gated"}, "gated cannot be scored"), ({"d_sae": 13}, "cfg.json says")]
)
def test_bad_configuration(folder: Path, change: dict[str, Any], message: str) -> None:
    config = json.loads((folder / formats.CONFIG).read_text())
    (folder / formats.CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(AssayError, match=message):
        formats.read(folder)


def test_configuration_without_widths(folder: Path) -> None:
    (folder / formats.CONFIG).write_text('{"architecture": "standard"}')
    with pytest.raises(AssayError, match="lacks d_in, d_sae"):
        formats.read(folder)
