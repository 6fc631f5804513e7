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
        return self.of_substrate(group.substrate, "train", group=group.name, training=dump(section.training), runs=runs)

    def _run_settings(self, section: Substrate, run: Run) -> dict[str, Any]:
        entry = section.panel[run.arch]
        kept = run.id in {item.id for item in section.trajectory_runs}
        return {
            "id": run.id,
            "arch": run.arch,
            "l0": run.l0,
            "training_seed": run.training_seed,
            "lr": entry.lr if entry.lr is not None else section.training.lr,
            "widths": entry.widths,
            "snapshot_steps": section.unfinished_steps if kept else [],
        }

    def published_settings(self, substrate: str) -> dict[str, Any]:
        saes = [
            {
                "id": f"published_{run.id}",
                "input": group.input,
                "folder": group.folder_of(run),
                "arch": run.arch,
                "l0": run.l0,
                "training_seed": run.training_seed,
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
        """Outputs: `scores`, one per SAE. Metrics are those whose scoring draws anything, without their fault ablation."""
        section, kind = self.study.anatomy, self.kind(substrate)
        if section is None:
            raise KeyError(substrate)
        own, sections = section.substrates[substrate], self._substrate(substrate)
        saes = [{"id": sae, "panel": self.panel_of(substrate, sae)} for sae in own.saes]
        scored = self.whole_modes(self.cheap_metrics(substrate))
        more: dict[str, Any] = {"blocks": self.anatomy_blocks(substrate)[job], "resamples": own.resamples}
        more |= {"saes": saes, "sources": list(own.sources), "metrics": {m: scored[m] for m in RESEEDED if m in scored}}
        if kind == "lm":
            more["text_share"] = own.text_share
        else:
            more |= {"samples": dump(sections.samples), "tasks": dump(sections.tasks)}
        return self.of_substrate(substrate, "anatomy", **more)

    def anatomy_points(self) -> list[dict[str, Any]]:
        """What the table of points is made of: per substrate its sources, blocks and resamplings."""
        found = self.study.anatomy.substrates.items() if self.study.anatomy else ()
        return [
            {"substrate": name, "sources": list(own.sources), "blocks": own.levels, "resamples": own.resamples}
            for name, own in found
        ]

    def group_saes(self, group: TrainingGroup) -> list[str]:
        """Outputs of a training job: run by run its unfinished snapshots in order, then the finished SAE."""
        runs = self.train_settings(group)["runs"]
        return [
            name for run in runs for name in [*(snapshot_id(run["id"], s) for s in run["snapshot_steps"]), run["id"]]
        ]
