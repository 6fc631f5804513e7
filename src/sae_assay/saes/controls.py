"""Controls: SAEs built to be good or bad on purpose, from a named base (method.md, Panels; the audit's diagnostics).

A base without a threshold (standard, TopK, matching pursuit) gets a thresholded encoder where a control needs one. Base
weights are used with decoder norms folded, as they are scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sae_assay import seeds
from sae_assay.errors import AssayError
from sae_assay.saes import encoder
from sae_assay.saes.encoder import LightSAE

Weights = dict[str, NDArray[np.float32]]
REMOVED = 1e9  # the threshold of a removed latent, as in the audit's code


def oracle(feature_vectors: NDArray[np.float32], d_sae: int) -> tuple[dict[str, Any], Weights]:
    """The oracle: decoder rows are the first `d_sae` feature directions, without bias; its latents are those features'
    true activations, which scoring passes in. SAELens cannot load it: it has no encoder.

    Args:
        feature_vectors: [num_features, d_in].
        d_sae: latents.

    Returns:
        Configuration and weights, as `formats.write` takes them.

    Raises:
        AssayError: the world has fewer features.
    """
    if d_sae > len(feature_vectors):
        raise AssayError(
            "oracle", f"{d_sae} latents need as many features, the world has {len(feature_vectors)}", "lower d_sae"
        )
    weights = {"W_dec": feature_vectors[:d_sae].copy(), "b_dec": np.zeros(feature_vectors.shape[1], np.float32)}
    return _config("oracle", weights["W_dec"]), weights


def best(base: LightSAE, calibration: torch.Tensor, fraction: float) -> tuple[dict[str, Any], Weights]:
    """Keep the latents of largest mean |activation| x decoder norm on calibration rows; the others are zeroed.

    Args:
        base: the SAE to thin out.
        calibration: rows [n, d_in].
        fraction: share of the latents that is kept, at least one (the audit keeps 512 of 4,096).
    """
    total = torch.zeros(base.d_sae, dtype=torch.float64)
    for part in calibration.split(4096):
        total += base.encode(part).abs().double().sum(0)
    worth = total * base.W_dec.norm(dim=-1)
    kept = torch.argsort(worth, descending=True, stable=True)[: max(1, round(base.d_sae * fraction))]
    removed = torch.ones(base.d_sae, dtype=torch.bool)
    removed[kept] = False
    weights = _weights(base)
    for name in ("W_dec", "b_enc"):
        if name in weights:
            weights[name][removed.numpy()] = 0
    if "W_enc" in weights:
        weights["W_enc"][:, removed.numpy()] = 0
    if "threshold" in weights:
        weights["threshold"][removed.numpy()] = REMOVED
    return dict(base.config), weights


def random_init(base: LightSAE, threshold: float, *purpose: str | int) -> tuple[dict[str, Any], Weights]:
    """Random weights of the base's shape: W_enc N(0, 1/d_in), W_dec N(0, 1/d_sae), no bias.

    A JumpReLU base keeps a constant threshold; a standard or TopK base keeps its activation function, so a standard one
    has about half of its latents active; matching pursuit, whose encoder is its decoder, becomes a JumpReLU SAE.

    Args:
        threshold: of every latent of a JumpReLU SAE; 1 in the audit.
        purpose: names the stream of the weights.
    """
    arch = "jumprelu" if base.arch == "matching_pursuit" else base.arch
    return _random(base, arch, threshold, purpose)


def random_l0_matched(base: LightSAE, calibration: torch.Tensor, *purpose: str | int) -> tuple[dict[str, Any], Weights]:
    """Random weights as in `random_init` behind one threshold, set so that L0 on calibration rows equals the base's.

    Args:
        calibration: rows [n, d_in] on which both L0 are measured.
        purpose: names the stream of the weights.
    """
    config, weights = _random(base, "jumprelu", 0.0, purpose)
    l0 = encoder.measure(base, calibration)["l0"]
    pre = _preactivations(base, config, weights, calibration)
    wanted = min(pre.numel() - 1, max(1, round(l0 * len(calibration))))
    # Active is what lies above the threshold, so the threshold is the largest value that stays silent.
    weights["threshold"][:] = max(0.0, float(np.partition(pre.numpy().ravel(), -wanted - 1)[-wanted - 1]))
    return config, weights


def permuted_decoder(base: LightSAE, *purpose: str | int) -> tuple[dict[str, Any], Weights]:
    """The base with its decoder rows shuffled and its encoder untouched.

    Raises:
        AssayError: a matching-pursuit base, whose encoder is its decoder.
    """
    if base.arch == "matching_pursuit":
        raise AssayError(
            "permuted_decoder",
            "a matching-pursuit SAE has no encoder of its own",
            "name another base in controls.bases",
        )
    weights = _weights(base)
    order = seeds.numpy_generator(*purpose, "permutation").permutation(base.d_sae)
    weights["W_dec"] = weights["W_dec"][order]
    return dict(base.config), weights


def build(
    kind: str,
    base: LightSAE,
    calibration: torch.Tensor,
    options: Mapping[str, Any],
    *purpose: str | int,
) -> tuple[dict[str, Any], Weights]:
    """A control of a base.

    Args:
        kind: best, random_init, random_l0_matched or permuted_decoder.
        options: `best_fraction`, `random_init_threshold`.
        purpose: names the streams.
    """
    if kind == "best":
        return best(base, calibration, options["best_fraction"])
    if kind == "random_init":
        return random_init(base, options["random_init_threshold"], *purpose)
    if kind == "random_l0_matched":
        return random_l0_matched(base, calibration, *purpose)
    if kind == "permuted_decoder":
        return permuted_decoder(base, *purpose)
    raise AssayError(kind, "no such control of a base", "use best, random_init, random_l0_matched or permuted_decoder")


def _config(arch: str, W_dec: NDArray[np.float32]) -> dict[str, Any]:
    d_sae, d_in = W_dec.shape
    return {
        "architecture": arch,
        "d_in": d_in,
        "d_sae": d_sae,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }


def _weights(base: LightSAE) -> Weights:
    """The base's folded weights, free to be changed."""
    names = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
    found = {name: getattr(base, name) for name in names}
    return {name: t.numpy().copy() for name, t in found.items() if t is not None and t.numel()}


def _random(
    base: LightSAE, arch: str, threshold: float, purpose: tuple[str | int, ...]
) -> tuple[dict[str, Any], Weights]:
    d_in, d_sae = base.d_in, base.d_sae
    draw = seeds.numpy_generator(*purpose, "weights").standard_normal
    weights = {
        "W_enc": (draw((d_in, d_sae)) / d_in**0.5).astype(np.float32),
        "W_dec": (draw((d_sae, d_in)) / d_sae**0.5).astype(np.float32),
        "b_enc": np.zeros(d_sae, np.float32),
        "b_dec": np.zeros(d_in, np.float32),
    }
    if arch == "jumprelu":
        weights["threshold"] = np.full(d_sae, threshold, np.float32)
    config = _config(arch, weights["W_dec"])
    for key in ("normalize_activations", "k", "rescale_acts_by_decoder_norm"):
        if key in base.config:
            config[key] = base.config[key]
    return config, weights


def _preactivations(base: LightSAE, config: dict[str, Any], weights: Weights, rows: torch.Tensor) -> torch.Tensor:
    """Pre-activations [n, d_sae] of random weights, rounded as they will be stored, in the scale before folding."""
    stored = torch.from_numpy(weights["W_enc"].astype(np.float16).astype(np.float32))
    return base.normalize(rows) @ stored
