"""Sections that declare the metrics on trial and the scorecard, before any run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, model_validator

from sae_assay.modes import BASELINE, ScrRepair, TppRepair, WholeMode
from sae_assay.study.base import Fraction, MetricName, PositiveInt, Strict, no_repeats

Repair = TypeVar("Repair", bound=str)
COMPONENTS: dict[MetricName, tuple[str, ...]] = {
    "ground_truth": ("mcc", "f1", "precision", "recall", "uniqueness", "explained_variance", "l0", "dead_latents"),
    "sparse_probing": ("accuracy",),
    "sae_probes": ("auc", "f1", "accuracy"),
    "tpp": ("score", "intended", "unintended"),
    "scr": ("score", "compatible", "direction_1", "direction_2"),
    "reconstruction": ("explained_variance", "explained_variance_saebench", "l0", "dead_latents", "ce_recovered", "kl"),
    "known_validity": ("score",),
    "pure_noise": ("score",),
}
"""What each metric measures, as rows of the score table name it."""


class KProbes(Strict):
    k_probe: Annotated[list[PositiveInt], Field(min_length=1)]


class FaultAblation(Strict, Generic[Repair]):
    """Modes that each repair one fault of `saebench`, scored on worlds at some of the metric's n, the score alone."""

    modes: Annotated[list[Repair], Field(min_length=1)]
    n: Annotated[list[PositiveInt], Field(min_length=1)]


class Ablations(Strict, Generic[Repair]):
    n: Annotated[list[PositiveInt], Field(min_length=1)]
    modes: Annotated[list[WholeMode], Field(min_length=1)] = ["saebench", "strict"]
    fault_ablation: FaultAblation[Repair] | None = None

    @model_validator(mode="after")
    def _check(self) -> Ablations[Repair]:
        if self.fault_ablation is None:
            return self
        no_repeats(list(self.fault_ablation.modes), "fault_ablation.modes")
        if BASELINE not in self.modes:
            raise ValueError(f"fault_ablation is compared with the mode {BASELINE}, which modes lacks: add it")
        foreign = [n for n in self.fault_ablation.n if n not in self.n]
        if foreign:
            raise ValueError(f"fault_ablation.n has {foreign}, which n lacks: choose among {self.n}")
        return self


class Noise(Strict):
    tau: Annotated[float, Field(gt=0)]


class Empty(Strict):
    pass


class Metrics(Strict):
    """The metrics on trial; one that is left out is not scored."""

    ground_truth: Empty | None = None
    sparse_probing: KProbes | None = None
    sae_probes: KProbes | None = None
    tpp: Ablations[TppRepair] | None = None
    scr: Ablations[ScrRepair] | None = None
    reconstruction: Empty | None = None
    known_validity: Noise | None = None
    pure_noise: Noise | None = None

    @property
    def hyper_parameters(self) -> dict[str, list[int]]:
        """n or k_probe values of each metric that has them."""
        probing = {"sparse_probing": self.sparse_probing, "sae_probes": self.sae_probes}
        hps = {name: section.k_probe for name, section in probing.items() if section}
        return hps | {name: section.n for name, section in {"tpp": self.tpp, "scr": self.scr}.items() if section}

    def check_primary(self, name: str, primary: Primary) -> None:
        """Refuse a primary setting that no score will have.

        Raises:
            ValueError: the metric is not on trial, or the setting is none of its own, or names several.
        """
        key, section = f"scorecard.primary.{name}", getattr(self, name)
        if section is None:
            raise ValueError(f"{key} is declared, but metrics.{name} is not: declare it, or leave the primary out")
        _one_of(f"{key}.component", primary.component, list(COMPONENTS[name]))  # type: ignore[index]
        _one_of(f"{key}.hp", primary.hp, self.hyper_parameters.get(name, [None]))
        modes = getattr(section, "modes", [None])
        _one_of(f"{key}.mode", primary.mode or (modes[0] if len(modes) == 1 else None), modes)


def _one_of(key: str, value: Any, known: Sequence[Any]) -> None:
    if value in known:
        return
    if list(known) == [None]:
        raise ValueError(f"{key} is {value!r}, but this metric has none: leave it out")
    raise ValueError(f"{key} is {'missing' if value is None else repr(value)}: one of {', '.join(map(str, known))}")


class Primary(Strict):
    component: str
    truth: Literal["mcc", "f1"]
    hp: int | None = None
    mode: WholeMode | None = None


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
