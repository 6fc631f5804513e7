"""Several SAEs trained side by side from one stream of batches, with checkpoints. Importing this module imports sae_lens.

Every SAE has its own trainer, optimiser, scaler and random streams, and sees the stream's batches in turn: trained in a group
it has the bits that it has alone. A checkpoint is a folder of sae_lens's own state files, written whole and then renamed; the
stream needs none but where its blocks begin, and sampled widths none, as the step names their draw.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from sae_assay import scratch
from sae_assay.errors import AssayError
from sae_assay.saes import formats, recalibration, train
from sae_assay.saes.settings import RunSettings

CHECKPOINT, STATE, WEIGHTS, SAES = "checkpoint", "state.json", "weights.safetensors", "saes"


@dataclass(frozen=True)
class Member:
    """A run of the group: its settings, the steps of its unfinished snapshots, whether its SAEs are also recalibrated."""

    run: RunSettings
    steps: list[int]
    recalibrated: bool = False

    @property
    def wanted(self) -> list[int]:
        return sorted({*self.steps, self.run.steps})

    @property
    def ids(self) -> list[str]:
        """Its SAEs, in the order of a training job's outputs."""
        forms = ["", recalibration.FORM] if self.recalibrated else [""]
        return [train.sae_id(self.run, step, form) for form in forms for step in self.wanted]


class Group:
    """The runs of one job, and where they stand.

    Args:
        members: of equal samples and batch size.
        calibration: held-out rows [n, d_in]: they set the scale of the activations, measure every SAE and recalibrate.
        folder: keeps SAEs and the last checkpoint.

    Raises:
        AssayError: settings that cannot be trained, or runs of different lengths.
    """

    def __init__(self, members: list[Member], calibration: torch.Tensor, folder: Path) -> None:
        if len({(m.run.steps, m.run.batch_size) for m in members}) != 1:
            raise AssayError("training", "runs of different lengths side by side", "give them one section `training`")
        for member in members:
            member.run.check_settings(member.wanted)
        self.members, self.calibration, self.folder = members, calibration, folder
        self.steps, self.batch_size = members[0].run.steps, members[0].run.batch_size
        with torch.random.fork_rng(devices=[]):
            self.trainers = [self._trainer(member) for member in members]
        self.done = 0

    def _trainer(self, member: Member) -> train.Trainer:
        sae = train.initialised(member.run, self.calibration.shape[1])
        sae.cfg.metadata.hook_name = member.run.hook
        trainer = train.Trainer(member.run, sae, iter(()), member.wanted)
        sae.to(member.run.device)
        if sae.cfg.normalize_activations == "expected_average_only_in":
            parts = self.calibration.split(self.batch_size)
            trainer.activation_scaler.estimate_scaling_factor(sae.cfg.d_in, iter(parts), len(parts))
        return trainer

    def resume(self) -> dict[str, Any]:
        """Go back to the last checkpoint; what it says of the stream, empty without one."""
        found = sorted(self.folder.glob(f"{CHECKPOINT}_*"))
        if not found:
            return {}
        last = found[-1]
        state = json.loads((last / STATE).read_text(encoding="utf-8"))
        for member, trainer in zip(self.members, self.trainers, strict=True):
            home = last / member.run.id
            trainer.load_trainer_state(home)
            trainer.sae.load_state_dict(load_file(home / WEIGHTS, device=member.run.device))
        self.done = state["step"]
        return state["stream"]

    def fit(self, stream: Iterator[torch.Tensor], every: int, places: Callable[[], dict[str, Any]]) -> None:
        """Train to the end.

        Args:
            stream: batches from step `done` on.
            every: steps between checkpoints.
            places: what the stream needs to be found again.
        """
        bar = tqdm(total=self.steps, initial=self.done, desc="steps", unit_scale=True, disable=None, file=sys.stderr)
        for step in range(self.done + 1, self.steps + 1):
            batch = next(stream).to(self.members[0].run.device)
            for member, trainer in zip(self.members, self.trainers, strict=True):
                trainer.step(batch)
                trainer.n_training_steps += 1
                if step in member.wanted:
                    self._keep(member, trainer.snapshot(step))
            self.done = step
            if step % every == 0 and step < self.steps:
                self._checkpoint(places())
            bar.update()
        bar.close()

    def _keep(self, member: Member, sae: train.Trained) -> None:
        """Write an SAE, as trained and recalibrated; an earlier process's file of the same step is replaced."""
        run, calibration = member.run, self.calibration
        train.save(sae, run, bool(member.steps), calibration, *self._files(run, sae.step))
        if member.recalibrated:
            recalibration.save(sae, run, calibration, *self._files(run, sae.step, recalibration.FORM))

    def _files(self, run: RunSettings, step: int, form: str = "") -> tuple[Path, Path]:
        home = self.folder / SAES / train.sae_id(run, step, form)
        home.mkdir(parents=True, exist_ok=True)
        return home / formats.CONFIG, home / formats.WEIGHTS

    def _checkpoint(self, stream: dict[str, Any]) -> None:
        """Write a checkpoint under a name of its own, and remove the last one once it is whole."""
        new, before = self.folder / f".{CHECKPOINT}", list(self.folder.glob(f"{CHECKPOINT}_*"))
        shutil.rmtree(new, ignore_errors=True)
        for member, trainer in zip(self.members, self.trainers, strict=True):
            home = new / member.run.id
            trainer.save_trainer_state(home)
            save_file({name: tensor.contiguous() for name, tensor in trainer.sae.state_dict().items()}, home / WEIGHTS)
        (new / STATE).write_text(json.dumps({"step": self.done, "stream": stream}), encoding="utf-8")
        for path in [*new.rglob("*"), new, *(self.folder / SAES).rglob("*")]:
            scratch.settle(path)
        new.rename(self.folder / f"{CHECKPOINT}_{self.done:07d}")
        for last in before:
            shutil.rmtree(last)
