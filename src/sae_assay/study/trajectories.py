"""Sections that declare how SAEs are trained, which snapshots are kept, and how a language model's activations get to them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from sae_assay.study.base import TOPK_FAMILY, Architecture, PositiveInt, Strict, no_repeats

M = 10**6
SCHEDULES: dict[str, list[int]] = {
    "cross_architecture": [10 * M, 25 * M, *range(50 * M, 1001 * M, 50 * M), *range(1100 * M, 1501 * M, 100 * M)],
    "sampled_matryoshka": list(range(30 * M, 301 * M, 30 * M)),
}
"""The paper's snapshots in tokens, step 1 aside (method.md, Panels)."""
Schedule = Literal["cross_architecture", "sampled_matryoshka"]


class L0Control(Strict):
    """How the controller of an architecture's L0 begins (saes/settings.py): its first coefficient, and the largest error in
    log L0 that counts. A wide SAE starts with many active latents, and loses most of them to a coefficient that begins high."""

    start: Annotated[float, Field(gt=0)]
    clip: Annotated[float, Field(gt=0)]


class Training(Strict):
    """How SAEs are trained: `sae_lens.SAETrainer`, Adam, constant rate, linear decay over the last fraction.

    Attributes:
        normalize_activations: None: `expected_average_only_in` on a language model, `none` elsewhere.
        autocast: bfloat16 where there is a GPU.
        checkpoint_steps: a run of a language model's stream that was killed goes on from its last multiple of these steps.
        l0_control: by architecture, where it is not the one of saes/train.py.
    """

    optional: ClassVar = ("normalize_activations", "autocast", "checkpoint_steps", "l0_control")

    samples: PositiveInt
    batch_size: PositiveInt = 1024
    lr: Annotated[float, Field(gt=0)] = 3e-4
    dead_feature_window: PositiveInt = 1000
    decay_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    normalize_activations: Literal["none", "expected_average_only_in"] | None = None
    autocast: bool = False
    checkpoint_steps: PositiveInt = 1000
    l0_control: dict[Literal["standard", "jumprelu"], L0Control] | None = None

    @property
    def steps(self) -> int:
        return self.samples // self.batch_size


class Trajectories(Strict):
    """Training runs of the panel (or its replicates) whose snapshots are kept; the last is the finished SAE.

    Attributes:
        snapshots: how many, log-spaced; or tokens at which they are taken; or the name of a schedule of the paper.
        recalibrated: every snapshot comes a second time, its threshold moved to the nominal L0 on held-out activations.
    """

    optional: ClassVar = ("recalibrated",)

    archs: list[Architecture]
    l0: PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)]
    training_seeds: list[int]
    snapshots: Annotated[int, Field(ge=2)] | Schedule | Annotated[list[PositiveInt], Field(min_length=1)]
    recalibrated: bool = False

    @field_validator("snapshots", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in SCHEDULES:
            raise ValueError(f"is no schedule: name {' or '.join(SCHEDULES)}, or give a number or a list of tokens")
        return value

    @property
    def levels(self) -> list[int]:
        return self.l0 if isinstance(self.l0, list) else [self.l0]

    @model_validator(mode="after")
    def _check(self) -> Trajectories:
        no_repeats(self.levels, "trajectories.l0")
        foreign = [arch for arch in self.archs if arch not in TOPK_FAMILY]
        if self.recalibrated and foreign:
            raise ValueError(f"recalibrated moves a BatchTopK threshold, {', '.join(foreign)} has none: leave it out")
        return self

    def steps(self, training: Training) -> list[int]:
        """Rising steps, the last the end of training. Tokens become steps by whole batches.

        Raises:
            ValueError: tokens below a batch or beyond the training.
        """
        last = training.steps
        if isinstance(self.snapshots, int):
            return sorted({max(1, round(last ** (i / (self.snapshots - 1)))) for i in range(self.snapshots)})
        named = isinstance(self.snapshots, str)
        tokens = SCHEDULES[self.snapshots] if isinstance(self.snapshots, str) else self.snapshots
        outside = [t for t in tokens if not training.batch_size <= t <= training.samples]
        if outside:
            raise ValueError(
                f"trajectories.snapshots {self.snapshots} has {outside} tokens: a snapshot lies between one batch "
                f"({training.batch_size}) and training.samples ({training.samples})"
            )
        first = [1] if named else []
        return sorted({*first, *(t // training.batch_size for t in tokens), last})


class Cache(Strict):
    """Activations of the training text on disk, in shards.

    Attributes:
        dtype: of the stored activations.
        shard_tokens: rows of a shard, whole training batches; a shard is what is read, and shuffled, at a time.
        disk_budget_gb: in units of 10^9 bytes; activations, checkpoints and snapshots must fit, or nothing runs.
    """

    dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    shard_tokens: PositiveInt = 1 << 20
    disk_budget_gb: Annotated[float, Field(gt=0)]
