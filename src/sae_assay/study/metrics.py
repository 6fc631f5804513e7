"""Sections that declare the metrics on trial and the scorecard, before any run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sae_assay.modes import BASELINE, LibraryMode, ScrRepair, TppRepair, WholeMode
from sae_assay.study.base import Fraction, MetricName, PositiveInt, Strict, no_repeats
from sae_assay.study.judged import LibraryAutoInterp, LibraryRavel
from sae_assay.study.library import Library, LibraryAblations, LibraryAbsorption, LibraryCore, LibraryProbing

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
    "saebench_sparse_probing": ("accuracy", "accuracy_of_all"),
    "saebench_tpp": ("score", "intended", "unintended"),
    "saebench_scr": ("score", "compatible", "direction_1", "direction_2"),
    "core": (
        "explained_variance_saebench",
        "explained_variance_legacy",
        "mse",
        "cossim",
        "l0",
        "l1",
        "l2_ratio",
        "relative_reconstruction_bias",
        "ce_loss_score",
        "kl_div_score",
        "frac_alive",
    ),
    "absorption": ("mean_absorption_fraction", "full_absorption_rate", "num_split_features"),
    "ravel": ("disentanglement_score", "cause_score", "isolation_score"),
    "autointerp": ("autointerp_score", "coverage"),
}
"""What each metric measures, as rows of the score table name it."""
LIBRARY: tuple[MetricName, ...] = (
    "saebench_sparse_probing",
    "saebench_tpp",
    "saebench_scr",
    "core",
    "absorption",
    "ravel",
    "autointerp",
)
"""Metrics that the real SAEBench computes."""


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
    saebench_sparse_probing: LibraryProbing | None = None
    saebench_tpp: LibraryAblations | None = None
    saebench_scr: LibraryAblations | None = None
    core: LibraryCore | None = None
    absorption: LibraryAbsorption | None = None
    ravel: LibraryRavel | None = None
    autointerp: LibraryAutoInterp | None = None

    @model_serializer(mode="wrap")
    def _without_absent_libraries(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A study that has none of the real SAEBench reads as it did before there was any."""
        return {name: value for name, value in handler(self).items() if value is not None or name not in LIBRARY}

    @property
    def library(self) -> dict[str, Library]:
        """The sections of the real SAEBench."""
        return {name: section for name in LIBRARY if (section := getattr(self, name)) is not None}

    @property
    def hyper_parameters(self) -> dict[str, list[int]]:
        """n or k_probe values of each metric that has them."""
        probing = {"sparse_probing": self.sparse_probing, "sae_probes": self.sae_probes}
        hps = {name: section.k_probe for name, section in probing.items() if section}
        hps |= {name: section.n for name, section in {"tpp": self.tpp, "scr": self.scr}.items() if section}
        return hps | {n: getattr(s, s.hyper_parameter) for n, s in self.library.items() if s.hyper_parameter}

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
    mode: WholeMode | LibraryMode | None = None


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
