"""Training runs with the real `sae_lens.SAETrainer`. Importing this module imports sae_lens.

Architectures with a coefficient (standard: l1; JumpReLU: l0) reach their target L0 by a controller within the run
(`settings.L0Controller`): neither sae_lens nor the audit's code searches one, and a search over runs would cost
several trainings an SAE. JumpReLU's straight-through estimator also passes gradient to the encoder (`ste_to_input`,
Anthropic's setup), with a bandwidth for activations of order 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sae_lens import (
    BatchTopKTrainingSAEConfig,
    JumpReLUTrainingSAEConfig,
    MatchingPursuitTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAEConfig,
    TrainingSAE,
    TrainingSAEConfig,
)
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from sae_lens.training import sae_trainer
from tqdm import tqdm

from sae_assay import seeds
from sae_assay.saes import encoder, formats
from sae_assay.saes.rows import FeatureRows
from sae_assay.saes.settings import CONTROLLED, L0Controller, RunSettings, batches, drawn_widths

# The controller's first coefficient, gain per step, smoothing and clip. Chosen once on a 512-feature world by explained
# variance, achieved L0 and dead latents alone. A wide JumpReLU wants another beginning (docs/measurements/synth16k.md).
CONTROLS = {"standard": (1.0, 0.02, 0.1, 0.5), "jumprelu": (1.0, 0.02, 0.1, math.inf)}
JUMPRELU = {"jumprelu_bandwidth": 2.0, "jumprelu_init_threshold": 0.5, "jumprelu_ste_to_input": True}
NORM_BATCHES = 50  # batches read to estimate the mean norm of `expected_average_only_in`


@dataclass(frozen=True)
class Trained:
    """An SAE at one step of its run, in SAELens's inference form.

    Attributes:
        step: optimiser steps taken.
        config: the content of cfg.json.
        tensors: float32, by SAELens's names.
        coefficient: the sparsity coefficient at that step; None where the architecture has none.
    """

    step: int
    config: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]]
    coefficient: float | None


def train_run(
    rows: torch.Tensor | FeatureRows, run: RunSettings, snapshot_steps: Iterable[int] = ()
) -> dict[int, Trained]:
    """Train one SAE.

    Args:
        rows: float32 [n, d_in], on the CPU; seen in several passes if the run asks for more samples.
        run: the settings.
        snapshot_steps: steps in 1 .. run.steps whose SAE is kept beside the last one.

    Returns:
        The SAE at each of these steps and at the last step, in rising order. Equal arguments give equal bits on one
        machine with one number of threads.

    Raises:
        AssayError: input that cannot be trained on (`RunSettings.check`).
    """
    wanted = sorted({*snapshot_steps, run.steps})
    run.check(rows, wanted)
    with torch.random.fork_rng(devices=[]):
        sae = initialised(run, rows.shape[1])
        return Trainer(run, sae, batches(rows, run), wanted).run()


def initialised(run: RunSettings, d_in: int) -> TrainingSAE[Any]:
    """An untrained SAE; it takes torch's global generator, from which sae_lens initialises, and seeds it by the run."""
    torch.manual_seed(seeds.integer(*run.purpose, run.id, "init"))
    config = _config(run, d_in)
    if run.prefixes is not None:
        return SampledMatryoshka(config, run)
    return get_sae_training_class(config.architecture())[0](config)


def save(
    sae: Trained,
    run: RunSettings,
    on_trajectory: bool,
    calibration: torch.Tensor,
    config_path: str | Path,
    weights_path: str | Path,
    dtype: str = "float16",
    **more: Any,
) -> formats.SaeFile:
    """Write a trained SAE or snapshot with its card.

    Args:
        sae: what to write.
        run: the run it comes from.
        on_trajectory: whether the run keeps snapshots; only then do the card's `step` and `tokens` place the SAE on a
            trajectory (`training_steps` always says how long it was trained).
        calibration: held-out rows [n, d_in] on which L0, explained variance and dead latents are measured, with the
            weights as stored.
        config_path, weights_path: the two files.
        dtype: of the matrices.
        more: further keys of the card.
    """
    stored = formats.write(config_path, weights_path, sae.config, sae.tensors, {}, dtype)
    is_final = sae.step == run.steps
    card = {
        "sae_id": sae_id(run, sae.step),
        "panel": "panel" if is_final else "trajectory",
        "arch": run.arch,
        "target_l0": float(run.target_l0),
        "training_seed": run.training_seed,
        "variant": run.variant,
        "step": sae.step if on_trajectory else None,
        "tokens": sae.step * run.batch_size if on_trajectory else None,
        "training_steps": sae.step,
        "is_final": is_final,
        "coefficient": formats.number(sae.coefficient),
        "control": None,
        "base_sae_id": None,
        **encoder.measure(encoder.from_file(stored, run.id).on(run.device), calibration),
        **more,
    }
    return formats.write(config_path, weights_path, sae.config, sae.tensors, card, dtype)


def sae_id(run: RunSettings, step: int, form: str = "") -> str:
    """The name of a run's SAE at a step; `form` follows the run's name."""
    return f"{run.id}{form}" if step == run.steps else f"{run.id}{form}.step_{step:07d}"


def _config(run: RunSettings, d_in: int) -> TrainingSAEConfig:
    common: dict[str, Any] = {
        "d_in": d_in,
        "d_sae": run.d_sae,
        "device": run.device,
        "normalize_activations": run.normalize_activations,
    }
    if run.arch == "batchtopk":
        return BatchTopKTrainingSAEConfig(k=run.target_l0, **common)
    if run.arch == "matryoshka":
        widths = list(run.widths or (max(1, run.d_sae // 16), max(2, run.d_sae // 4), run.d_sae))
        per_prefix = run.auxiliary_per_prefix
        return MatryoshkaBatchTopKTrainingSAEConfig(
            k=run.target_l0, matryoshka_widths=widths, use_matryoshka_aux_loss=per_prefix, **common
        )
    if run.arch == "sampled_matryoshka":
        return MatryoshkaBatchTopKTrainingSAEConfig(
            k=run.target_l0, matryoshka_widths=drawn_widths(run, 0), use_matryoshka_aux_loss=True, **common
        )
    if run.arch == "matching_pursuit":
        return MatchingPursuitTrainingSAEConfig(max_iterations=run.target_l0, decoder_init_norm=1.0, **common)
    if run.arch == "standard":
        return StandardTrainingSAEConfig(l1_coefficient=CONTROLS["standard"][0], **common)
    return JumpReLUTrainingSAEConfig(l0_coefficient=CONTROLS["jumprelu"][0], **JUMPRELU, **common)


class SampledMatryoshka(MatryoshkaBatchTopKTrainingSAE):
    """Matryoshka whose prefixes are drawn anew at every step (method.md, Panels)."""

    def __init__(self, config: Any, run: RunSettings) -> None:
        super().__init__(config)
        self._run = run

    def training_forward_pass(self, step_input: Any) -> Any:
        self.cfg.matryoshka_widths = drawn_widths(self._run, step_input.n_training_steps)
        return super().training_forward_pass(step_input)


class Trainer(sae_trainer.SAETrainer[Any, Any]):
    """sae_lens's trainer with snapshots at any step, the L0 controller and a progress bar that names its run."""

    def __init__(self, run: RunSettings, sae: TrainingSAE[Any], data: Iterator[torch.Tensor], steps: list[int]) -> None:
        decay = int(run.steps * run.decay_fraction)
        cfg = SAETrainerConfig(
            total_training_samples=run.steps * run.batch_size,
            train_batch_size_samples=run.batch_size,
            lr=run.lr,
            lr_end=run.lr / 10,  # unused by a constant schedule, but the trainer insists on one
            lr_decay_steps=decay,
            device=run.device,
            autocast=run.autocast and run.device != "cpu",
            dead_feature_window=run.dead_feature_window,
            feature_sampling_window=run.steps + 1,
            n_batches_for_norm_estimate=NORM_BATCHES,
            logger=LoggingConfig(log_to_wandb=False),
        )
        super().__init__(cfg, sae, data, save_checkpoint_fn=self._keep)
        self.run_settings = run
        self.kept: dict[int, Trained] = {}
        # The library compares samples seen, before it counts the step.
        self.checkpoint_thresholds = [step * run.batch_size - 1 for step in steps[:-1]]
        self.controller: L0Controller | None = None
        if run.arch in CONTROLLED:
            start, gain, smoothing, clip = CONTROLS[run.arch]
            start, clip = run.l0_control or (start, clip)
            self.controller = L0Controller(run.target_l0, start, gain, smoothing, clip)
            self.coefficient_schedulers[CONTROLLED[run.arch]] = self.controller

    def run(self) -> dict[int, Trained]:
        library_bar = sae_trainer.tqdm
        sae_trainer.tqdm = partial(tqdm, disable=None)
        try:
            self.fit()
        finally:
            sae_trainer.tqdm = library_bar
        self.kept[self.run_settings.steps] = self._taken(self.run_settings.steps, self.sae)
        return self.kept

    def snapshot(self, step: int) -> Trained:
        """The SAE after `step` steps, the scale of the activations folded in."""
        sae = copy.deepcopy(self.sae)
        if self.activation_scaler.scaling_factor is not None:
            sae.fold_activation_norm_scaling_factor(self.activation_scaler.scaling_factor)
        return self._taken(step, sae)

    def _train_step(self, sae: Any, sae_in: torch.Tensor) -> Any:
        output = super()._train_step(sae, sae_in)
        if self.controller is not None:
            with torch.no_grad():
                self.controller.observe(float((output.feature_acts != 0).sum(-1).float().mean()))
        return output

    def _update_pbar(self, step_output: Any, pbar: Any, update_interval: int = 50) -> None:
        if self.n_training_steps % update_interval == 0:
            pbar.set_description(f"{self.run_settings.id} loss {step_output.loss.item():.3f}", refresh=False)
            pbar.update(update_interval * self.cfg.train_batch_size_samples)

    def _keep(self, checkpoint_path: Any = None) -> None:
        step = self.n_training_steps + 1
        self.kept[step] = self.snapshot(step)

    def _taken(self, step: int, sae: TrainingSAE[Any]) -> Trained:
        state = {name: tensor.detach().clone() for name, tensor in sae.state_dict().items()}
        sae.process_state_dict_for_saving_inference(state)
        return Trained(
            step=step,
            config=sae.cfg.get_inference_sae_cfg_dict(),
            tensors={name: tensor.float().cpu().numpy().copy() for name, tensor in state.items()},
            coefficient=self.controller.value if self.controller else None,
        )
