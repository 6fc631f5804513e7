"""Jobs of the real SAEBench (envs/saebench): caches that no SAE is part of, then one job per SAE, metric and seed."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from sae_assay.errors import AssayError
from sae_assay.plan.names import dump
from sae_assay.plan.settings import Settings
from sae_assay.study.metrics import COMPONENTS, LIBRARY


class LibraryJobs(Settings):
    """Settings and inputs of SAEBench's jobs."""

    def library_pattern(self) -> str:
        """Wildcard constraint: metrics of the real SAEBench."""
        return "|".join(map(re.escape, LIBRARY))

    def library_environment(self, metric: str) -> list[str]:
        """What ties a row to the audited version: the environment's lock and the code that runs there for this metric."""
        section = self.study.metrics.library.get(metric)
        if section is None:
            raise KeyError(metric)
        folder = self.root / section.environment
        shared = [file for file in folder.glob("*.py") if not file.name.startswith(("metrics_", "parity"))]
        files = [folder / "pyproject.toml", folder / "uv.lock", folder / f"metrics_{metric}.py", *shared]
        return sorted(self.named(file) for file in files)

    def library_code(self) -> set[str]:
        """The same for all metrics of the study."""
        return {path for metric in self.study.metrics.library for path in self.library_environment(metric)}

    def ravel_files(self, metric: str) -> list[str]:
        """RAVEL's own data, which its cache job reads."""
        section = self.study.metrics.ravel
        return section.files if section and metric == "ravel" else []

    def check_judge(self) -> None:
        """Refuse a study whose judge is likely to cost more than its cap, before any work.

        Raises:
            AssayError: names the estimate.
        """
        section = self.study.metrics.autointerp
        if section is None:
            return
        jobs = [job for job in self.library_jobs() if job.metric == "autointerp"]
        usd = section.estimate_usd(len(jobs) * len(section.modes))
        if usd > section.cap_usd:
            problem = f"is {section.cap_usd:g} USD, but {len(jobs)} jobs in {len(section.modes)} modes cost about {usd:.2f} USD"
            remedy = "raise it, or ask for fewer latents, SAEs, seeds or modes"
            raise AssayError("metrics.autointerp.cap_usd", problem, remedy)

    def library_jobs(self) -> list[SimpleNamespace]:
        """One namespace per score file: substrate, sae, metric, seed, and the prefix of a second scoring."""
        found = []
        for substrate in self.study.substrates:
            again = [(sae, [self.repeat], "repeat_") for sae in self.repeated(substrate) if self.repeat is not None]
            once = [(sae, self.evaluation_seeds, "") for sae in self.finished(substrate)]
            once += [(sae, self.snapshot_seeds, "") for sae in self.snapshots(substrate)]
            for metric in self.library_metrics(substrate):
                found += [
                    SimpleNamespace(substrate=substrate, sae=sae, metric=metric, seed=str(seed), prefix=prefix)
                    for sae, seeds, prefix in [*once, *again]
                    for seed in seeds
                ]
        return found

    def library_cache_settings(self, wildcards: Any) -> dict[str, Any]:
        return self._library_settings(wildcards, "saebench_cache")

    def library_score_settings(self, wildcards: Any) -> dict[str, Any]:
        panel = self.panel_of(wildcards.substrate, wildcards.sae)
        parts = list(COMPONENTS[wildcards.metric])
        return self._library_settings(wildcards, "saebench_score", sae=wildcards.sae, panel=panel, components=parts)

    def _library_settings(self, wildcards: Any, job: str, **more: Any) -> dict[str, Any]:
        section = self.study.metrics.library[wildcards.metric]
        return self.of_substrate(
            wildcards.substrate,
            job,
            metric=wildcards.metric,
            section=dump(section),
            evaluation_seed=int(wildcards.seed),
            lm=dump(self._substrate(wildcards.substrate).lm),
            **more,
        )
