"""The stream of a stand-in model's activations: blocks, positions, order; a random model of a few thousand weights."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lms import stand_in

from sae_assay.errors import AssayError
from sae_assay.lms import activations, stream
from sae_assay.lms.stream import ModelBlocks, Position, TokenRows
from sae_assay.lms.tokens import Windows

CONTEXT, LAYER, LIMIT = 8, 1, 8.0


def text(windows: int = 40) -> Windows:
    rng = np.random.default_rng(3)
    lengths = rng.integers(2, CONTEXT + 1, windows)
    tokens = rng.integers(0, stand_in.CONFIG.vocabulary, (windows, CONTEXT))
    return Windows(np.where(np.arange(CONTEXT) < lengths[:, None], tokens, 0), lengths)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> TokenRows:
    monkeypatch.setattr(stream, "CHUNK_TOKENS", 3 * CONTEXT)  # three windows at a time
    return TokenRows(stand_in.model(), text(), LAYER, limit=LIMIT)


def whole(limit: float = LIMIT) -> torch.Tensor:
    """All rows by the pass that the rows in memory come from."""
    hidden, _, _ = activations.residuals(stand_in.model(), text(), LAYER, "all")
    return hidden[hidden.norm(dim=1) <= limit]


def test_pieces_of_any_size_are_the_text_in_its_order(rows: TokenRows) -> None:
    expected = whole()
    assert 20 < len(expected) < int((text().lengths - 1).sum())  # some tokens lie beyond the limit
    position, found = Position(), []
    for size in (1, 7, 20, 3):
        part, position = rows.take(size, position)
        found.append(part)
    torch.testing.assert_close(torch.cat(found), expected[:31])
    again, _ = rows.take(5, position)
    torch.testing.assert_close(again, expected[31:36])


def test_a_text_that_ends_too_early_is_said_so(rows: TokenRows) -> None:
    with pytest.raises(AssayError, match="fewer tokens within the norm limit"):
        rows.take(len(whole()) + 1, Position())


@pytest.mark.parametrize("asked", [False, True])
def test_tf32_holds_while_the_model_reads_and_no_longer(asked: bool) -> None:
    model, seen = stand_in.model(), []

    class Watched:
        config, embedding = model.config, model.embedding

        def residual(self, tokens: torch.Tensor, layer: int) -> torch.Tensor:
            seen.append(torch.backends.cuda.matmul.allow_tf32)
            return model.residual(tokens, layer)

    TokenRows(Watched(), text(), LAYER, LIMIT, tf32=asked).take(5, Position())
    assert set(seen) == {asked} and not torch.backends.cuda.matmul.allow_tf32


def test_foreign_token_ids_are_refused_before_the_model_runs() -> None:
    windows = text()
    windows.tokens[5, 1] = stand_in.CONFIG.vocabulary
    with pytest.raises(AssayError, match="token ids 0 to 40, the model knows 0 to 39"):
        TokenRows(stand_in.model(), windows, LAYER, 1e9)


def test_a_type_that_cannot_hold_the_rows_is_refused() -> None:
    model = stand_in.model()
    model.embedding.mul_(1e6)
    with pytest.raises(AssayError, match="float16 cannot hold"):
        TokenRows(model, text(), LAYER, 1e12).take(5, Position(), torch.float16)


def test_a_pass_sees_whole_batches_of_every_block_once_and_shuffles_within_blocks(rows: TokenRows) -> None:
    blocks = ModelBlocks(rows, [12, 12, 7])
    seen = list(itertools.islice(stream.batches(blocks, 4, ("t",)), 7))  # 3 + 3 + 1
    expected, _ = rows.take(31, Position())
    for start, batches in ((0, seen[:3]), (12, seen[3:6])):
        found = torch.cat(batches)
        assert sorted(found[:, 0].tolist()) == sorted(expected[start : start + 12, 0].tolist())
        assert found[:, 0].tolist() != expected[start : start + 12, 0].tolist()
    assert set(seen[6][:, 0].tolist()) <= set(expected[24:31, 0].tolist())


@pytest.mark.parametrize("start", [0, 2, 3, 5, 6, 7, 9, 20])
def test_a_stream_is_found_again_at_any_step(rows: TokenRows, start: int) -> None:
    blocks = ModelBlocks(rows, [12, 12, 7])
    long = list(itertools.islice(stream.batches(blocks, 4, ("t",)), start + 2))
    fresh = TokenRows(stand_in.model(), text(), LAYER, LIMIT)
    later = stream.batches(ModelBlocks(fresh, [12, 12, 7], blocks.places), 4, ("t",), start)
    for expected, found in zip(long[start:], later, strict=False):
        assert torch.equal(expected, found)


def test_passes_and_purposes_have_orders_of_their_own(rows: TokenRows) -> None:
    blocks = ModelBlocks(rows, [12, 12, 12])
    one, other = (list(itertools.islice(stream.batches(blocks, 4, (name,)), 18)) for name in ("a", "b"))
    assert not torch.equal(torch.cat(one[:9]), torch.cat(one[9:]))
    assert sorted(torch.cat(one[:9])[:, 0].tolist()) == sorted(torch.cat(one[9:])[:, 0].tolist())
    assert not torch.equal(one[0], other[0])


def test_blocks_without_a_batch_are_refused(rows: TokenRows) -> None:
    with pytest.raises(AssayError, match="no block of the stream holds 13 rows"):
        next(stream.batches(ModelBlocks(rows, [12, 12]), 13, ("t",)))


def test_training_text_that_is_too_short_is_refused_before_the_model_runs() -> None:
    from sae_assay.steps import lm_activations

    windows, asked = text(), {"calibration_tokens": 20, "training_tokens": 100, "text_input": "some text"}
    held, later = lm_activations._hold_out(windows, asked)
    assert (held.lengths - 1).sum() >= 20 * 1.08 > (held.lengths[:-1] - 1).sum()
    assert (later.lengths - 1).sum() >= 100 * 1.08 > (later.lengths[:-1] - 1).sum()
    np.testing.assert_array_equal(np.concatenate([held.tokens, later.tokens]), windows.tokens[: len(held) + len(later)])
    with pytest.raises(AssayError, match=r"lm.training_tokens: is 140, .* some text has \d+ tokens left"):
        lm_activations._hold_out(windows, asked | {"training_tokens": 140})


def test_a_model_of_another_width_or_without_the_hook_is_refused(tmp_path: Path) -> None:
    from sae_assay.steps.lm_shards import open_text

    stand_in.write_gguf(tmp_path / "model.gguf")
    path, lm = str(tmp_path / "model.gguf"), {"hook": "blocks.1.hook_resid_post", "d_model": 24}
    found, _ = open_text(path, text(), lm, LIMIT, "cpu").take(10, Position())
    torch.testing.assert_close(found, whole()[:10], rtol=1e-4, atol=1e-4)
    with pytest.raises(AssayError, match=r"lm.d_model: is 48, the model's residual stream has 24"):
        open_text(path, text(), lm | {"d_model": 48}, LIMIT, "cpu")
    with pytest.raises(AssayError, match="beyond the model's 3 blocks"):
        open_text(path, text(), lm | {"hook": "blocks.3.hook_resid_post"}, LIMIT, "cpu")


@pytest.mark.parametrize(
    ("change", "named"), [({"d_in": 48}, "reads 48"), ({"metadata": {"hook_name": "blocks.2"}}, "blocks.2")]
)
def test_an_sae_of_another_width_or_hook_is_refused(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    from sae_assay.steps.lm_score import check_origin

    card, config = tmp_path / "cfg.json", {"d_in": 24, "metadata": {"hook_name": "blocks.1"}}
    for fine in (config, {"d_in": 24}):
        card.write_text(json.dumps(fine))
        check_origin(str(card), "mine", 24, "blocks.1")
    card.write_text(json.dumps(config | change))
    with pytest.raises(AssayError, match=f"mine: .*{named}"):
        check_origin(str(card), "mine", 24, "blocks.1")
