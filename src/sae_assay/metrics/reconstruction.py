"""How much of a language model's activation, and of its predictions, an SAE's reconstruction keeps.

Higher is better for `explained_variance`, `explained_variance_saebench` and `ce_recovered`, lower for `kl`; `l0` and
`dead_latents` describe. Tokens that do not count (pads, first tokens, attention sinks) take part in none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from sae_assay.metrics.records import Record, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from sae_assay.metrics.latents import SparseLatents


@dataclass(frozen=True)
class TokenErrors:
    """One SAE on every counted token, computed once for all evaluation seeds.

    Attributes:
        squared: float64 [tokens], |x - reconstruction|^2.
        active: int64 [tokens], how many latents are active.
        rows: latents [rows, d_sae] of all rows of the text, each over its counted tokens.
    """

    squared: Tensor
    active: Tensor
    rows: SparseLatents


@dataclass(frozen=True)
class Sample:
    """Tokens that one evaluation seed measures on, and what there is to explain in them, the same for every SAE.

    Attributes:
        tokens: int64 [n], all counted ones of some rows.
        rows: int64 [sampled rows].
        centred: sum over tokens of |x - mean x|^2.
        second_moment: mean over tokens of |x|^2.
        d_model: width of x.
    """

    tokens: Tensor
    rows: Tensor
    centred: float
    second_moment: float
    d_model: int


def sample(hidden: Tensor, tokens: Tensor, rows: Tensor) -> Sample:
    """A sample of tokens [n] of some rows, from their activations [n, d_model]."""
    x = hidden.float()
    mean = x.double().mean(0).float()
    return Sample(
        tokens=tokens,
        rows=rows,
        centred=float((x - mean).square().sum(1).double().sum()),
        second_moment=float(x.square().sum(1).double().mean()),
        d_model=x.shape[1],
    )


def reconstruction(
    errors: TokenErrors,
    drawn: Sample,
    found: Predictions,
    reconstruct: Callable[[Tensor], Tensor],
    continue_: Callable[[Tensor], Tensor],
) -> list[Record]:
    """All components of one SAE at one evaluation seed: `variance` on sampled tokens, `behaviour` on passages."""
    return [*variance(errors, drawn), *behaviour(found, reconstruct, continue_)]


def variance(errors: TokenErrors, drawn: Sample) -> list[Record]:
    """Explained variance, L0 and dead latents on a sample of tokens.

    `explained_variance` is 1 - sum|x - x'|^2 / sum|x - mean x|^2, at most 1. `explained_variance_saebench` is the number
    that SAEBench reports under that name (evals/core): it divides the mean error by E|x|^2 - (E|x|^2 / d_model)^2, which
    is no variance and changes with the scale of x.
    """
    error, active = errors.squared[drawn.tokens], errors.active[drawn.tokens]
    moment = drawn.second_moment
    values = {
        "explained_variance": _share(float(error.sum()), drawn.centred),
        "explained_variance_saebench": _share(float(error.mean()), moment - (moment / drawn.d_model) ** 2),
        "l0": float(active.double().mean()),
        "dead_latents": float((errors.rows.take(drawn.rows).counts() == 0).sum()),
    }
    return [record("reconstruction", part, value, n_test=len(error)) for part, value in values.items()]


def _share(lost: float, total: float) -> float:
    """1 - lost / total; NaN where there is nothing to explain."""
    return 1 - lost / total if total else float("nan")


@dataclass(frozen=True)
class Predictions:
    """What the model predicts from the residual stream as it is, and with counted tokens set to 0; on the model's device,
    but for `log_probabilities`, which are large and wait on the CPU.

    Attributes:
        hidden: [rows, length, d_model] at the hook.
        counts: bool [rows, length], tokens that are replaced and predicted from; the last position never counts.
        targets: int64 [n], the next token of each counted one.
        log_probabilities: [n, vocabulary] of the untouched model.
        clean, ablated: mean cross-entropy in nats.
    """

    hidden: Tensor
    counts: Tensor
    targets: Tensor
    log_probabilities: Tensor
    clean: float
    ablated: float


def predictions(hidden: Tensor, counts: Tensor, tokens: Tensor, continue_: Callable[[Tensor], Tensor]) -> Predictions:
    """Run the untouched and the zero-ablated model once; every SAE is compared with both.

    Args:
        hidden: [rows, length, d_model] at the hook.
        counts: bool [rows, length], tokens that count.
        tokens: int64 [rows, length].
        continue_: from the residual stream at the hook to logits [rows, length, vocabulary].
    """
    logits = continue_(hidden)
    hidden, counts, tokens = (part.to(logits.device) for part in (hidden, counts.clone(), tokens))
    counts[:, -1] = False
    targets = tokens.roll(-1, dims=1)[counts]
    log_probabilities = log_softmax(logits[counts], dim=-1)
    clean = float(-log_probabilities.gather(1, targets[:, None]).mean())
    kept, zeroed = log_probabilities.cpu(), torch.where(counts[..., None], 0.0, hidden)
    del logits, log_probabilities  # some gigabytes each on a large vocabulary
    ablated = float(cross_entropy(continue_(zeroed)[counts], targets))
    return Predictions(hidden, counts, targets, kept, clean, ablated)


def behaviour(
    found: Predictions, reconstruct: Callable[[Tensor], Tensor], continue_: Callable[[Tensor], Tensor]
) -> list[Record]:
    """Cross-entropy recovered and KL divergence, with counted tokens replaced by their reconstruction.

    `ce_recovered` = (ablated - replaced) / (ablated - clean), 1 for a perfect reconstruction; ablation sets the same
    tokens to 0 (SAEBench's `ce_loss_score`). `kl` is the mean KL(untouched || replaced) per token, in nats.

    Args:
        reconstruct: [n, d_model] -> [n, d_model].
    """
    replaced = found.hidden.clone()
    replaced[found.counts] = reconstruct(found.hidden[found.counts])
    log_probabilities = log_softmax(continue_(replaced)[found.counts], dim=-1)
    loss = float(-log_probabilities.gather(1, found.targets[:, None]).mean())
    untouched = found.log_probabilities.to(log_probabilities.device)
    divergence = kl_div(log_probabilities, untouched, log_target=True, reduction="batchmean")
    n = len(found.targets)
    gap = found.ablated - found.clean
    if gap <= 0:
        reason = f"the ablated model's loss {found.ablated:.4f} is no larger than the clean one's {found.clean:.4f}"
        recovered = record(
            "reconstruction", "ce_recovered", None, n_test=n, status="undefined_denominator", reason=reason
        )
    else:
        recovered = record("reconstruction", "ce_recovered", (found.ablated - loss) / gap, n_test=n)
    return [recovered, record("reconstruction", "kl", float(divergence), n_test=n)]
