"""Sections that declare the metrics on trial and the scorecard, before any run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sae_assay.study.base import Fraction, MetricName, Mode, PositiveInt, Strict


class KProbes(Strict):
    k_probe: Annotated[list[PositiveInt], Field(min_length=1)]


class Ablations(Strict):
    n: Annotated[list[PositiveInt], Field(min_length=1)]
    modes: Annotated[list[Mode], Field(min_length=1)] = ["saebench", "strict"]


class Noise(Strict):
    tau: Annotated[float, Field(gt=0)]


class Empty(Strict):
    pass


class Metrics(Strict):
    """The metrics on trial; one that is left out is not scored."""

    ground_truth: Empty | None = None
    sparse_probing: KProbes | None = None
    sae_probes: KProbes | None = None
    tpp: Ablations | None = None
    scr: Ablations | None = None
    reconstruction: Empty | None = None
    known_validity: Noise | None = None
    pure_noise: Noise | None = None


class Primary(Strict):
    component: str
    truth: Literal["mcc", "f1"]
    hp: int | None = None
    mode: Mode | None = None


class Thresholds(Strict):
    repeatable: float = 0.9
    discriminating: float = 0.8
    improving: float = 0.0
    valid: float = 0.6
    sane: float = 0.0


class Scorecard(Strict):
    primary: dict[MetricName, Primary]
    thresholds: Thresholds = Thresholds()
    confidence: Fraction = 0.95
