"""How a run is trained: settings, checks of the input, the order of the data and the controller of sparsity. Torch only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from sae_assay import seeds
from sae_assay.errors import AssayError
from sae_assay.saes.rows import FeatureRows, not_finite

TOPK_FAMILY = ("batchtopk", "matryoshka", "sampled_matryoshka")
CONTROLLED = {"standard": "l1", "jumprelu": "l0"}  # architecture: name of its coefficient in sae_lens
ARCHITECTURES = (*TOPK_FAMILY, "matching_pursuit", *CONTROLLED)


@dataclass(frozen=True)
class RunSettings:
    """One training run.

    Attributes:
        id: names the run, its progress bar and, with `purpose`, its random streams.
        arch: one of `ARCHITECTURES`.
        target_l0: k of the TopK family, iterations of matching pursuit, the controller's target otherwise.
        training_seed: seeds initialisation and data order; part of the id by convention, a number for the card.
        purpose: what precedes the id in the names of the streams, such as (study, substrate).
        d_sae: latents.
        samples, batch_size: rows seen and rows a step; steps = samples // batch_size.
        lr: Adam's peak rate; constant, then linear to 0 over the last `decay_fraction` of the steps.
        dead_feature_window: steps without firing after which a latent counts as dead in the auxiliary loss.
        widths: Matryoshka's nested prefixes, rising, the last d_sae.
        normalize_activations: `none` or `expected_average_only_in` (folded into the saved weights).
        device: `cpu` or a torch device.
        autocast: compute in bfloat16 where the device is no CPU.
        auxiliary_per_prefix: Matryoshka's dead latents rebuild the error of their own prefix.
        prefixes: sampled Matryoshka's number of widths drawn at every step; `smallest_prefix` is the least of them.
        hook: names the activations in the stored configuration, where they are a language model's.
        l0_control: first coefficient and clip of the controller; None: those of the architecture.
    """

    id: str
    arch: str
    target_l0: int
    training_seed: int
    purpose: tuple[str | int, ...]
    d_sae: int
    samples: int
    batch_size: int
    lr: float
    dead_feature_window: int = 1000
    decay_fraction: float = 0.2
    widths: tuple[int, ...] | None = None
    normalize_activations: str = "none"
    device: str = "cpu"
    autocast: bool = False
    auxiliary_per_prefix: bool = False
    prefixes: int | None = None
    smallest_prefix: int = 64
    hook: str | None = None
    l0_control: tuple[float, float] | None = None

    @property
    def steps(self) -> int:
        return self.samples // self.batch_size

    @property
    def variant(self) -> str | None:
        """What tells apart runs of one architecture and L0: `n3`, three prefixes drawn at every step."""
        return None if self.prefixes is None else f"n{self.prefixes}"

    @classmethod
    def of(
        cls, run: dict[str, Any], training: dict[str, Any], d_sae: int, purpose: tuple[str | int, ...], **more: Any
    ) -> RunSettings:
        """Settings of a study's run.

        Args:
            run: `id`, `arch`, `l0`, `training_seed`, `lr` and `widths` (or null).
            training: the study's section: `samples`, `batch_size`, `dead_feature_window`, `decay_fraction`; `autocast` and
                `l0_control` where it has them.
            d_sae: latents.
            purpose: what precedes the id in the names of the streams.
            more: `normalize_activations`, `device`.
        """
        control = (training.get("l0_control") or {}).get(run["arch"])
        return cls(
            id=run["id"],
            arch=run["arch"],
            target_l0=run["l0"],
            training_seed=run["training_seed"],
            purpose=purpose,
            d_sae=d_sae,
            samples=training["samples"],
            batch_size=training["batch_size"],
            lr=run["lr"],
            dead_feature_window=training["dead_feature_window"],
            decay_fraction=training["decay_fraction"],
            widths=tuple(run["widths"]) if run.get("widths") else None,
            autocast=training.get("autocast", False),
            l0_control=control and (control["start"], control["clip"]),
            **{name: run[name] for name in ("auxiliary_per_prefix", "prefixes", "smallest_prefix") if name in run},
            **more,
        )

    def check(self, rows: torch.Tensor | FeatureRows, snapshot_steps: list[int]) -> None:
        """Refuse rows and settings that cannot be trained, before any work.

        Args:
            rows: float32 [n, d_in].
            snapshot_steps: steps whose SAE is kept.

        Raises:
            AssayError: too few rows, non-finite rows, or settings that `check_settings` refuses.
        """
        if len(rows.shape) != 2 or rows.shape[0] < self.batch_size:
            raise AssayError(
                self.id, f"rows of shape {list(rows.shape)} hold no batch of {self.batch_size}", "draw more rows"
            )
        if bad := not_finite(rows):
            raise AssayError(
                self.id, f"{bad} of {len(rows)} training rows are not finite", "rebuild the activations they come from"
            )
        self.check_settings(snapshot_steps)

    def check_settings(self, snapshot_steps: list[int]) -> None:
        """Refuse settings that cannot be trained.

        Raises:
            AssayError: an unknown architecture, k beyond the width, widths or prefixes that do not fit, no step, or a
                snapshot outside the run.
        """
        if self.arch not in ARCHITECTURES:
            raise AssayError(self.id, f"unknown architecture {self.arch}", f"use one of {', '.join(ARCHITECTURES)}")
        if not 0 < self.target_l0 <= self.d_sae:
            raise AssayError(
                self.id, f"L0 {self.target_l0} does not fit {self.d_sae} latents", "lower l0 or raise d_sae"
            )
        widths = self.widths
        if widths and (list(widths) != sorted(set(widths)) or widths[0] < 1 or widths[-1] != self.d_sae):
            raise AssayError(
                self.id, f"widths {list(widths)} do not fit {self.d_sae} latents", "let widths rise and end with d_sae"
            )
        if self.prefixes is not None and not (self.prefixes > 0 and 0 < self.smallest_prefix < self.d_sae):
            problem = f"{self.prefixes} prefixes from {self.smallest_prefix} on do not fit {self.d_sae} latents"
            raise AssayError(self.id, problem, "lower smallest_prefix or raise d_sae")
        if self.steps < 1:
            raise AssayError(self.id, f"{self.samples} samples are no step of {self.batch_size}", "raise samples")
        outside = [step for step in snapshot_steps if not 1 <= step <= self.steps]
        if outside:
            raise AssayError(
                self.id, f"snapshots {outside} lie outside 1 .. {self.steps}", "correct the snapshot steps"
            )


def batches(rows: torch.Tensor | FeatureRows, settings: RunSettings) -> Iterator[torch.Tensor]:
    """Endless batches [batch_size, d_in]: every pass is a fresh permutation from the run's own stream; a pass's last,
    incomplete batch is left out."""
    generator = seeds.torch_generator(*settings.purpose, settings.id, "order")
    size = settings.batch_size
    while True:
        order = torch.randperm(len(rows), generator=generator)
        for start in range(0, len(rows) - size + 1, size):
            yield rows[order[start : start + size]]


def drawn_widths(run: RunSettings, step: int) -> list[int]:
    """Prefix widths of sampled Matryoshka at a step (0: the first): `run.prefixes` draws of LogUniform(smallest_prefix, d_sae),
    rounded down, each once, below d_sae; then d_sae. The step names the stream, so that a resumed run draws the same."""
    low, high = math.log(run.smallest_prefix), math.log(run.d_sae)
    uniform = seeds.numpy_generator(*run.purpose, run.id, "prefixes", step).random(run.prefixes)
    drawn = {int(math.exp(low + float(u) * (high - low))) for u in uniform}
    return [*sorted({min(run.d_sae - 1, max(run.smallest_prefix, width)) for width in drawn}), run.d_sae]


class L0Controller:
    """Sets a sparsity coefficient so that a run arrives at its target L0; takes the place of sae_lens's schedule.

    An integral controller on logarithms, without any random choice: after each step
    `log c += gain * clip(log mean L0 - log target)`, the mean being exponential over about `1 / smoothing`
    steps; a narrow clip keeps the many active latents of the start from driving an l1 penalty so high that latents die. It acts
    through the whole run, so the coefficient follows the falling learning rate; the last value is the one recorded.
    Its first value, gain, smoothing and clip are fixed per architecture (`CONTROLS` in `train.py`) or by the study, not
    searched per run.

    Args:
        target: L0 to reach, in latents.
        start: the first coefficient.
        gain: how fast the logarithm moves, per step.
        smoothing: weight of the newest L0 in the running mean.
        clip: largest error that counts, in log L0.
        limits: the coefficient stays within.
    """

    def __init__(
        self,
        target: float,
        start: float,
        gain: float,
        smoothing: float,
        clip: float = math.inf,
        limits: tuple[float, float] = (1e-4, 1e4),
    ) -> None:
        self.target, self.value, self.limits = target, start, limits
        self.gain, self.smoothing, self.clip = gain, smoothing, clip
        self.mean_l0: float | None = None

    def observe(self, l0: float) -> None:
        """Take one step's mean L0."""
        before = l0 if self.mean_l0 is None else self.mean_l0
        self.mean_l0 = before + self.smoothing * (l0 - before)
        error = math.log(max(self.mean_l0, 1e-2)) - math.log(self.target)
        error = min(self.clip, max(-self.clip, error))
        low, high = self.limits
        self.value = min(high, max(low, self.value * math.exp(self.gain * error)))

    def step(self) -> None:
        """sae_lens's trainer calls this after every step; the controller moves in `observe`."""

    def state_dict(self) -> dict[str, float | None]:
        return {"value": self.value, "mean_l0": self.mean_l0}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.value, self.mean_l0 = state["value"], state["mean_l0"]
