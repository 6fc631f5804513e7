"""The model, its tokenizer and the SAE of a job, as sae_bench's evaluations take them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from run import BadInputError


def load(job: dict[str, Any], *, with_model: bool = True) -> tuple[Any, Any, Any]:
    """Model (a transformer_lens bridge), tokenizer, SAE.

    Args:
        job: see run.py.
        with_model: False leaves model and tokenizer out (None).

    Returns:
        The SAE is None where `job["sae"]` is. SAEs are sae_lens's own, decoder norms folded as SAEBench folds them.

    Raises:
        BadInputError: no model or SAE there, or an SAE of another width or hook.
    """
    torch.set_num_threads(1)
    model = tokenizer = None
    if with_model:
        model, tokenizer = _model(*(job["model"][key] for key in ("kind", "path", "name")), job["device"])
        if job["layer"] >= model.cfg.n_layers:
            problem = f"lies beyond the model's {model.cfg.n_layers} blocks"
            raise BadInputError(job["hook"], problem, f"use at most block {model.cfg.n_layers - 1}")
    sae = None if job["sae"] is None else load_sae(job, model.cfg.d_model if model else job["d_model"])
    return model, tokenizer, sae


@functools.cache
def _model(kind: str, path: str, name: str, device: str) -> tuple[Any, Any]:
    hf, tokenizer = load_hf({"kind": kind, "path": path, "name": name}, device)
    return bridge(hf, tokenizer, name, device), tokenizer


def load_hf(model: dict[str, Any], device: str) -> tuple[Any, Any]:
    """The plain transformers model (float32, evaluation mode) and its tokenizer, which has a pad token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(model["path"])
    if not path.exists():
        raise BadInputError(str(path), "no such model", "run the workflow, which fetches it, or correct its path")
    place = (str(path.parent), path.name) if model["kind"] == "gguf" else (str(path), None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place[0], gguf_file=place[1])
        found = AutoModelForCausalLM.from_pretrained(place[0], gguf_file=place[1], dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(str(path), f"transformers cannot read it ({error})", "fetch the model again") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.bos_token_id is None:
        tokenizer.bos_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return found.to(device).eval(), tokenizer


def bridge(hf: Any, tokenizer: Any, name: str, device: str) -> Any:
    """The model under transformer_lens's hook names, its weights unprocessed, as SAEBench loads models."""
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_transformers(name, hf_model=hf, tokenizer=tokenizer, device=device)
    model.eval()
    return model


def load_sae(job: dict[str, Any], d_model: int) -> Any:
    """The SAE of a folder, told its hook and model.

    Raises:
        BadInputError: no SAE that sae_lens reads, or one of another width or hook than the job's.
    """
    from sae_bench.sae_bench_utils.general_utils import _standardize_sae_cfg
    from sae_lens import SAE

    folder = job["sae"]
    try:
        sae = SAE.load_from_disk(folder, device=job["device"])
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(folder, f"sae_lens cannot read it ({error})", "train or fetch this SAE again") from error
    if sae.cfg.d_in != d_model:
        problem = f"reads {sae.cfg.d_in} dimensions, the model's residual stream has {d_model}"
        raise BadInputError(folder, problem, "score it on the substrate that it was trained on")
    metadata = sae.cfg.metadata
    own = getattr(metadata, "hook_name", None)
    if own not in (None, job["hook"]):
        raise BadInputError(
            folder, f"was trained at {own}, the substrate is {job['hook']}", "score it where it belongs"
        )
    metadata.hook_name, metadata.hook_layer = job["hook"], job["layer"]
    metadata.model_name, metadata.prepend_bos = job["model"]["name"], True
    _fold(sae)
    _standardize_sae_cfg(sae.cfg)
    return sae.to(device=job["device"], dtype=torch.float32).eval()


def _fold(sae: Any) -> None:
    """Unit decoder rows, where the architecture allows it: SAEBench goes on without, and so does this."""
    try:
        sae.fold_W_dec_norm()
    except NotImplementedError:
        return
