"""A Llama-family model in plain torch: the residual stream after any block, and the rest of the model from there.

The arithmetic is that of transformers' `LlamaForCausalLM` (a test holds it to that). Written out because the audit
needs the model in two halves - up to the hook to cache activations, from the hook on to score a reconstruction - and
because importing transformers costs more than the whole pass over the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

from sae_assay.errors import AssayError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from sae_assay.lms.gguf import GgufFile
    from sae_assay.lms.hub_model import HubModelFile

    ModelFile = GgufFile | HubModelFile


@dataclass(frozen=True)
class LlamaConfig:
    """Shapes and constants; `d_head` is d_model // heads."""

    layers: int
    d_model: int
    heads: int
    key_value_heads: int
    rope_base: float
    norm_eps: float
    vocabulary: int

    @property
    def d_head(self) -> int:
        return self.d_model // self.heads

    @classmethod
    def of(cls, file: GgufFile) -> LlamaConfig:
        value = file.value
        return cls(
            layers=int(value("llama.block_count")),
            d_model=int(value("llama.embedding_length")),
            heads=int(value("llama.attention.head_count")),
            key_value_heads=int(value("llama.attention.head_count_kv")),
            rope_base=float(value("llama.rope.freq_base")),
            norm_eps=float(value("llama.attention.layer_norm_rms_epsilon")),
            vocabulary=int(value("llama.vocab_size")),
        )


@dataclass(frozen=True)
class Block:
    """Weights of one block, [outputs, inputs] each."""

    attention_norm: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    mlp_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Llama:
    """Embedding [vocabulary, d_model], blocks, the final norm's weight and the unembedding (often the embedding)."""

    config: LlamaConfig
    embedding: Tensor
    blocks: list[Block]
    norm: Tensor
    unembedding: Tensor

    @torch.inference_mode()
    def residual(self, tokens: Tensor, layer: int) -> Tensor:
        """The residual stream after block `layer` (`blocks.LAYER.hook_resid_post`).

        Pads must stand on the right: attention is causal, so they change no token before them.

        Args:
            tokens: [batch, length].

        Returns:
            [batch, length, d_model], on the model's device.
        """
        x = self.embedding[tokens.to(self.embedding.device)]
        return self._run(x, self.blocks[: layer + 1])

    @torch.inference_mode()
    def logits(self, residual: Tensor, layer: int) -> Tensor:
        """Next-token logits [batch, length, vocabulary] from the residual stream after block `layer`."""
        x = self._run(residual.to(self.embedding.device), self.blocks[layer + 1 :])
        return linear(rms_norm(x, (self.config.d_model,), self.norm, self.config.norm_eps), self.unembedding)

    def _run(self, x: Tensor, blocks: list[Block]) -> Tensor:
        cos, sin = self._rotations(x.shape[1], x)
        for block in blocks:
            x = x + self._attention(self._normed(x, block.attention_norm), block, cos, sin)
            h = self._normed(x, block.mlp_norm)
            x = x + linear(silu(linear(h, block.gate)) * linear(h, block.up), block.down)
        return x

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(x, (self.config.d_model,), weight, self.config.norm_eps)

    def _rotations(self, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        d = self.config.d_head
        frequencies = 1.0 / self.config.rope_base ** (
            torch.arange(0, d, 2, dtype=torch.float32, device=like.device) / d
        )
        angles = torch.arange(length, dtype=torch.float32, device=like.device)[:, None] * frequencies
        angles = torch.cat([angles, angles], dim=1)
        return angles.cos(), angles.sin()

    def _attention(self, h: Tensor, block: Block, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = h.shape

        def heads(weight: Tensor) -> Tensor:
            return linear(h, weight).view(batch, length, -1, self.config.d_head).transpose(1, 2)

        def rotated(t: Tensor) -> Tensor:
            first, second = t.chunk(2, dim=-1)
            return t * cos + torch.cat([-second, first], dim=-1) * sin

        repeats = self.config.heads // self.config.key_value_heads
        key = rotated(heads(block.k)).repeat_interleave(repeats, dim=1)
        value = heads(block.v).repeat_interleave(repeats, dim=1)
        mixed = scaled_dot_product_attention(rotated(heads(block.q)), key, value, is_causal=True)
        return linear(mixed.transpose(1, 2).reshape(batch, length, -1), block.o)


def load(file: ModelFile, *, layers: int | None = None, device: str = "cpu") -> Llama:
    """A model in float32; one of the hub (`hub_model.HubModel`) is used in the same way.

    Args:
        file: an open model file.
        layers: read the first blocks only, and no unembedding of its own; all where None, and of a model of the hub.
    """
    from sae_assay.lms.gguf import GgufFile

    if not isinstance(file, GgufFile):
        return cast("Llama", file.load(device))
    config = LlamaConfig.of(file)

    def take(name: str) -> Tensor:
        return torch.from_numpy(file.tensor(name)).to(device)

    def block(i: int) -> Block:
        def rotary(name: str, heads: int) -> Tensor:
            return torch.from_numpy(file.rotary(f"blk.{i}.{name}.weight", heads)).to(device)

        return Block(
            attention_norm=take(f"blk.{i}.attn_norm.weight"),
            q=rotary("attn_q", config.heads),
            k=rotary("attn_k", config.key_value_heads),
            v=take(f"blk.{i}.attn_v.weight"),
            o=take(f"blk.{i}.attn_output.weight"),
            mlp_norm=take(f"blk.{i}.ffn_norm.weight"),
            gate=take(f"blk.{i}.ffn_gate.weight"),
            up=take(f"blk.{i}.ffn_up.weight"),
            down=take(f"blk.{i}.ffn_down.weight"),
        )

    embedding = take("token_embd.weight")
    own_unembedding = layers is None and file.has("output.weight")
    return Llama(
        config=config,
        embedding=embedding,
        blocks=[block(i) for i in range(config.layers if layers is None else layers)],
        norm=take("output_norm.weight"),
        unembedding=take("output.weight") if own_unembedding else embedding,
    )


def layer_of(hook: str, file: ModelFile | None = None) -> int:
    """The block that a hook name points behind.

    Raises:
        AssayError: no residual-stream hook, or a block that the model lacks.
    """
    match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", hook)
    if match is None:
        raise AssayError("lm.hook", f"{hook} is no residual stream after a block", "use blocks.N.hook_resid_post")
    layer = int(match.group(1))
    if file is not None and layer >= (layers := file.layers):
        raise AssayError("lm.hook", f"{hook} lies beyond the model's {layers} blocks", f"use at most {layers - 1}")
    return layer


def read(path: str | Path, layers: int | None = None, device: str = "cpu") -> Llama:
    """`load` from a path."""
    return load(open_file(path), layers=layers, device=device)


def open_file(path: str | Path) -> ModelFile:
    """A model's file: GGUF, or the manifest (.json) of a model of the hub."""
    if str(path).endswith(".json"):
        from sae_assay.lms.hub_model import HubModelFile

        return HubModelFile(path)
    from sae_assay.lms.gguf import GgufFile

    return GgufFile(path)
