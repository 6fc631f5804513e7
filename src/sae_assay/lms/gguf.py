"""Reads a Llama-family model from a GGUF file: weights as float32, configuration, tokenizer.

transformers reads GGUF too (`gguf_file=`), in half a minute of metadata parsing a process, and leaves out the digit
splitting that the file's pre-tokenizer `smollm` asks for. A test holds the weights read here to transformers' own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_assay.errors import AssayError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

_CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL


class GgufFile:
    """An open GGUF file.

    Args:
        path: the file.

    Raises:
        AssayError: not a GGUF file, truncated, or no Llama-family model with a byte-level BPE tokenizer.
    """

    def __init__(self, path: str | Path) -> None:
        from gguf import GGUFReader

        self.path = Path(path)
        try:
            self._reader = GGUFReader(self.path)
        except FileNotFoundError:
            raise AssayError(str(path), "no such model file", "run the workflow, which fetches it") from None
        except (ValueError, IndexError, OSError) as error:
            problem = f"no whole GGUF file: {' '.join(str(error).split())[:200]}"
            raise AssayError(str(path), problem, "delete it and run the workflow again") from None
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        if (family := self.value("general.architecture")) != "llama":
            raise AssayError(str(path), f"holds a model of the family {family}", "register a Llama-family GGUF model")

    def value(self, key: str) -> Any:
        """A metadata field's value; AssayError if the file lacks it."""
        field = self._reader.get_field(key)
        if field is None:
            raise AssayError(str(self.path), f"has no field {key}", "use another conversion of the model")
        return field.contents()

    @property
    def layers(self) -> int:
        return int(self.value("llama.block_count"))

    @property
    def d_model(self) -> int:
        return int(self.value("llama.embedding_length"))

    def tensor(self, name: str) -> NDArray[np.float32]:
        """A dequantised tensor, [outputs, inputs]."""
        from gguf import dequantize

        if name not in self._tensors:
            raise AssayError(str(self.path), f"has no tensor {name}", "use another conversion of the model")
        tensor = self._tensors[name]
        return np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)  # float32 ones are views of the file

    def has(self, name: str) -> bool:
        return name in self._tensors

    def rotary(self, name: str, heads: int) -> NDArray[np.float32]:
        """A query or key projection in the half-split order of rotary pairs; GGUF interleaves them within a head."""
        weight = self.tensor(name)
        pairs = weight.reshape(heads, len(weight) // heads // 2, 2, weight.shape[1])
        return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(weight.shape))

    def tokenizer(self) -> Tokenizer:
        """The file's byte-level BPE tokenizer. It adds no special token, as the file asks."""
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        kind, splitting = self.value("tokenizer.ggml.model"), self.value("tokenizer.ggml.pre")
        if (kind, splitting) != ("gpt2", "smollm"):
            problem = f"has a {kind} tokenizer with the pre-tokenizer {splitting}"
            raise AssayError(str(self.path), problem, "use a model with gpt2/smollm, or teach lms/gguf.py another")
        tokens = self.value("tokenizer.ggml.tokens")
        merges = [tuple(merge.split(" ")) for merge in self.value("tokenizer.ggml.merges")]
        tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
        tokenizer.decoder = decoders.ByteLevel()
        types = self.value("tokenizer.ggml.token_type")
        special = [tokens[i] for i, kind in enumerate(types) if kind == _CONTROL_TOKEN]
        tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
        return tokenizer
