"""Sections of the real SAEBench's RAVEL and AutoInterp, at SAEBench's own defaults, by the names that it gives its settings."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from sae_assay.study.base import Fraction, PositiveInt, Strict, no_repeats
from sae_assay.study.library import Library

NotNegative = Annotated[float, Field(ge=0)]
INPUT_TOKENS, OUTPUT_TOKENS = 2000, 63
"""Of both questions about a latent: two instructions of some 400 tokens, 15 and 14 examples of about 21 tokens of the
language model with their marks; SAEBench lets the judge write 30 and 33 tokens. For the plan: a job counts its own prompts."""
_MILLION = 1_000_000


class LibraryRavel(Library):
    """RAVEL: do the SAE's latents hold one attribute of an entity apart from its others? `context` plays no part.

    Attributes:
        data: a folder with RAVEL's four files per entity class; without it the metric is `not_applicable`.
        entities: attributes, two or more, by entity class.
        top_entities: entities that the model knows best.
        pairs: pairs of prompts per attribute.
        downsample: prompts kept of all that there are.
        train_share: of the pairs, to train the mask on.
        epochs, lr: of the mask.
        generated_tokens: tokens that the model writes after a prompt.
    """

    data: str | None = None
    entities: Annotated[dict[str, list[str]], Field(min_length=1)] = {
        "city": ["Country", "Continent", "Language"],
        "nobel_prize_winner": ["Country of Birth", "Field", "Gender"],
    }
    top_entities: PositiveInt = 500
    pairs: PositiveInt = 5000
    downsample: PositiveInt | None = None
    train_share: Fraction = 0.7
    epochs: PositiveInt = 2
    lr: Annotated[float, Field(gt=0)] = 1e-3
    generated_tokens: PositiveInt = 6

    @model_validator(mode="after")
    def _check_entities(self) -> LibraryRavel:
        for name, attributes in self.entities.items():
            no_repeats(attributes, f"entities.{name}")
            if len(attributes) < 2:
                raise ValueError(f"entities.{name} has {attributes}: name two attributes or more, to hold apart")
        return self

    @property
    def files(self) -> list[str]:
        """The files of `data`."""
        parts = ("attribute_to_prompts", "entity_attributes", "entity_to_split", "prompt_to_split")
        return [] if self.data is None else [f"{self.data}/ravel_{c}_{p}.json" for c in self.entities for p in parts]


class UsdPerMillion(Strict):
    """Prices of the judge's tokens."""

    input: NotNegative
    output: NotNegative


class LibraryAutoInterp(Library):
    """AutoInterp: a judge explains latents from examples, then tells by its explanation which examples they fire on.

    Attributes:
        endpoint: base URL of an OpenAI-compatible service; its key is in the environment, under OPENAI_API_KEY, only.
        model: the judge's name there; SAEBench itself asks gpt-4o-mini.
        cap_usd: most that the study may spend, all its jobs and reruns together.
        usd_per_million: prices of a million tokens; 0 for a judge of one's own.
        latents: how many an evaluation seed draws, or which.
        tokens: of text.
        dead_below: latents that fire on fewer tokens are not drawn.
        timeout_s: longest wait for a reply.
        retries: further tries after a timeout, an error of the service, or a reply that cannot be used.
        pause_s: seconds before the first of them; doubled for each next.
        give_up_after: questions in a row without a usable reply, after which the job asks no more.
    """

    endpoint: str
    model: Annotated[str, Field(min_length=1)] = "gpt-4o-mini"
    cap_usd: NotNegative
    usd_per_million: UsdPerMillion
    latents: PositiveInt | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = 1000
    tokens: PositiveInt = 2_000_000
    dead_below: NotNegative = 15.0
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    pause_s: NotNegative = 2.0
    give_up_after: PositiveInt = 10

    @model_validator(mode="after")
    def _check_judge(self) -> LibraryAutoInterp:
        # Words of its own, none of the endpoint: what is wrong with it may be a secret in it.
        try:
            parts = urlsplit(self.endpoint)
            known = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            known = False
        if not known:
            raise ValueError("endpoint is no base URL such as https://api.openai.com/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("endpoint holds more than a base URL: a key belongs into OPENAI_API_KEY, not into a study")
        if isinstance(self.latents, list):
            no_repeats(self.latents, "latents")
        if self.context < 32:
            raise ValueError(f"context is {self.context}: examples of 21 tokens need texts of 32 or more")
        return self

    def estimate_usd(self, jobs: int) -> float:
        """About what so many jobs cost, before anything is known of their text."""
        latents = len(self.latents) if isinstance(self.latents, list) else self.latents
        each = INPUT_TOKENS * self.usd_per_million.input + OUTPUT_TOKENS * self.usd_per_million.output
        return jobs * latents * each / _MILLION


def config(metric: str, section: dict[str, Any]) -> dict[str, Any]:
    """A section (dumped) as envs/saebench/metrics_ravel.py and metrics_autointerp.py read it."""
    return _ravel(section) if metric == "ravel" else _autointerp(section)


def _ravel(section: dict[str, Any]) -> dict[str, Any]:
    return {
        "entity_attribute_selection": section["entities"],
        "top_n_entities": section["top_entities"],
        "num_pairs_per_attribute": section["pairs"],
        "full_dataset_downsample": section["downsample"],
        "train_test_split": section["train_share"],
        "num_epochs": section["epochs"],
        "learning_rate": section["lr"],
        "n_generated_tokens": section["generated_tokens"],
        "llm_batch_size": section["llm_batch_size"],
    }


def _autointerp(section: dict[str, Any]) -> dict[str, Any]:
    named = isinstance(section["latents"], list)
    asked = ("endpoint", "model", "cap_usd", "usd_per_million", "timeout_s", "retries", "pause_s", "give_up_after")
    return {
        "eval": {
            "n_latents": None if named else section["latents"],
            "override_latents": section["latents"] if named else None,
            "total_tokens": section["tokens"],
            "llm_context_size": section["context"],
            "dead_latent_threshold": section["dead_below"],
            "llm_batch_size": section["llm_batch_size"],
        },
        "judge": {name: section[name] for name in asked},
    }
