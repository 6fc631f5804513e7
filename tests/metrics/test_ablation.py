"""The algebra against encoding again, and SAEBench's rule for ties."""

from __future__ import annotations

import pytest
import torch
from tests.metrics.conftest import make_sae

from sae_assay.metrics.ablation import (
    ablated_logits,
    alignment,
    masks_for,
    positive_top_n_mask,
    top_n_mask,
    with_padding,
)


def test_equals_ablating_and_reconstructing() -> None:
    g = torch.Generator().manual_seed(0)
    sae, x = make_sae(12, 30), torch.randn(50, 12, generator=g)
    weight, bias = torch.randn(3, 12, generator=g), torch.randn(3, generator=g)
    masks = torch.rand(4, 30, generator=g) < 0.3
    f = sae.encode(x)
    found = ablated_logits(x @ weight.T + bias, f, alignment(sae.W_dec, weight), masks)
    for mask, logits in zip(masks, found, strict=True):
        modified = x - sae.decode(f) + sae.decode(f * ~mask)
        torch.testing.assert_close(logits, modified @ weight.T + bias, rtol=0, atol=1e-5)


def test_equals_ablating_every_token_of_a_padded_sequence() -> None:
    g = torch.Generator().manual_seed(3)
    sae, tokens = make_sae(12, 30, threshold=-0.1), torch.randn(5, 8, 12, generator=g)
    lengths = torch.tensor([8, 5, 6, 3, 7])
    mask = torch.arange(8) < lengths[:, None]
    tokens = tokens * mask[..., None]
    weight, ablated = torch.randn(1, 12, generator=g), torch.rand(1, 30, generator=g) < 0.4
    f = sae.encode(tokens)
    modified = (tokens - sae.decode(f) + sae.decode(f * ~ablated[0])).sum(1) / lengths[:, None]
    pooled = (f * mask[..., None]).sum(1) / lengths[:, None]
    as_ablated = with_padding(pooled, (8 - lengths) / lengths, sae.encode(torch.zeros(1, 12))[0])
    clean = tokens.sum(1) / lengths[:, None] @ weight.T
    found = ablated_logits(clean, as_ablated, alignment(sae.W_dec, weight), ablated)
    torch.testing.assert_close(found[0], modified @ weight.T, rtol=0, atol=1e-4)
    assert not torch.allclose(ablated_logits(clean, pooled, alignment(sae.W_dec, weight), ablated)[0], found[0])


def test_negative_effects_count_towards_k_and_rank_below_zeros() -> None:
    effects = torch.tensor([0.0, 0.5, -1.0, 0.0, 0.2, -0.1])
    chosen = top_n_mask(effects, 3)
    assert chosen.sum() == 3 and chosen[1] and chosen[4] and not chosen[2] and not chosen[5]
    assert top_n_mask(effects, 6).sum() == 4
    assert positive_top_n_mask(effects, 6).tolist() == [False, True, False, False, True, False]
    assert not top_n_mask(torch.zeros(4), 2).any()


def test_n_beyond_the_width_is_refused() -> None:
    with pytest.raises(ValueError, match="n = 7 latents to ablate, but the SAE has 6"):
        masks_for(torch.ones(1, 6), [7], positive_only=False)
