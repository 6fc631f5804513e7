"""Shards of a stand-in model's activations: written, kept after a kill, read and refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lms import stand_in
from tests.lms.test_stream import LAYER, LIMIT, text, whole

from sae_assay import scratch
from sae_assay.errors import AssayError
from sae_assay.lms import shards, stream
from sae_assay.lms.stream import ModelBlocks, TokenRows

SIZES = [10, 10, 4]
WANTED = {"hook": "blocks.1.hook_resid_post", "d_model": 24, "dtype": "fp32"}


def rows() -> TokenRows:
    return TokenRows(stand_in.model(), text(), LAYER, LIMIT)


def cache(folder: Path, dtype: str = "fp32") -> tuple[Path, list[Path]]:
    entries = shards.build(rows(), SIZES, dtype, folder, shards.finished(folder, SIZES))
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**WANTED, "dtype": dtype, "shards": entries}))
    return manifest, [folder / entry["file"] for entry in entries]


@pytest.mark.parametrize(("dtype", "error"), [("fp32", 0.0), ("bf16", 2**-8), ("fp16", 2**-11)])
def test_shards_hold_the_rows_in_order_at_the_types_precision(tmp_path: Path, dtype: str, error: float) -> None:
    manifest, files = cache(tmp_path, dtype)
    found = shards.Shards(manifest, files, WANTED | {"dtype": dtype})
    assert found.sizes == SIZES
    parts = [found.read(i) for i in range(3)]
    assert {part.dtype for part in parts} == {stream.DTYPES[dtype]}
    torch.testing.assert_close(torch.cat(parts).float(), whole()[:24], rtol=error, atol=0)
    size = sum(file.stat().st_size for file in files)
    assert 24 * 24 * parts[0].element_size() < size < 24 * 24 * parts[0].element_size() + 3 * 256


def test_an_sae_sees_the_same_batches_from_the_model_as_from_float32_shards(tmp_path: Path) -> None:
    manifest, files = cache(tmp_path)
    kept = stream.batches(shards.Shards(manifest, files, WANTED), 2, ("t",))
    direct = stream.batches(ModelBlocks(rows(), SIZES), 2, ("t",))
    for one, other in itertools.islice(zip(kept, direct, strict=False), 30):  # two passes and a half
        assert torch.equal(one, other)


def _lost_last(folder: Path) -> None:
    (folder / "00002.safetensors").unlink()


def _torn_journal(folder: Path) -> None:
    journal = folder / scratch.JOURNAL
    journal.write_text(journal.read_text()[:-20])


def _flipped_middle(folder: Path) -> None:
    file = folder / "00001.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _left_over(folder: Path) -> None:
    (folder / shards.PART).write_bytes(b"half a shard")


@pytest.mark.parametrize(
    ("damage", "kept"), [(_lost_last, 2), (_torn_journal, 2), (_flipped_middle, 1), (_left_over, 3)]
)
def test_a_restart_keeps_whole_shards_and_makes_the_same_bytes(tmp_path: Path, damage: Any, kept: int) -> None:
    _, files = cache(tmp_path)
    before = [scratch.digest(file) for file in files]
    damage(tmp_path)
    assert len(shards.finished(tmp_path, SIZES)) == kept
    times = [file.stat().st_mtime_ns for file in files[:kept]]
    cache(tmp_path)
    assert [scratch.digest(file) for file in files] == before
    assert [file.stat().st_mtime_ns for file in files[:kept]] == times
    assert len((tmp_path / scratch.JOURNAL).read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hook": "blocks.2.hook_resid_post"}, "of hook blocks.1.hook_resid_post, the study's of blocks.2"),
        ({"d_model": 48}, "of d_model 24, the study's of 48"),
        ({"dtype": "bf16"}, "of dtype fp32, the study's of bf16"),
    ],
)
def test_activations_of_something_else_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    manifest, files = cache(tmp_path)
    with pytest.raises(AssayError, match=message):
        shards.Shards(manifest, files, WANTED | change)


def test_damaged_shards_and_manifests_are_refused(tmp_path: Path) -> None:
    manifest, files = cache(tmp_path)
    _flipped_middle(tmp_path)
    found = shards.Shards(manifest, files, WANTED)
    found.read(0, then=1)
    with pytest.raises(AssayError, match=r"00001.safetensors: has other bytes than its manifest says"):
        found.read(1)
    with pytest.raises(AssayError, match="names other shards"):
        shards.Shards(manifest, files[:2], WANTED)
    manifest.write_text('{"shards": ')
    with pytest.raises(AssayError, match="no whole manifest"):
        shards.Shards(manifest, files, WANTED)
