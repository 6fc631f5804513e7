"""What removing an SAE's latents does to a linear probe, without encoding again.

Ablating a set A of latents turns an activation x into x - sum_{j in A} f_j W_dec[j] (the reconstruction error is
kept), so a probe (w, b) then has the logit w.x + b - sum_{j in A} f_j (W_dec[j].w): one encode pass serves every A.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def with_padding(latents: Tensor, pad_ratio: Tensor, zero_latents: Tensor) -> Tensor:
    """Latents as SAEBench's ablation sums them over a token sequence: masked tokens count as activation 0.

    SAEBench zeroes BOS, EOS and pad tokens and leaves them out of the latents' means, but encodes them in the ablated
    sum, where each adds encode(0).

    Args:
        latents: [rows, d_sae], summed over unmasked tokens and divided by their number.
        pad_ratio: [rows], masked tokens per unmasked token.
        zero_latents: [d_sae], the SAE's latents for an all-zero activation.
    """
    return latents + pad_ratio[:, None] * zero_latents[None, :]


def alignment(W_dec: Tensor, weight: Tensor) -> Tensor:
    """How far each latent's decoder row moves each probe's logit: [d_sae, probes] from [d_sae, d], [probes, d]."""
    return W_dec @ weight.T


def top_n_mask(effects: Tensor, n: int) -> Tensor:
    """The latents that SAEBench ablates: `torch.topk` over all latents of k = min(n, number of non-zero effects).

    Negative effects count towards k but rank below zero ones, so latents of zero effect can be taken, in the order in
    which `torch.topk` leaves ties. Sets for growing n need not nest; that is why every n gets its own call.

    Args:
        effects: [d_sae].
        n: 1 <= n <= d_sae.

    Returns:
        [d_sae] bool.
    """
    mask = torch.zeros_like(effects, dtype=torch.bool)
    k = min(_checked(n, effects), int((effects != 0).sum()))
    if k:
        mask[torch.topk(effects, k).indices] = True
    return mask


def positive_top_n_mask(effects: Tensor, n: int) -> Tensor:
    """The n latents of largest effect, strictly positive ones only: the same set however latents are ordered."""
    k = min(_checked(n, effects), int((effects > 0).sum()))
    mask = torch.zeros_like(effects, dtype=torch.bool)
    if k:
        mask[torch.topk(effects, k).indices] = True
    return mask


def _checked(n: int, effects: Tensor) -> int:
    if not 1 <= n <= effects.numel():
        raise ValueError(f"n = {n} latents to ablate, but the SAE has {effects.numel()}: choose 1 <= n <= d_sae")
    return n


def ablated_logits(logits: Tensor, latents: Tensor, align: Tensor, masks: Tensor) -> Tensor:
    """Logits of every probe on every row after each ablation.

    Args:
        logits: [rows, probes] before any ablation.
        latents: [rows, d_sae] (see `with_padding` for token sequences).
        align: [d_sae, probes], from `alignment`.
        masks: [ablations, d_sae] bool: what each ablation removes.

    Returns:
        [ablations, rows, probes].
    """
    used = masks.any(dim=0).nonzero().squeeze(1)
    ablations, probes = len(masks), align.shape[1]
    removed = masks[:, used, None].to(latents.dtype) * align[used]
    moved = latents[:, used] @ removed.permute(1, 0, 2).reshape(len(used), ablations * probes)
    return logits - moved.view(-1, ablations, probes).permute(1, 0, 2)


def masks_for(effects: Tensor, ns: Sequence[int], *, positive_only: bool) -> Tensor:
    """[classes * ns, d_sae] masks, classes slowest, from effects [classes, d_sae]."""
    choose = positive_top_n_mask if positive_only else top_n_mask
    return torch.stack([choose(row, n) for row in effects for n in ns])
