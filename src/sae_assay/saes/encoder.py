"""A light SAE for scoring: the encoders and decoders of sae_lens's inference SAEs on torch alone, tested against them.

Decoder norms are folded into the encoder, as the reference does before scoring, where that leaves the latents' pattern
alone: standard, JumpReLU, and TopK that ranks latents by norm-scaled activation. Matching pursuit (tied) and other TopK
SAEs are left as they are, as in sae_lens.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_assay.errors import AssayError
from sae_assay.saes import formats

SMALLEST_NORM = 1e-8  # sae_lens divides by no smaller decoder norm
ROW_NORMALIZED = ("layer_norm", "constant_norm_rescale")


@dataclass(frozen=True)
class LightSAE:
    """An SAE ready to be scored.

    Attributes:
        arch: the encoder: standard, jumprelu, topk or matching_pursuit; oracle has none (pass true activations).
        W_enc: [d_in, d_sae]; empty for the tied and encoderless architectures.
        b_enc: [d_sae].
        W_dec: [d_sae, d_in]; rows of norm 1 where folded.
        b_dec: [d_in].
        threshold: [d_sae], JumpReLU's; a latent is active above it. Else None.
        config: cfg.json.
        card: what sae-assay knows of the SAE.
    """

    arch: str
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None
    config: dict[str, Any]
    card: dict[str, Any]

    @property
    def d_in(self) -> int:
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        return self.W_dec.shape[0]

    @property
    def worker(self) -> LightSAE:
        """The SAE whose tensors are where the work is done: this one."""
        return self

    @property
    def rows_together(self) -> int:
        """Rows to encode at a time: their dense latents take 256 MB, enough to keep a GPU busy."""
        return max(1, (1 << 26) // self.d_sae)

    @cached_property
    def gram(self) -> Tensor:
        """Products of all pairs of decoder rows [d_sae, d_sae]."""
        return self.W_dec @ self.W_dec.T

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Latents [rows, d_sae], not negative, of activations [rows, d_in].

        Raises:
            AssayError: an oracle, which has no encoder, or activations of another width.
        """
        if self.arch == "oracle":
            raise AssayError("oracle", "has no encoder", "pass the true activations as its latents")
        if x.shape[-1] != self.d_in:
            raise AssayError(
                self.card.get("sae_id", self.arch),
                f"reads {self.d_in} dimensions, not {x.shape[-1]}",
                "score it on the substrate that it was trained on",
            )
        x = self.encoder_input(x)
        if self.arch == "matching_pursuit":
            return _matching_pursuit(x, self.W_dec, self.gram, self.config)
        pre = (x @ self.W_enc).add_(self.b_enc)
        if self.threshold is not None:
            silent = pre <= self.threshold
            return pre.relu_().masked_fill_(silent, 0.0)
        if self.arch == "topk":
            return _topk(pre, int(self.config["k"]))
        return pre.relu_()

    def encoder_input(self, x: Tensor) -> Tensor:
        """What the encoder multiplies, of activations [rows, d_in]."""
        x = self.normalize(x.to(self.W_dec.dtype))
        return x - self.b_dec if self.config.get("apply_b_dec_to_input", True) else x

    @torch.no_grad()
    def decode(self, f: Any, x: Tensor | None = None) -> Tensor:
        """Reconstructions [rows, d_in] of latents [rows, d_sae].

        Args:
            f: latents, a tensor or sparse ones that can be multiplied with W_dec (`metrics.latents`).
            x: the activations that they encode; needed where each row is normalised by itself.
        """
        out = f @ self.W_dec
        if self.arch != "matching_pursuit" or self.config.get("apply_b_dec_to_input", True):
            out = out + self.b_dec
        if not self.normalizes_rows:
            return out
        if x is None:
            raise ValueError("an SAE that normalises rows needs them to decode")
        scale, shift = self._row_scale(x)
        return out * scale + shift

    @property
    def normalizes_rows(self) -> bool:
        """Whether latents and decoder rows live in a scale of each row's own."""
        return self.config.get("normalize_activations", "none") in ROW_NORMALIZED

    def normalize(self, x: Tensor) -> Tensor:
        """Activations as the encoder reads them, before b_dec is subtracted."""
        mode = self.config.get("normalize_activations", "none")
        if mode == "constant_norm_rescale":
            return x / self._row_scale(x)[0]
        if mode == "layer_norm":
            scale, shift = self._row_scale(x)
            return (x - shift) / (scale + 1e-5)
        return x

    def to(self, dtype: torch.dtype) -> LightSAE:
        """The same SAE in another floating-point type."""
        W_enc, b_enc, W_dec, b_dec = (t.to(dtype) for t in (self.W_enc, self.b_enc, self.W_dec, self.b_dec))
        threshold = None if self.threshold is None else self.threshold.to(dtype)
        return replace(self, W_enc=W_enc, b_enc=b_enc, W_dec=W_dec, b_dec=b_dec, threshold=threshold)

    def on(self, device: str) -> LightSAE:
        """The same SAE, which computes on a device; activations and latents come and go on the CPU."""
        if device == "cpu":
            return self
        here: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        there: dict[str, Any] = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in here.items()}
        return OnDevice(**here, moved=LightSAE(**there))

    def _row_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift [rows, 1] that turn a reconstruction back into the activations' own scale."""
        if self.config["normalize_activations"] == "constant_norm_rescale":
            return x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5, torch.zeros_like(x[..., :1])
        mean = x.mean(dim=-1, keepdim=True)
        return (x - mean).std(dim=-1, keepdim=True), mean


@dataclass(frozen=True)
class OnDevice(LightSAE):
    """An SAE with a copy elsewhere that does the work."""

    moved: LightSAE

    @property
    def worker(self) -> LightSAE:
        return self.moved

    def encode(self, x: Tensor) -> Tensor:
        return self.moved.encode(x.to(self.moved.W_dec.device)).cpu()

    def decode(self, f: Any, x: Tensor | None = None) -> Tensor:
        there, dense = self.moved.W_dec.device, f if isinstance(f, Tensor) else f.dense()
        return self.moved.decode(dense.to(there), None if x is None else x.to(there)).cpu()


def load(folder: str | Path, dtype: torch.dtype = torch.float32) -> LightSAE:
    """Read a SAELens folder for scoring, decoder norms folded.

    Raises:
        AssayError: see `formats.read`; also a normalisation that was not folded into the weights, or reshaped hooks.
    """
    return from_file(formats.read(folder), str(folder)).to(dtype)


def from_file(sae: formats.SaeFile, where: str) -> LightSAE:
    """An SAE for scoring from what is stored."""
    config, tensors = sae.config, {name: torch.from_numpy(array) for name, array in sae.tensors.items()}
    mode = config.get("normalize_activations", "none")
    if mode not in ("none", *ROW_NORMALIZED):
        raise AssayError(
            where, f"normalize_activations is {mode}, whose scale is not in the file", "fold it in and save again"
        )
    if config.get("reshape_activations", "none") != "none":
        raise AssayError(where, "an SAE of attention heads cannot be scored", "use one of the residual stream")
    light = LightSAE(
        arch=config["architecture"],
        W_enc=tensors.get("W_enc", torch.empty(0)),
        b_enc=tensors.get("b_enc", torch.empty(0)),
        W_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
        threshold=tensors.get("threshold") if config["architecture"] == "jumprelu" else None,
        config=config,
        card=sae.card,
    )
    folds = light.arch in ("standard", "jumprelu") or (
        light.arch == "topk" and config.get("rescale_acts_by_decoder_norm")
    )
    return _folded(light) if folds else light


def _folded(sae: LightSAE) -> LightSAE:
    norms = sae.W_dec.norm(dim=-1).clamp(min=SMALLEST_NORM)
    return replace(
        sae,
        W_dec=sae.W_dec / norms[:, None],
        W_enc=sae.W_enc * norms,
        b_enc=sae.b_enc * norms,
        threshold=None if sae.threshold is None else sae.threshold * norms,
    )


def _topk(pre: Tensor, k: int) -> Tensor:
    values, indices = pre.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(pre).scatter_(-1, indices, values.relu())


PURSUIT_ROWS = 64
"""Rows pursued together: their projections stay in the processor's cache."""


def _matching_pursuit(x: Tensor, W_dec: Tensor, gram: Tensor, config: dict[str, Any]) -> Tensor:
    """Greedy latents: per step the decoder row of largest projection; a row stops at a small residual or when its
    support no longer grows.

    Taking v times decoder row j from a residual takes v times row j of the Gram matrix from its projections, which
    spares a product with the whole decoder in every step.
    """
    step = PURSUIT_ROWS if x.device.type == "cpu" else len(x)
    parts = zip(x.split(max(1, step)), (x @ W_dec.T).split(max(1, step)), strict=True)
    return torch.cat([_pursue(rows, projections, W_dec, gram, config) for rows, projections in parts])


def _pursue(x: Tensor, projections: Tensor, W_dec: Tensor, gram: Tensor, config: dict[str, Any]) -> Tensor:
    """Latents of rows [rows, d_in] from their projections on the decoder [rows, d_sae], which it changes."""
    threshold = config.get("residual_threshold", 1e-2)
    stop_on_support = config.get("stop_on_duplicate_support", True)
    acts = torch.zeros(len(x), len(W_dec), dtype=x.dtype, device=x.device)
    live, residual = torch.arange(len(x), device=x.device), x
    most = config.get("max_iterations")
    for _ in range(x.shape[-1] if most is None else most):
        chosen = _argmax(projections)
        rows = W_dec.index_select(0, chosen)
        values = (residual * rows).sum(-1).relu()
        done = (
            (acts[live, chosen] != 0) | (values == 0) if stop_on_support else torch.zeros_like(live, dtype=torch.bool)
        )
        acts[live, chosen] += values
        residual = torch.addcmul(residual, values[:, None], rows, value=-1)
        if threshold > 0:
            done |= residual.norm(dim=-1) < threshold
        if done.any():
            going = ~done
            live, residual, projections = live[going], residual[going], projections[going]
            values, chosen = values[going], chosen[going]
        if not len(live):
            break
        projections.addcmul_(values[:, None], gram.index_select(0, chosen), value=-1)
    return acts


def _argmax(rows: Tensor) -> Tensor:
    """The column of each row's largest entry; on the CPU by numpy, which is some ten times faster."""
    return torch.from_numpy(rows.numpy().argmax(1)) if rows.device.type == "cpu" else rows.argmax(1)


@torch.no_grad()
def measure(sae: LightSAE, rows: Tensor, chunk: int = 4096) -> dict[str, float]:
    """L0, explained variance and dead latents of an SAE on held-out rows [n, d_in], for its card."""
    worker, there = sae.worker, sae.worker.W_dec.device
    active = torch.zeros(sae.d_sae, dtype=torch.int64, device=there)
    error, total, mean = 0.0, 0.0, rows.double().mean(0).to(there)
    for part in rows.split(chunk):
        x = part.to(there)
        f = worker.encode(x)
        active += (f != 0).sum(0)
        error += float((x - worker.decode(f, x)).double().square().sum())
        total += float((x.double() - mean).square().sum())
    return {
        "l0": float(active.sum()) / len(rows),
        "explained_variance": 1 - error / total,
        "dead_latents": int((active == 0).sum()),
    }
