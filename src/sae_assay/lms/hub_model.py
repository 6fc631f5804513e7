"""A language model of the hub in Hugging Face's format, with the interface of `lms/model.py`: two halves around a hook.

The workflow's model file is a small manifest: repository, commit, and the SHA-256 of every file. The weights stay in the
client's cache (10 GB for Gemma-2-2b) and are held to the manifest whenever they are read.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_assay.errors import AssayError
from sae_assay.lms import hub, registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

REMEDY = "delete the manifest and run the workflow again, which fetches the files at the registered commit"


def write_manifest(name: str, output: str | Path, registry_path: str | Path = registry.REGISTRY) -> None:
    """Fetch a registered model into the client's cache and write what came.

    Raises:
        AssayError: see `hub.cached`.
    """
    source = registry.entry(name, registry_path).hub
    files = {path: file for path, file in hub.cached(name, registry_path).items() if file is not None}
    digests = {
        path: {"sha256": registry.file_digest(file), "size": file.stat().st_size} for path, file in files.items()
    }
    found = {"input": name, "repository": source.repository, "revision": source.revision, "files": digests}
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


class HubModelFile:
    """A model behind a manifest; its files are checked when it is opened.

    Args:
        path: the manifest.
        folder: where its files lie; None: the client's cache, filled where it is empty. Afterwards the folder that it is.

    Raises:
        AssayError: no such manifest, a missing file or another digest, an architecture without decoder layers.
    """

    def __init__(self, path: str | Path, folder: str | Path | None = None) -> None:
        self.path = Path(path)
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            digests = {name: one["sha256"] for name, one in found["files"].items()}
        except FileNotFoundError:
            raise AssayError(str(path), "no such model file", "run the workflow, which fetches it") from None
        except (ValueError, KeyError, TypeError) as error:
            raise AssayError(str(path), f"no manifest of a model ({error})", REMEDY) from None
        self.folder = _verified(found, digests, folder)
        self.config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))

    @property
    def layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def d_model(self) -> int:
        return int(self.config["hidden_size"])

    def tokenizer(self) -> HubTokenizer:
        """The model's tokenizer; every window begins with its token for that, where it has one."""
        from tokenizers import Tokenizer

        return HubTokenizer(Tokenizer.from_file(str(self.folder / "tokenizer.json")), self.config.get("bos_token_id"))

    def load(self, device: str = "cpu") -> HubModel:
        """The whole model in float32. Attention is `eager`: transformers' fused kernels leave out Gemma-2's soft caps."""
        from transformers import AutoModelForCausalLM

        try:
            model = AutoModelForCausalLM.from_pretrained(
                self.folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
            )
        except (OSError, ValueError, KeyError) as error:
            said = " ".join(str(error).split())[:200]
            raise AssayError(str(self.path), f"transformers cannot load the model ({said})", REMEDY) from None
        return HubModel(model.eval().to(torch.device(device)))


def _verified(found: dict[str, Any], digests: dict[str, str], folder: str | Path | None) -> Path:
    """The folder of a manifest's files, each held to its digest."""
    if folder is None:
        files = hub.fetch_pinned(found["repository"], found["revision"], list(digests))
        folder = files["config.json"].parent
    for name, digest in digests.items():
        if not (Path(folder) / name).exists():
            raise AssayError(str(Path(folder) / name), "is missing", REMEDY)
        registry.verify(Path(folder) / name, digest, REMEDY)
    return Path(folder)


@dataclass(frozen=True)
class HubTokenizer:
    """A tokenizer, and the token that begins every window (None: none does)."""

    inner: Any
    bos: int | None

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = False) -> Any:
        return self.inner.encode_batch(list(texts), add_special_tokens=add_special_tokens)


class _Reached(Exception):
    """The hook's layer has been computed; the rest is not needed."""


@dataclass(frozen=True)
class Shape:
    """What activations need to know of a model."""

    d_model: int
    vocabulary: int


class HubModel:
    """A causal language model of transformers, cut at the output of a decoder layer by forward hooks."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._blocks: Any = getattr(getattr(model, "model", None), "layers", None)
        if self._blocks is None:
            what = type(model).__name__
            raise AssayError(what, "has no decoder layers at model.layers", "use a Llama-family or Gemma model")
        self.config = Shape(int(model.config.hidden_size), int(model.config.vocab_size))

    @property
    def embedding(self) -> Tensor:
        return self.model.get_input_embeddings().weight

    @torch.inference_mode()
    def residual(self, tokens: Tensor, layer: int) -> Tensor:
        """The residual stream after block `layer` [batch, length, d_model], on the model's device; pads stand on the right."""
        found: list[Tensor] = []

        def keep(module: Any, inputs: Any, output: Any) -> None:
            found.append(_hidden(output))
            raise _Reached

        with self._hooked(layer, keep), contextlib.suppress(_Reached):
            self.model(tokens.to(self.embedding.device), use_cache=False)
        return found[0].float()

    @torch.inference_mode()
    def logits(self, residual: Tensor, layer: int) -> Tensor:
        """Next-token logits [batch, length, vocabulary] from the residual stream after block `layer`.

        The whole model runs on pads, and the block's output is replaced: whatever follows is the model's own.
        """
        device = self.embedding.device
        pads = torch.zeros(residual.shape[:2], dtype=torch.int64, device=device)
        given = residual.to(device, self.embedding.dtype)

        def replace(module: Any, inputs: Any, output: Any) -> Any:
            return (given, *output[1:]) if isinstance(output, tuple) else given

        with self._hooked(layer, replace):
            return self.model(pads, use_cache=False).logits.float()

    def _hooked(self, layer: int, hook: Any) -> Any:
        return self._blocks[layer].register_forward_hook(hook)


def _hidden(output: Any) -> Tensor:
    """A decoder layer's residual stream; older layers return it first in a tuple."""
    return output[0] if isinstance(output, tuple) else output
