"""Scores one SAE on a language-model substrate: every cheap metric at one evaluation seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_assay import seeds
from sae_assay.lms.evaluation import pooled_hidden, probe_key, scr_classes
from sae_assay.metrics import probing, reconstruction, scr, tpp
from sae_assay.metrics.ablation import with_padding
from sae_assay.metrics.latents import SparseLatents

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from sae_assay.lms.evaluation import Evaluation
    from sae_assay.lms.texts import Texts, TextSet
    from sae_assay.metrics.records import Record
    from sae_assay.modes import Mode
    from sae_assay.saes.encoder import LightSAE


@dataclass(frozen=True)
class Encoded:
    """One SAE on all text, computed once for all evaluation seeds.

    Attributes:
        pooled: by set name, mean latents [rows, d_sae] over counted tokens; silent where a row has none (it is never used).
        errors: every counted token of all sets, in the order of `Texts.sets`.
        zero: [d_sae], latents of an all-zero activation.
    """

    pooled: dict[str, SparseLatents]
    errors: reconstruction.TokenErrors
    zero: Tensor


@torch.no_grad()
def encode(sae: LightSAE, texts: Texts) -> Encoded:
    """Encode every counted token once."""
    pooled, active, squared = {}, [], []
    for found in texts.sets:
        latents, lost = _encode(sae, found.hidden)
        pooled[found.name] = latents.means(found.row, len(found.labels))
        active.append(torch.from_numpy(np.diff(latents.indptr)))
        squared.append(lost)
    rows = SparseLatents.concatenate(list(pooled.values()))
    errors = reconstruction.TokenErrors(torch.cat(squared), torch.cat(active), rows)
    return Encoded(pooled, errors, sae.encode(torch.zeros(1, sae.d_in))[0])


def _encode(sae: LightSAE, hidden: Tensor) -> tuple[SparseLatents, Tensor]:
    """Latents of tokens [tokens, d_model] and their squared errors [tokens], float64."""
    worker, parts, squared = sae.worker, [], []
    for part in hidden.split(sae.rows_together):
        x = part.float().to(worker.W_dec.device)
        latents = worker.encode(x)
        parts.append(SparseLatents.of(latents))
        squared.append((x - worker.decode(latents, x)).square().sum(1).double().cpu())
    return SparseLatents.concatenate(parts), torch.cat(squared)


@dataclass(frozen=True)
class Seed:
    """What all SAEs share at one evaluation seed.

    Attributes:
        evaluation: splits, probes and sampled rows.
        pooled: by set name, mean raw activations [rows, d_model]; of the sets that ablations work on.
        sample: tokens for explained variance; it and the next two are None where the metric reconstruction is not scored.
        predictions: the model's own on the seed's passages.
        continue_: the rest of the model, from the hook on.
    """

    evaluation: Evaluation
    pooled: dict[str, Tensor]
    sample: reconstruction.Sample | None = None
    predictions: reconstruction.Predictions | None = None
    continue_: Callable[[Tensor], Tensor] | None = None


@torch.no_grad()
def prepare(texts: Texts, evaluation: Evaluation, continue_: Callable[[Tensor], Tensor] | None) -> Seed:
    """Compute once what every SAE is compared with."""
    pooled = pooled_sets(texts)
    sample = reconstruction.sample(*_sampled_tokens(texts, evaluation))
    predictions = None
    if continue_ is not None:
        p = texts.passages.take(evaluation.passages)
        predictions = reconstruction.predictions(p.hidden, p.counts, p.tokens, continue_)
    return Seed(evaluation, pooled, sample, predictions, continue_)


def pooled_sets(texts: Texts) -> dict[str, Tensor]:
    """Mean raw activations [rows, d_model] of the sets that ablations work on."""
    return {found.name: pooled_hidden(found) for found in [*texts.crossed, texts.many]}


@torch.no_grad()
def score(sae: LightSAE, encoded: Encoded, texts: Texts, seed: Seed, metrics: dict[str, Any]) -> list[Record]:
    """All records of one SAE at one evaluation seed.

    Args:
        metrics: the study's sections by name; others than these four metrics are left to other jobs.
    """
    records: list[Record] = []
    if "sparse_probing" in metrics:
        records += _sparse_probing(encoded, texts, seed.evaluation, metrics["sparse_probing"]["k_probe"])
    if "tpp" in metrics:
        for mode in metrics["tpp"]["modes"]:
            records += _tpp(sae, encoded, texts, seed, metrics["tpp"]["n"], mode)
    if "scr" in metrics:
        for mode in metrics["scr"]["modes"]:
            for crossed in texts.crossed:
                records += _scr(sae, encoded, texts, crossed, seed, metrics["scr"]["n"], mode)
    if "reconstruction" in metrics:
        if seed.sample is None or seed.predictions is None or seed.continue_ is None:
            raise ValueError("the metric reconstruction needs sampled tokens and the model's predictions")
        worker = sae.worker
        records += reconstruction.reconstruction(
            encoded.errors, seed.sample, seed.predictions, lambda x: worker.decode(worker.encode(x), x), seed.continue_
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
                train_latents=latents.take(train.flatten()),
                test_latents=latents.take(test.flatten()),
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


def _tpp(sae: LightSAE, encoded: Encoded, texts: Texts, seed: Seed, ns: list[int], mode: Mode) -> list[Record]:
    found, evaluation = texts.many, seed.evaluation
    rows, latents = evaluation.splits[found.name], encoded.pooled[found.name].dense()
    ablated = _as_ablated(latents, encoded, texts, found, mode)
    inputs = tpp.TppInput(
        task=found.name,
        task_kind=None,
        train_latents=latents[rows.train],
        test_latents=ablated[rows.test],
        test_hidden=seed.pooled[found.name][rows.test],
        W_dec=sae.W_dec,
        probes=evaluation.probes[probe_key(mode, found.name)],
    )
    if mode == "strict":
        return tpp.strict(inputs, ns)
    generator = seeds.torch_generator(*evaluation.purpose, "tpp", found.name)
    classes, m, r = *rows.train.shape, rows.test.shape[1]
    return tpp.saebench(inputs, tpp.draw(classes, m, r, len(ns), generator), ns)


def _scr(
    sae: LightSAE, encoded: Encoded, texts: Texts, found: TextSet, seed: Seed, ns: list[int], mode: Mode
) -> list[Record]:
    evaluation = seed.evaluation
    rows, latents = evaluation.splits[found.name], encoded.pooled[found.name].dense()
    train, test = (
        torch.stack([torch.stack(classes) for classes in scr_classes(part, mode)[:2]])
        for part in (rows.train, rows.test)
    )
    inputs = scr.ScrInput(
        task=found.name,
        task_kind=None,
        train_latents=latents[train],
        test_latents=_as_ablated(latents, encoded, texts, found, mode)[test],
        test_hidden=seed.pooled[found.name][test],
        W_dec=sae.W_dec,
        probes=evaluation.probes[probe_key(mode, found.name)],
    )
    return scr.scr(inputs, ns, mode)


def _as_ablated(latents: Tensor, encoded: Encoded, texts: Texts, found: TextSet, mode: Mode) -> Tensor:
    """Pooled latents as an ablation removes them: SAEBench encodes masked positions as zeros and removes those too."""
    if mode == "strict":
        return latents
    return with_padding(latents, _pad_ratio(found, texts.about["context"]), encoded.zero)


def _pad_ratio(found: TextSet, context: int) -> Tensor:
    """Masked positions of a window per counted token [rows]; 0 where a row has no counted token (it is never used)."""
    counted = torch.bincount(found.row, minlength=len(found.labels))
    return torch.where(counted > 0, (context - counted) / counted.clamp(min=1), 0.0)


def _sampled_tokens(texts: Texts, evaluation: Evaluation) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of the sampled rows: their activations [n, d_model], where they stand [n] and where the rows stand [rows], both
    counted through all sets."""
    hidden, chosen, rows, start, above = [], [], [], 0, 0
    for found in texts.sets:
        sampled = torch.zeros(len(found.labels), dtype=torch.bool)
        sampled[evaluation.sampled_rows(found.name, len(found.labels))] = True
        tokens = torch.where(sampled[found.row])[0]
        hidden.append(found.hidden[tokens])
        chosen.append(tokens + start)
        rows.append(torch.where(sampled)[0] + above)
        start, above = start + len(found.row), above + len(found.labels)
    return torch.cat(hidden), torch.cat(chosen), torch.cat(rows)
