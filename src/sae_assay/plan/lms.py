"""Jobs of language models, where one process scores many SAEs: loading the model costs more than scoring one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sae_assay.plan.files import REGISTRY, SLOW_ON_LM
from sae_assay.plan.library import LibraryJobs
from sae_assay.study.trajectories import Cache


class Plan(LibraryJobs):
    """The jobs of one study."""

    registry = REGISTRY

    def _lm(self, substrate: str) -> Any:
        section = self._substrate(substrate).lm
        if section is None:
            raise KeyError(substrate)
        return section

    def lm_model(self, substrate: str) -> str:
        """The model file of a substrate's registered input: GGUF, or the manifest of a model of the hub."""
        section = self._lm(substrate)
        return f"data/inputs/{section.input}/model.{'json' if section.on_hub else 'gguf'}"

    def shared_inputs(self) -> list[str]:
        """Files that other studies of this project may have made too: they lie in no folder of this study."""
        return sorted({self.lm_model(substrate) for substrate in self.substrates("lm")})

    def input_pattern(self, on_hub: bool = False) -> str:
        """Wildcard constraint: the registered inputs that are language models, of a package index or of the hub."""
        sections = [self._lm(substrate) for substrate in self.substrates("lm")]
        return "|".join(sorted({re.escape(lm.input) for lm in sections if lm.on_hub == on_hub})) or "(?!)"

    def lm_model_settings(self, wildcards: Any) -> dict[str, Any]:
        return self.settings(job="lm_model", input=wildcards.name)

    def lm_activations_settings(self, wildcards: Any) -> dict[str, Any]:
        """Of a training text with a source of its own the job sees nothing: it reads calibration rows alone."""
        section = self.stream_section(wildcards.substrate)
        section.pop("tf32", None)  # of the training text
        if "training_text" in section:
            foreign = ("training_text", "training_context", "cache", "d_model")
            section = {name: value for name, value in section.items() if name not in foreign} | {"training_tokens": 0}
        return self.of_substrate(wildcards.substrate, "lm_activations", lm=section)

    def with_corpus(self) -> list[str]:
        """Substrates whose training text has a source of its own."""
        return [name for name in self.substrates("lm") if self.corpus(name)]

    def corpus_settings(self, substrate: str) -> dict[str, Any]:
        section = self.stream_section(substrate)
        seen = ("training_text", "training_context", "context", "training_tokens")
        return self.of_substrate(substrate, "lm_corpus", lm={name: section[name] for name in seen if name in section})

    def shards_settings(self, substrate: str) -> dict[str, Any]:
        return self.of_substrate(substrate, "lm_shards", lm=self.stream_section(substrate))

    def with_shards(self) -> list[str]:
        """Substrates whose activations are cached."""
        return [name for name in self.substrates("lm") if self._substrate(name).cached]

    def stream_inputs(self, substrate: str) -> list[str]:
        """What a training job reads activations from, beside training.safetensors: shards, or the text's limits and the model."""
        if self._substrate(substrate).streamed and not self.shards(substrate):
            return [self.activations("text.safetensors", substrate), self.lm_model(substrate)]
        return self.shards(substrate)

    def disk_estimates(self) -> list[str]:
        """A line per substrate with a cache or a training text: what it will need of the disk, part by part, and its budget."""
        lines = []
        for name in self.substrates("lm"):
            use = {part: size / 1e9 for part, size in self._substrate(name).disk_use.items()}
            parts, cache = ", ".join(f"{part} {size:.3g}" for part, size in use.items()), self._lm(name).cache
            budget = f", budget {cache.disk_budget_gb:g} GB" if isinstance(cache, Cache) else ""
            if use:
                lines.append(f"substrates.{name}: about {sum(use.values()):.3g} GB of disk ({parts}){budget}")
        return lines

    def lm_evaluation_settings(self, wildcards: Any) -> dict[str, Any]:
        return self.of_substrate(wildcards.substrate, "lm_evaluation", evaluation_seeds=self.evaluation_seeds)

    def lm_batches(self) -> list[Batch]:
        """SAEs that one process scores: a run with its snapshots, the local ones, and those scored a second time."""
        found = []
        for name in self.substrates("lm"):
            groups = {run: [*self.snapshots(name, run), run] for run in self.trained(name)}
            groups |= {item: [item] for item in [*self.published(name), *(local.id for local in self.local(name))]}
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
