"""Scores one SAE on a language-model substrate: every cheap metric at one evaluation seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sae_assay import seeds
from sae_assay.lms import activations
from sae_assay.lms.evaluation import pooled_hidden
from sae_assay.metrics import probing, reconstruction, scr, tpp
from sae_assay.metrics.ablation import with_padding

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from sae_assay.lms.evaluation import Evaluation
    from sae_assay.lms.texts import Texts, TextSet
    from sae_assay.metrics.records import Record
    from sae_assay.saes.encoder import LightSAE

NO_SCR = (
    "no two attributes of the text cross in enough rows: the best pairs of sae-probes sets share 36 to 142 prompts a "
    "cell, and composed prompts leave the biased probe next to no bias to repair"
)


@dataclass(frozen=True)
class Encoded:
    """One SAE on all text, computed once for all evaluation seeds.

    Attributes:
        pooled: by set name, mean latents [rows, d_sae] over counted tokens.
        errors: every counted token of all sets, in the order of `Texts.binary` and then `many`.
        rows: int64 [tokens], the token's row, counted through the sets.
        zero: [d_sae], latents of an all-zero activation.
    """

    pooled: dict[str, Tensor]
    errors: reconstruction.TokenErrors
    rows: Tensor
    zero: Tensor


@torch.no_grad()
def encode(sae: LightSAE, texts: Texts) -> Encoded:
    """Encode every counted token once."""
    pooled, active, squared, hidden, rows, start = {}, [], [], [], [], 0
    for found in [*texts.binary, texts.many]:
        x = found.hidden.float()
        latents = sae.encode(x)
        pooled[found.name] = activations.pooled(latents, found.row, len(found.labels))
        active.append(latents != 0)
        squared.append((x - sae.decode(latents, x)).double().square().sum(1))
        hidden.append(found.hidden)
        rows.append(found.row + start)
        start += len(found.labels)
    errors = reconstruction.TokenErrors(torch.cat(squared), torch.cat(hidden), torch.cat(active))
    return Encoded(pooled, errors, torch.cat(rows), sae.encode(torch.zeros(1, sae.d_in))[0])


@torch.no_grad()
def score(
    sae: LightSAE,
    encoded: Encoded,
    texts: Texts,
    evaluation: Evaluation,
    predictions: reconstruction.Predictions | None,
    continue_: Callable[[Tensor], Tensor] | None,
    metrics: dict[str, Any],
) -> list[Record]:
    """All records of one SAE at one evaluation seed.

    Args:
        predictions, continue_: the model's own predictions on the seed's passages and the rest of the model; needed for
            the metric reconstruction only.
        metrics: the study's sections by name; others than these four metrics are left to other jobs.
    """
    records: list[Record] = []
    if "sparse_probing" in metrics:
        records += _sparse_probing(encoded, texts, evaluation, metrics["sparse_probing"]["k_probe"])
    if "tpp" in metrics:
        for mode in metrics["tpp"]["modes"]:
            records += _tpp(sae, encoded, texts, evaluation, metrics["tpp"]["n"], mode)
    if "scr" in metrics:
        for mode in metrics["scr"]["modes"]:
            records += scr.unavailable("native_crossings", None, metrics["scr"]["n"], mode, "too_few_rows", NO_SCR)
    if "reconstruction" in metrics:
        if predictions is None or continue_ is None:
            raise ValueError("the metric reconstruction needs the model's predictions")
        tokens = _sampled_tokens(encoded, texts, evaluation)
        records += reconstruction.reconstruction(
            encoded.errors, tokens, predictions, lambda x: sae.decode(sae.encode(x), x), continue_
        )
    return records


def _sparse_probing(encoded: Encoded, texts: Texts, evaluation: Evaluation, ks: list[int]) -> list[Record]:
    """SAEBench's procedure; the concept is each binary set's second label."""
    inputs, draws = [], []
    for found in texts.binary:
        rows, latents = evaluation.splits[found.name], encoded.pooled[found.name]
        train, test = rows.train.flip(0), rows.test.flip(0)  # the concept's rows first
        inputs.append(
            probing.ProbingInput(
                task=found.name,
                task_kind=None,
                train_latents=latents[train.flatten()],
                test_latents=latents[test.flatten()],
                train_positives=train.shape[1],
                test_positives=test.shape[1],
                train_order=torch.arange(train.numel()),
                test_order=torch.arange(test.numel()),
            )
        )
        generator = seeds.torch_generator(*evaluation.purpose, "sparse_probing", found.name)
        sizes = [(t.shape[1], t.shape[1]) for t in (train, test)]
        draws.append(probing.draw(sizes[0], sizes[1], len(ks), generator))
    return probing.sparse_probing(inputs, draws, ks)


def _tpp(
    sae: LightSAE, encoded: Encoded, texts: Texts, evaluation: Evaluation, ns: list[int], mode: str
) -> list[Record]:
    found = texts.many
    rows, latents = evaluation.splits[found.name], encoded.pooled[found.name]
    ablated = latents
    if mode == "saebench":
        ablated = with_padding(latents, _pad_ratio(found, texts.about["context"]), encoded.zero)
    inputs = tpp.TppInput(
        task=found.name,
        task_kind=None,
        train_latents=latents[rows.train],
        test_latents=ablated[rows.test],
        test_hidden=pooled_hidden(found)[rows.test],
        W_dec=sae.W_dec,
        probes=evaluation.probes[mode],
    )
    if mode == "strict":
        return tpp.strict(inputs, ns)
    generator = seeds.torch_generator(*evaluation.purpose, "tpp", found.name)
    classes, m, r = *rows.train.shape, rows.test.shape[1]
    return tpp.saebench(inputs, tpp.draw(classes, m, r, len(ns), generator), ns)


def _pad_ratio(found: TextSet, context: int) -> Tensor:
    """Masked positions of a window per counted token [rows]; 0 where a row has no counted token (it is never used)."""
    counted = torch.bincount(found.row, minlength=len(found.labels))
    return torch.where(counted > 0, (context - counted) / counted.clamp(min=1), 0.0)


def _sampled_tokens(encoded: Encoded, texts: Texts, evaluation: Evaluation) -> Tensor:
    start, chosen = 0, []
    for found in [*texts.binary, texts.many]:
        chosen.append(evaluation.sampled_rows(found.name, len(found.labels)) + start)
        start += len(found.labels)
    sampled = torch.zeros(start, dtype=torch.bool)
    sampled[torch.cat(chosen)] = True
    return torch.where(sampled[encoded.rows])[0]
