"""Jobs of language models, where one process scores many SAEs: loading the model costs more than scoring one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sae_assay.plan.files import REGISTRY, SLOW_ON_LM
from sae_assay.plan.library import LibraryJobs
from sae_assay.plan.names import dump


class Plan(LibraryJobs):
    """The jobs of one study."""

    registry = REGISTRY

    def _lm(self, substrate: str) -> Any:
        section = self._substrate(substrate).lm
        if section is None:
            raise KeyError(substrate)
        return section

    def lm_model(self, substrate: str) -> str:
        """The model file of a substrate's registered input."""
        return f"data/inputs/{self._lm(substrate).input}/model.gguf"

    def input_pattern(self) -> str:
        """Wildcard constraint: the registered inputs that are language models."""
        return "|".join(sorted({re.escape(self._lm(name).input) for name in self.substrates("lm")})) or "(?!)"

    def lm_model_settings(self, wildcards: Any) -> dict[str, Any]:
        return self.settings(job="lm_model", input=wildcards.name)

    def lm_activations_settings(self, wildcards: Any) -> dict[str, Any]:
        return self.of_substrate(wildcards.substrate, "lm_activations", lm=dump(self._lm(wildcards.substrate)))

    def lm_evaluation_settings(self, wildcards: Any) -> dict[str, Any]:
        return self.of_substrate(wildcards.substrate, "lm_evaluation", evaluation_seeds=self.evaluation_seeds)

    def lm_batches(self) -> list[Batch]:
        """SAEs that one process scores: a run with its snapshots, the local ones, and those scored a second time."""
        found = []
        for name in self.substrates("lm"):
            groups = {run: [*self.snapshots(name, run), run] for run in self.trained(name)}
            groups |= {item.id: [item.id] for item in self.local(name)}
            for label, saes in groups.items():
                seeds = {sae: self.snapshot_seeds if ".step_" in sae else self.evaluation_seeds for sae in saes}
                found.append(Batch(self, name, f"{name}_{label}", seeds))
            if self.repeat is not None:
                again = {sae: [self.repeat] for sae in self.repeated(name)}
                found.append(Batch(self, name, f"{name}_repeat", again, "repeat_"))
        return found

    def lm_score_settings(self, batch: Batch, slow: str | None = None) -> dict[str, Any]:
        """`saes` carry their own seeds; `evaluation_seeds` are those that some SAE needs."""
        saes = [
            {"id": sae, "panel": self.panel_of(batch.substrate, sae), "evaluation_seeds": seeds}
            for sae, seeds in batch.seeds_of.items()
        ]
        chosen = self.metrics(batch.substrate)
        metrics = {name: chosen[name] for name in chosen if (name == slow if slow else name not in SLOW_ON_LM)}
        fewer = self._lm(batch.substrate).sae_probes_k_probe
        if fewer and "sae_probes" in metrics:  # the library's own solver takes seconds at larger k_probe
            metrics["sae_probes"] = {**metrics["sae_probes"], "k_probe": list(fewer)}
        more = {"hook": self._lm(batch.substrate).hook, "saes": saes, "metrics": metrics}
        return self.of_substrate(batch.substrate, "score", evaluation_seeds=batch.seeds, **more)


@dataclass(frozen=True)
class Batch:
    """SAEs of a language model that one job scores, each at its own evaluation seeds."""

    plan: Plan
    substrate: str
    name: str
    seeds_of: dict[str, list[int]]
    prefix: str = ""

    @property
    def saes(self) -> list[str]:
        return list(self.seeds_of)

    @property
    def seeds(self) -> list[int]:
        """Every seed that some SAE needs, in the study's order."""
        wanted = {seed for seeds in self.seeds_of.values() for seed in seeds}
        return [seed for seed in self.plan.evaluation_seeds if seed in wanted]

    def files(self, metric: str = "") -> list[str]:
        """Score files, SAE by SAE, seeds fastest."""
        return [
            self.plan.score(seed, sae, self.substrate, self.prefix + metric)
            for sae, seeds in self.seeds_of.items()
            for seed in seeds
        ]
