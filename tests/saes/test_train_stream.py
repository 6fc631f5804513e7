"""The jobs that cache a stand-in model's activations and train on them; imports sae_lens (slow)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.lms import stand_in
from tests.lms.test_stream import LIMIT, text, whole

from sae_assay import scratch
from sae_assay.errors import AssayError
from sae_assay.lms import activations, stream
from sae_assay.saes import formats

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
STEPS, BATCH = 8, 16
LM = {"hook": "blocks.1.hook_resid_post", "d_model": 24, "context": 8, "training_tokens": STEPS * BATCH}
CACHE = {"dtype": "fp32", "shard_tokens": 64}
RUNS = [
    {"id": "a", "arch": "batchtopk", "l0": 2, "training_seed": 0, "lr": 1e-2, "widths": None, "snapshot_steps": [1, 4]},
    {"id": "b", "arch": "sampled_matryoshka", "l0": 2, "training_seed": 0, "lr": 1e-2, "widths": None}
    | {"snapshot_steps": [], "prefixes": 2, "smallest_prefix": 3, "recalibrated": True},
]  # fmt: skip
NAMES = ["a.step_0000001", "a.step_0000004", "a", "b", "b.recalibrated"]


def params(lm: dict[str, Any]) -> dict[str, Any]:
    training = {"samples": STEPS * BATCH, "batch_size": BATCH, "dead_feature_window": 4, "decay_fraction": 0.2}
    about = {"study": "s", "substrate": "w", "d_sae": 12, "group": "seed_0", "runs": RUNS, "device": "cpu"}
    return about | {"lm": lm, "training": training | {"checkpoint_steps": 3}}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The text, its norm limit (stands in for text.safetensors) and the model."""
    from sae_assay.steps import lm_shards, train_stream

    monkeypatch.chdir(tmp_path)
    limits = SimpleNamespace(load=lambda path: SimpleNamespace(about={"norm_limit": LIMIT}))
    for step in (lm_shards, train_stream):
        monkeypatch.setattr(step, "Texts", limits)
    monkeypatch.setattr(train_stream, "BUFFER_BATCHES", 64 // BATCH)
    stand_in.write_gguf(tmp_path / "model.gguf")
    stream.save_text(tmp_path / "training.safetensors", text(80), whole()[:60])
    activations.save(tmp_path / "text.safetensors", {"x": torch.zeros(1)}, {})
    return SimpleNamespace(
        **{name: str(tmp_path / name) for name in ("model.gguf", "training.safetensors", "text.safetensors")}
    )


def shards(files: SimpleNamespace) -> list[str]:
    from sae_assay.steps import lm_shards

    Path("shards").mkdir()
    paths = [f"shards/{name}" for name in ("manifest.json", "00000.safetensors", "00001.safetensors")]
    names = {"training": "training.safetensors", "text": "text.safetensors", "model": "model.gguf"}
    inputs = SimpleNamespace(corpus=[], **{name: getattr(files, file) for name, file in names.items()})
    lm_shards.run(inputs, SimpleNamespace(shards=paths), params({**LM, "cache": CACHE}))
    return paths


def trained(files: SimpleNamespace, lm: dict[str, Any], inputs: list[str], folder: str) -> dict[str, str]:
    from sae_assay.steps import train_stream

    places = {name: [f"{folder}/{sae}/{name}" for sae in NAMES] for name in (formats.CONFIG, formats.WEIGHTS)}
    for path in places[formats.CONFIG]:
        Path(path).parent.mkdir(parents=True)
    outputs = SimpleNamespace(cards=places[formats.CONFIG], weights=places[formats.WEIGHTS])
    given = SimpleNamespace(training=getattr(files, "training.safetensors"), corpus=[], stream=inputs)
    train_stream.run(given, outputs, params(lm))
    return {path.removeprefix(folder): scratch.digest(path) for paths in places.values() for path in paths}


def test_shards_and_the_model_give_the_same_saes_and_leave_nothing_behind(files: SimpleNamespace) -> None:
    direct = trained(
        files, {**LM, "cache": "none"}, [getattr(files, "text.safetensors"), getattr(files, "model.gguf")], "one"
    )
    cached = trained(files, {**LM, "cache": CACHE}, shards(files), "two")
    assert direct == cached
    assert [path for path in scratch.ROOT.rglob("*") if path.is_file()] == []
    cards = {name: formats.read(Path("two") / name).card for name in NAMES}
    assert {name: card["sae_id"] for name, card in cards.items()} == {name: name for name in NAMES}
    assert [cards[name]["tokens"] for name in NAMES[:3]] == [16, 64, 128] and cards["b"]["tokens"] is None
    assert [cards[name]["variant"] for name in ("a", "b", "b.recalibrated")] == [None, "n2", "n2.recalibrated"]


def test_activations_of_another_hook_are_refused_before_training(files: SimpleNamespace) -> None:
    paths = shards(files)
    lm = {**LM, "cache": CACHE, "hook": "blocks.2.hook_resid_post"}
    with pytest.raises(AssayError, match=r"manifest.json: the cached activations are of hook blocks.1"):
        trained(files, lm, paths, "three")
