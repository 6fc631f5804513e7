"""The section that declares a noise anatomy (`sae_assay.anatomy`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sae_assay.anatomy import SOURCES, Source
from sae_assay.study.base import Fraction, Name, PositiveInt, Strict, no_repeats

OF_KIND: dict[str, tuple[Source, ...]] = {"world": SOURCES, "lm": ("data", "split", "probe", "negatives")}
"""Sources that a substrate of a kind can reseed; a language model's tasks are its labelled sets."""


class AnatomySubstrate(Strict):
    """Which SAEs are scored, what is reseeded, and how often.

    Attributes:
        levels: blocks, and pairs of levels of each source; an interval of a variance from 20 spans a factor of 4.
        resamples: of the rows of each block's start.
        text_share: on a language model, share of the cached rows that makes one sample.
    """

    saes: Annotated[list[str], Field(min_length=2)]
    sources: Annotated[list[Source], Field(min_length=2)]
    levels: Annotated[int, Field(ge=3)] = 20
    resamples: Annotated[int, Field(ge=2)] = 5
    text_share: Fraction | None = None

    @model_validator(mode="after")
    def _check(self) -> AnatomySubstrate:
        no_repeats(self.saes, "saes")
        no_repeats(list(self.sources), "sources")
        return self


class Anatomy(Strict):
    """A noise anatomy of some of the study's substrates; `blocks_per_job` says how many blocks one job scores."""

    blocks_per_job: PositiveInt = 5
    substrates: Annotated[dict[Name, AnatomySubstrate], Field(min_length=1)]

    @property
    def text_shares(self) -> dict[str, float]:
        """Substrate -> share of its text that one sample takes, where it samples fixed text."""
        return {name: s.text_share for name, s in self.substrates.items() if s.text_share is not None}
