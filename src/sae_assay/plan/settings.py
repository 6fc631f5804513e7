"""The settings of each job: all configuration that its step sees. Methods of `wildcards` are Snakemake parameter functions."""

from __future__ import annotations

from typing import Any

from sae_assay.plan.files import Files
from sae_assay.plan.names import dump, snapshot_id
from sae_assay.study import Run, Substrate, TrainingGroup

# Fixed, independent of --cores: a sum's order depends on the number of threads.
THREADS = 1
RESEEDED = ("sparse_probing", "sae_probes", "tpp", "scr")
"""Metrics of a noise anatomy."""


class Settings(Files):
    """Files, and the settings of the jobs that make them."""

    def settings(self, **more: Any) -> dict[str, Any]:
        """What every job is told, and more."""
        return {
            "study": self.name,
            "device": self.study.device,
            "profile": self.study.numeric_profile,
            "threads": THREADS,
            **more,
        }

    def of_substrate(self, substrate: str, job: str, **more: Any) -> dict[str, Any]:
        section = self._substrate(substrate)
        return self.settings(job=job, substrate=substrate, kind=section.kind, d_sae=section.d_sae, **more)

    def step(self, name: str) -> Any:
        """The step of a rule: toy substrates have one of their own, free of torch."""
        return lambda wildcards: "toy" if self._substrate(wildcards.substrate).kind == "toy" else name

    def world_settings(self, wildcards: Any) -> dict[str, Any]:
        section = self._substrate(wildcards.substrate)
        either = {name: getattr(section, name) for name in ("world", "published_world")}
        sections = {name: value and dump(value) for name, value in either.items()}
        return self.of_substrate(wildcards.substrate, "world", **sections)

    def samples_settings(self, wildcards: Any) -> dict[str, Any]:
        samples = dump(self._substrate(wildcards.substrate).samples)
        return self.of_substrate(
            wildcards.substrate, "samples", samples=samples, evaluation_seeds=self.evaluation_seeds
        )

    def tasks_settings(self, wildcards: Any) -> dict[str, Any]:
        section = self._substrate(wildcards.substrate)
        return self.of_substrate(wildcards.substrate, "tasks", tasks=dump(section.tasks))

    def train_settings(self, group: TrainingGroup) -> dict[str, Any]:
        """`runs`: id, arch, l0, training_seed, lr, widths, snapshot_steps (unfinished ones); outputs follow their order."""
        section = self._substrate(group.substrate)
        runs = [self._run_settings(section, run) for run in group.runs]
        training = dump(section.training)
        if not section.streamed:
            return self.of_substrate(group.substrate, "train", group=group.name, training=training, runs=runs)
        training["checkpoint_steps"] = section.training.checkpoint_steps
        seen = {"lm": self.stream_section(group.substrate), "training": training, "runs": runs}
        return self.of_substrate(group.substrate, "train_stream", group=group.name, **seen)

    def stream_section(self, substrate: str) -> dict[str, Any]:
        """A language model's section, with the calibration tokens where its activations are streamed."""
        section = self._substrate(substrate).lm
        if section is None:
            raise KeyError(substrate)
        return dump(section) | ({"calibration_tokens": section.calibration_tokens} if section.cache else {})

    def train_step(self, group: TrainingGroup) -> str:
        """The step of a training job."""
        if self.kind(group.substrate) == "toy":
            return "toy"
        return "train_stream" if self._substrate(group.substrate).streamed else "train"

    def _run_settings(self, section: Substrate, run: Run) -> dict[str, Any]:
        entry = section.panel[run.arch]
        kept = run.id in {item.id for item in section.trajectory_runs}
        optional = {
            "prefixes": run.prefixes,
            "smallest_prefix": entry.smallest_prefix if run.prefixes else None,
            "auxiliary_per_prefix": entry.auxiliary_per_prefix or None,
            "recalibrated": run.recalibrated_id in section.recalibrated_ids or None,
        }
        return {
            "id": run.id,
            "arch": run.arch,
            "l0": run.l0,
            "training_seed": run.training_seed,
            "lr": entry.lr if entry.lr is not None else section.training.lr,
            "widths": entry.widths,
            "snapshot_steps": section.unfinished_steps if kept else [],
            **{name: value for name, value in optional.items() if value is not None},
        }

    def import_settings(self, substrate: str) -> dict[str, Any]:
        section = dump(self.study.imported[substrate])
        return self.settings(job="import_saebench", substrate=substrate, imported=section)

    def published_settings(self, substrate: str) -> dict[str, Any]:
        saes = [
            {
                "id": group.id_of(run),
                "input": group.input,
                "folder": group.folder_of(run),
                "arch": run.arch,
                "l0": run.l0,
                "training_seed": run.training_seed,
                **({"release": group.release} if group.release else {}),
            }
            for group in self._substrate(substrate).published
            for run in group.runs
        ]
        return self.of_substrate(substrate, "published_saes", saes=saes)

    def controls_settings(self, substrate: str) -> dict[str, Any]:
        section = self._substrate(substrate)
        wanted = []
        for name in section.control_ids:
            kind, dot, base = name.partition(".of.")
            wanted.append({"id": name, "kind": kind, "base": base if dot else None})
        options = dump(section.controls)
        samples = dump(section.samples)
        return self.of_substrate(substrate, "controls", controls=wanted, options=options, samples=samples)

    def evaluation_settings(self, wildcards: Any) -> dict[str, Any]:
        section = self._substrate(wildcards.substrate)
        more = {"tasks": dump(section.tasks), "metrics": self.cheap_metrics(wildcards.substrate)}
        return self.of_substrate(wildcards.substrate, "evaluation_sets", evaluation_seeds=self.evaluation_seeds, **more)

    def score_settings(self, wildcards: Any) -> dict[str, Any]:
        return self._score_settings(wildcards.substrate, [wildcards.sae], self.evaluation_seeds)

    def score_trajectory_settings(self, substrate: str) -> Any:
        """For a substrate's trajectory rule, whose wildcard is the run. Snapshots take no part in the fault ablation."""

        def settings(wildcards: Any) -> dict[str, Any]:
            found = self._score_settings(substrate, self.snapshots(substrate, wildcards.run), self.snapshot_seeds)
            return {**found, "metrics": self.whole_modes(found["metrics"])}

        return settings

    def score_repeat_settings(self, wildcards: Any) -> dict[str, Any]:
        return self._score_settings(
            wildcards.substrate, [wildcards.sae], [seed for seed in [self.repeat] if seed is not None]
        )

    def _score_settings(self, substrate: str, saes: list[str], seeds: list[int]) -> dict[str, Any]:
        """Outputs: `scores`, one per SAE and seed, seeds fastest."""
        panels = [{"id": sae, "panel": self.panel_of(substrate, sae)} for sae in saes]
        metrics = self.cheap_metrics(substrate)
        return self.of_substrate(substrate, "score", saes=panels, evaluation_seeds=seeds, metrics=metrics)

    def anatomy_settings(self, substrate: str, job: int) -> dict[str, Any]:
        """Outputs: `scores`, one per SAE. Metrics are those whose scoring draws anything, at the hyper-parameter that their
        verdict rests on, without their fault ablation."""
        section, kind = self.study.anatomy, self.kind(substrate)
        if section is None:
            raise KeyError(substrate)
        own, sections = section.substrates[substrate], self._substrate(substrate)
        saes = [{"id": sae, "panel": self.panel_of(substrate, sae)} for sae in own.saes]
        scored = self.whole_modes(self.cheap_metrics(substrate))
        more: dict[str, Any] = {"blocks": self.anatomy_blocks(substrate)[job], "resamples": own.resamples}
        metrics = {m: self._at_primary(m, scored[m]) for m in RESEEDED if m in scored}
        more |= {"saes": saes, "sources": list(own.sources), "metrics": metrics}
        if kind == "lm":
            more["text_share"] = own.text_share
        else:
            more |= {"samples": dump(sections.samples), "tasks": dump(sections.tasks)}
        return self.of_substrate(substrate, "anatomy", **more)

    def _at_primary(self, metric: str, section: dict[str, Any]) -> dict[str, Any]:
        """A metric's section at its primary hyper-parameter alone; whole where the scorecard names none."""
        hp = {str(name): primary.hp for name, primary in self.study.scorecard.primary.items()}.get(metric)
        return section if hp is None else section | {name: [hp] for name in ("n", "k_probe") if name in section}

    def anatomy_points(self) -> list[dict[str, Any]]:
        """What the table of points is made of: per substrate its sources, blocks and resamplings."""
        found = self.study.anatomy.substrates.items() if self.study.anatomy else ()
        return [
            {"substrate": name, "sources": list(own.sources), "blocks": own.levels, "resamples": own.resamples}
            for name, own in found
        ]

    def group_saes(self, group: TrainingGroup) -> list[str]:
        """Outputs of a training job: run by run its unfinished snapshots in order, then the finished SAE; then the same SAEs
        recalibrated, where the study asks for them."""
        again = self._substrate(group.substrate).recalibrated_ids
        found = []
        for run in self.train_settings(group)["runs"]:
            forms = [run["id"], *(name for name in again if name == f"{run['id']}.recalibrated")]
            found += [name for form in forms for name in self._outputs_of(form, run["snapshot_steps"])]
        return found

    @staticmethod
    def _outputs_of(run: str, steps: list[int]) -> list[str]:
        return [*(snapshot_id(run, step) for step in steps), run]
