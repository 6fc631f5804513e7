"""Trains a group of SAEs side by side on a language model's stream of activations; a killed job goes on where it was saved."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from sae_assay import numerics, scratch
from sae_assay.errors import AssayError
from sae_assay.lms import stream
from sae_assay.lms.layout import block_rows
from sae_assay.lms.shards import Shards
from sae_assay.lms.texts import Texts
from sae_assay.saes import formats
from sae_assay.saes.settings import RunSettings
from sae_assay.steps.lm_shards import open_text, training_text

if TYPE_CHECKING:
    from sae_assay.saes.side_by_side import Group

BUFFER_BATCHES = 64
"""Batches that lie in memory, and are shuffled, where activations come straight from the model."""


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Train every run of a group.

    Args:
        inputs: `training` (the text and calibration rows, see lms/stream.py), `corpus` (the text, where it has a source of
            its own: lms/corpus.py), `stream`: the manifest and all shards, or, without a cache, the text's norm limit and the
            model.
        outputs: `cards` and `weights`: run by run its unfinished snapshots in order, then the finished SAE; behind them
            the same recalibrated, where the run says so.
        params: as for `train`; also `lm` (hook, training_tokens, cache) and `group`.
    """
    device = numerics.begin(params)
    settings = [_settings(one, params, device) for one in params["runs"]]
    for one, run_settings in zip(params["runs"], settings, strict=True):  # before sae_lens is imported
        run_settings.check_settings(one["snapshot_steps"])
    windows, calibration = training_text(inputs, params)
    blocks = _blocks(inputs.stream, windows, params, device)
    from sae_assay.saes.side_by_side import SAES, Group, Member

    pairs = zip(settings, params["runs"], strict=True)
    members = [Member(run, one["snapshot_steps"], bool(one.get("recalibrated"))) for run, one in pairs]
    job = (params["study"], params["substrate"], f"train_{params['group']}")
    folder = scratch.folder(job, params, [inputs.training, *inputs.corpus, *inputs.stream[:2]], device)
    _train(Group(members, calibration, folder), blocks, params)
    names = [sae_id for member in members for sae_id in member.ids]
    for name, card, weights in zip(names, outputs.cards, outputs.weights, strict=True):
        for file, target in ((formats.CONFIG, card), (formats.WEIGHTS, weights)):
            scratch.hand_over(folder / SAES / name / file, target)
    shutil.rmtree(folder)


def _train(group: Group, blocks: stream.Blocks, params: dict[str, Any]) -> None:
    """Train from the last checkpoint, if there is one, to the end."""
    places = blocks.places if isinstance(blocks, stream.ModelBlocks) else []
    saved = group.resume()
    if places and saved:
        places[:] = [stream.Position(*place) for place in saved["places"]]
    batches = _batches(blocks, params, group.done)
    group.fit(batches, params["training"]["checkpoint_steps"], lambda: {"places": list(map(list, places))})


def _settings(one: dict[str, Any], params: dict[str, Any], device: str) -> RunSettings:
    training = params["training"]
    scale = training.get("normalize_activations") or "expected_average_only_in"
    more = {"normalize_activations": scale, "hook": params["lm"]["hook"], "device": device}
    return RunSettings.of(one, training, params["d_sae"], (params["study"], params["substrate"]), **more)


def _blocks(files: list[str], windows: Any, params: dict[str, Any], device: str) -> stream.Blocks:
    """Shards, or the model's own blocks; all are checked before anything is trained."""
    lm = params["lm"]
    if lm["cache"] == "none":
        text, model = files
        rows = open_text(model, windows, lm, Texts.load(text).about["norm_limit"], device)
        size = BUFFER_BATCHES * params["training"]["batch_size"]
        return stream.ModelBlocks(rows, block_rows(lm["training_tokens"], size))
    wanted = {"hook": lm["hook"], "d_model": lm["d_model"], "dtype": lm["cache"]["dtype"]}
    found = Shards(files[0], files[1:], wanted)
    if found.sizes != block_rows(lm["training_tokens"], lm["cache"]["shard_tokens"]):
        raise AssayError(files[0], "has shards of other sizes than the study", "run the workflow again")
    return found


def _batches(blocks: stream.Blocks, params: dict[str, Any], start: int) -> Iterator[torch.Tensor]:
    """Batches in the order that the group's training seed names."""
    seed = params["runs"][0]["training_seed"]
    purpose = (params["study"], params["substrate"], "stream", seed)
    return stream.batches(blocks, params["training"]["batch_size"], purpose, start)
