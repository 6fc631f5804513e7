"""Which files a study consists of. All paths are relative to the project's root."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from sae_assay.lms.layout import block_rows
from sae_assay.plan.names import dump, snapshot_id
from sae_assay.report.names import chart_files
from sae_assay.study import Study, Substrate, seconds
from sae_assay.study.metrics import LIBRARY
from sae_assay.study.trajectories import Cache
from sae_assay.tables.saebench import files_in

# What can be scored where; a metric that the study leaves out is not scored.
METRICS_OF_KIND = {
    "world": ("ground_truth", "sparse_probing", "sae_probes", "tpp", "scr", "known_validity", "pure_noise"),
    "toy": ("ground_truth", "known_validity", "pure_noise"),
    "lm": ("sparse_probing", "sae_probes", "tpp", "scr", "reconstruction", *LIBRARY),
}
SLOW_ON_LM = ("sae_probes", *LIBRARY)  # the real libraries: jobs of their own
TABLES = ("scores", "repeats", "saes", "tasks", "coverage")
ANATOMY_TABLES = ("anatomy", "points")
REGISTRY = "data/registry.yaml"
WORLD_FILES = ("synthetic_model_config.json", "synthetic_model.safetensors", "hierarchy.json")  # the last is optional
CORPUS_FILES = ("tokens.npy", "lengths.npy", "documents.json")
SAE_FILES = {"cards": "cfg.json", "weights": "sae_weights.safetensors"}


class Files:
    """The files of one study, by family, substrate, SAE and evaluation seed."""

    def __init__(self, study: Study, root: Path = Path()) -> None:
        """The files of a study whose project lies at `root`; what lies there already is looked up there."""
        self.study = study
        self.name = study.study
        self.root = root

    def named(self, path: Path) -> str:
        """A file's path as the study names it: from `root` on, or absolute where it lies elsewhere."""
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    # Folders and files -----------------------------------------------------------------------------------------------
    @property
    def folders(self) -> list[Path]:
        """Where this study's artifacts lie."""
        data = [Path("data", kind, self.name) for kind in ("worlds", "activations", "saes", "trajectories")]
        families = ["scores", "table", "statistics", "charts", "report", *(["anatomy"] if self.study.anatomy else [])]
        return data + [Path("results", kind, self.name) for kind in families]

    def world(self, file: str, substrate: str = "{substrate}") -> str:
        """data/worlds/S/B/FILE"""
        return f"data/worlds/{self.name}/{substrate}/{file}"

    def published_world(self, substrate: str) -> list[str]:
        """What a published world is read from: the registry, or the files of its folder; nothing where it is built."""
        section = self._substrate(substrate).published_world
        if section is None:
            return []
        if section.path is None:
            return [REGISTRY]
        files = [Path(section.path, name) for name in WORLD_FILES]
        return [file.as_posix() for file in files if file.name != "hierarchy.json" or Path(self.root, file).exists()]

    def dictionary(self, substrate: str) -> list[str]:
        """What turns a substrate's stored training rows into activations: a world's file, nothing where they are stored so."""
        return [self.world("world.safetensors", substrate)] if self.kind(substrate) == "world" else []

    def published_inputs(self, substrate: str) -> list[str]:
        """What published SAEs are read and measured with, the registry aside: a world's card, rows to calibrate on."""
        card = [] if self.kind(substrate) == "lm" else [self.world("world.json", substrate)]
        return [*card, self.activations("training.safetensors", substrate)]

    def activations(self, file: str, substrate: str = "{substrate}") -> str:
        """data/activations/S/B/FILE"""
        return f"data/activations/{self.name}/{substrate}/{file}"

    def shards(self, substrate: str) -> list[str]:
        """Cached activations of a substrate: the manifest, then every shard; nothing where none are kept."""
        section = self._substrate(substrate)
        if section.lm is None or not isinstance(section.lm.cache, Cache):
            return []
        count = len(block_rows(section.lm.training_tokens, section.lm.cache.shard_tokens))
        names = ["manifest.json", *(f"{number:05d}.safetensors" for number in range(count))]
        return [self.activations(f"shards/{name}", substrate) for name in names]

    def corpus(self, substrate: str) -> list[str]:
        """The training text of a substrate that has one of its own: tokens, lengths of windows, which documents they are."""
        section = self._substrate(substrate)
        if section.lm is None or section.lm.training_text is None:
            return []
        return [self.activations(f"corpus/{name}", substrate) for name in CORPUS_FILES]

    def results(self, family: str, file: str) -> str:
        """results/FAMILY/S/FILE"""
        return f"results/{family}/{self.name}/{file}"

    def log(self, rule: str, *wildcards: str) -> str:
        """logs/S/RULE/WILDCARDS.log"""
        tail = ".".join(f"{{{name}}}" for name in wildcards) or "job"
        return f"logs/{self.name}/{rule}/{tail}.log"

    def sae(self, file: str, sae: str = "{sae}", substrate: str = "{substrate}") -> str:
        """A file of a finished SAE, a control, an unfinished snapshot (`RUN.step_0000977`) or a local SAE."""
        local = {item.id: item.path for item in self.local(substrate)}
        if sae in local:
            return str(Path(local[sae]) / file)
        run, dot, step = sae.partition(".step_")
        if dot:
            return f"data/trajectories/{self.name}/{substrate}/{run}/{step}/{file}"
        return f"data/saes/{self.name}/{substrate}/{sae}/{file}"

    def score(self, seed: int | str, sae: str = "{sae}", substrate: str = "{substrate}", prefix: str = "") -> str:
        """results/scores/S/B/SAE/PREFIX_SEED.parquet"""
        return f"results/scores/{self.name}/{substrate}/{sae}/{prefix}{seed}.parquet"

    # The study's lists -----------------------------------------------------------------------------------------------
    def substrates(self, *kinds: str) -> list[str]:
        return self.study.of_kind(*kinds)

    def pattern(self, *kinds: str) -> str:
        """Wildcard constraint: the substrates of these kinds (one that never matches where there are none)."""
        return "|".join(map(re.escape, self.substrates(*kinds))) or "(?!)"

    def _substrate(self, name: str) -> Substrate:
        return self.study.substrates[name]

    def local(self, substrate: str) -> list[Any]:
        return self.study.substrates[substrate].local if substrate in self.study.substrates else []

    def kind(self, substrate: str) -> str:
        return self._substrate(substrate).kind

    def with_controls(self) -> list[str]:
        """Substrates that have controls."""
        return [name for name in self.study.substrates if self.controls(name)]

    def with_published(self) -> list[str]:
        """Substrates that have published SAEs."""
        return [name for name in self.study.substrates if self.published(name)]

    def bases(self, substrate: str) -> list[str]:
        """SAEs that the controls of a substrate are derived from."""
        section = self._substrate(substrate)
        return list(section.controls.bases) if section.controls else []

    @cached_property
    def evaluation_seeds(self) -> list[int]:
        return list(self.study.evaluation_seeds)

    @property
    def snapshot_seeds(self) -> list[int]:
        return list(self.study.snapshot_seeds)

    @property
    def repeat(self) -> int | None:
        return self.study.seeds.repeat

    def with_trajectories(self, *kinds: str) -> list[str]:
        """Substrates of these kinds whose runs keep snapshots."""
        return [name for name in self.substrates(*kinds) if self.snapshots(name)]

    def run_pattern(self, substrate: str) -> str:
        """Wildcard constraint: the runs of a substrate that keep snapshots."""
        return "|".join(map(re.escape, self._substrate(substrate).trajectory_ids))

    def snapshot_files(self, substrate: str, kind: str) -> list[str]:
        """Cards or weights of the unfinished snapshots of `{run}`."""
        steps = self._substrate(substrate).unfinished_steps
        return self.sae_files(substrate, [snapshot_id("{run}", step) for step in steps], kind)

    def snapshot_scores(self, substrate: str) -> list[str]:
        """Score files of the unfinished snapshots of `{run}`, seeds fastest."""
        steps = self._substrate(substrate).unfinished_steps
        return [
            self.score(seed, snapshot_id("{run}", step), substrate) for step in steps for seed in self.snapshot_seeds
        ]

    def trained(self, substrate: str) -> list[str]:
        return self._substrate(substrate).finished_ids

    def controls(self, substrate: str) -> list[str]:
        return self._substrate(substrate).control_ids

    def published(self, substrate: str) -> list[str]:
        """SAEs that are fetched instead of trained."""
        return self._substrate(substrate).published_ids

    def finished(self, substrate: str) -> list[str]:
        """Trained, published, control and local SAEs: all that is scored at every evaluation seed."""
        made = self.trained(substrate) + self.published(substrate) + self.controls(substrate)
        return made + [item.id for item in self.local(substrate)]

    def snapshots(self, substrate: str, run: str | None = None) -> list[str]:
        """Ids of unfinished snapshots, of one run or of all."""
        section = self._substrate(substrate)
        runs = [name for name in section.trajectory_ids if run in (None, name)]
        return [snapshot_id(name, step) for name in runs for step in section.unfinished_steps]

    def repeated(self, substrate: str) -> list[str]:
        """SAEs that are scored a second time at seeds.repeat: the controls' bases, or the first SAE."""
        section = self._substrate(substrate)
        if self.study.seeds.repeat is None:
            return []
        return list(section.controls.bases) if section.controls else self.finished(substrate)[:1]

    def metrics(self, substrate: str) -> dict[str, Any]:
        """The sections of the metrics that this substrate is scored with."""
        chosen, kind = self.study.metrics.model_dump(mode="json", exclude_none=True), self._substrate(substrate).kind
        if kind != "world":  # without a truth there is no validity that a repair could change
            chosen = self.whole_modes(chosen)
        return {name: chosen[name] for name in METRICS_OF_KIND[kind] if name in chosen}

    @staticmethod
    def whole_modes(metrics: dict[str, Any]) -> dict[str, Any]:
        """The sections without their fault ablation."""
        return {name: {k: v for k, v in part.items() if k != "fault_ablation"} for name, part in metrics.items()}

    def slow_metrics(self, substrate: str) -> list[str]:
        """Metrics that have a job and a score file of their own."""
        on_lm = self._substrate(substrate).kind == "lm"
        return [name for name in self.metrics(substrate) if on_lm and name in SLOW_ON_LM]

    def cheap_metrics(self, substrate: str) -> dict[str, Any]:
        slow = self.slow_metrics(substrate)
        return {name: section for name, section in self.metrics(substrate).items() if name not in slow}

    def panel_of(self, substrate: str, sae: str) -> str:
        """panel, control or trajectory.

        Raises:
            KeyError: the study has no such SAE on this substrate.
        """
        panel = self.trained(substrate) + self.published(substrate) + [item.id for item in self.local(substrate)]
        known = dict.fromkeys(panel, "panel")
        known |= dict.fromkeys(self.controls(substrate), "control")
        known |= dict.fromkeys(
            self._substrate(substrate).recalibrated_ids, "trajectory"
        )  # its run stands in the panel once
        known |= dict.fromkeys(self.snapshots(substrate), "trajectory")
        return known[sae]

    # Lists of files --------------------------------------------------------------------------------------------------
    def sae_files(self, substrate: str, saes: list[str], kind: str) -> list[str]:
        """The cards (cfg.json) or weights of some SAEs; `kind` is a key of SAE_FILES."""
        return [self.sae(SAE_FILES[kind], sae, substrate) for sae in saes]

    def evaluation_sets(self, substrate: str, seeds: list[int]) -> list[str]:
        return [self.activations(f"evaluation_{seed}.safetensors", substrate) for seed in seeds]

    def imported(self) -> list[str]:
        """Substrates whose scores others computed."""
        return list(self.study.imported)

    def import_files(self, substrate: str) -> list[str]:
        """Their result files, as they lie there now."""
        paths = [self.root / path for path in self.study.imported[substrate].paths]
        return [self.named(path) for path in files_in(paths)]

    def import_outputs(self, substrate: str) -> tuple[str, str]:
        """One score file of all their SAEs, and the account of every result file."""
        folder = f"results/scores/{self.name}/{substrate}"
        return f"{folder}/imported.parquet", f"{folder}/imported.json"

    def library_metrics(self, substrate: str) -> list[str]:
        """Metrics of the real SAEBench that this substrate is scored with."""
        return [name for name in self.slow_metrics(substrate) if name in LIBRARY]

    def library_cache(self, metric: str, seed: int | str, substrate: str = "{substrate}") -> str:
        """What all SAEs share in the real SAEBench: text, activations, probes on them; data/activations/S/B/METRIC_SEED.tar"""
        return self.activations(f"{metric}_{seed}.tar", substrate)

    def library_caches(self, substrate: str) -> list[str]:
        metrics = self.library_metrics(substrate)
        return [self.library_cache(name, seed, substrate) for name in metrics for seed in self.evaluation_seeds]

    def score_files(self) -> list[str]:
        """Every score file of the study."""
        computed = [path for substrate in self.study.substrates for path in self._score_files(substrate)]
        return computed + [self.import_outputs(substrate)[0] for substrate in self.imported()]

    def _score_files(self, substrate: str) -> list[str]:
        saes = [(sae, self.evaluation_seeds) for sae in self.finished(substrate)]
        saes += [(sae, list(self.study.snapshot_seeds)) for sae in self.snapshots(substrate)]
        files = [self.score(seed, sae, substrate) for sae, seeds in saes for seed in seeds]
        for metric in self.slow_metrics(substrate):
            files += [self.score(seed, sae, substrate, f"{metric}_") for sae, seeds in saes for seed in seeds]
        repeat = self.study.seeds.repeat
        names = ["repeat_", *(f"repeat_{metric}_" for metric in self.slow_metrics(substrate))]
        return files + [self.score(str(repeat), sae, substrate, n) for sae in self.repeated(substrate) for n in names]

    def anatomy_file(self, job: int, sae: str, substrate: str) -> str:
        """results/anatomy/S/B/SAE/blocks_JOB.parquet"""
        return f"results/anatomy/{self.name}/{substrate}/{sae}/blocks_{job}.parquet"

    def anatomy_blocks(self, substrate: str) -> list[list[int]]:
        """The blocks of each scoring job of a substrate's noise anatomy."""
        section = self.study.anatomy
        if section is None:
            return []
        blocks, size = list(range(section.substrates[substrate].levels)), section.blocks_per_job
        return [blocks[i : i + size] for i in range(0, len(blocks), size)]

    def anatomy_jobs(self, *kinds: str) -> list[tuple[str, int]]:
        """Substrate and number of every scoring job of a noise anatomy."""
        names = [n for n in self.study.anatomy.substrates if self.kind(n) in kinds] if self.study.anatomy else []
        return [(name, job) for name in names for job in range(len(self.anatomy_blocks(name)))]

    def anatomy_saes(self, substrate: str) -> list[str]:
        """SAEs of a substrate's noise anatomy."""
        return list(self.study.anatomy.substrates[substrate].saes) if self.study.anatomy else []

    def anatomy_files(self) -> list[str]:
        """Every score file of a noise anatomy."""
        jobs = self.anatomy_jobs("world", "lm")
        return [self.anatomy_file(job, sae, name) for name, job in jobs for sae in self.anatomy_saes(name)]

    def tables(self) -> dict[str, str]:
        """The study's tables by name; those of a noise anatomy where the study has one."""
        names = [*TABLES, *(ANATOMY_TABLES if self.study.anatomy else [])]
        return {name: self.results("table", f"{name}.parquet") for name in names}

    def marts(self) -> dict[str, str]:
        """Statistics by name: one per query that is not a staging query."""
        names = [Path(path).stem for path in self.package_files("statistics/sql/*.sql")]
        return {name: self.results("statistics", f"{name}.parquet") for name in names if not name.startswith("stg_")}

    def charts(self) -> list[str]:
        """Every chart's specification and pictures."""
        return chart_files(self.name)

    @staticmethod
    def package_files(pattern: str) -> list[str]:
        """Data files of the package, so that one that is added or removed is seen too (imports are followed anyway)."""
        return sorted(path.as_posix() for path in Path("src/sae_assay").glob(pattern))

    def design(self) -> dict[str, Any]:
        """What the study declares before it runs, as plain JSON values; without a noise anatomy where it has none."""
        declared = {key: value for key, value in dump(self.study).items() if key != "report"}
        return {key: value for key, value in declared.items() if key != "anatomy" or value is not None}

    def page_design(self) -> dict[str, Any]:
        """The design, and the measured seconds that the page shows beside it, where the study names a file of them.

        Raises:
            AssayError: the file is missing or malformed.
        """
        section = self.study.report
        if section is None:
            return self.design()
        return {**self.design(), "report": dump(section), "measured": seconds.load(section.seconds, self.root)}

    def choices(self) -> dict[str, Any]:
        """What statistics need of the study: seeds, metrics, scorecard, and per substrate the decay, the `best` control and the family."""
        chosen = {name: value for name, value in self.design().items() if name in ("seeds", "metrics", "scorecard")}
        sections = self.study.substrates
        decay = {name: section.training.decay_fraction for name, section in sections.items()}
        kept = {
            name: max(1, round(section.controls.best_fraction * section.d_sae))
            for name, section in sections.items()
            if section.controls
        }
        shares = {"text_share": self.study.anatomy.text_shares} if self.study.anatomy else {}
        return {**chosen, "decay_fraction": decay, "best_kept": kept, "families": self.study.families, **shares}

    def planned(self) -> list[dict[str, Any]]:
        """What is to be scored, for the coverage table: groups of SAEs, metrics and evaluation seeds."""
        groups = []
        for substrate in self.study.substrates:
            metrics = list(self.metrics(substrate))
            wanted = [
                (self.finished(substrate), self.evaluation_seeds),
                (self.snapshots(substrate), self.study.snapshot_seeds),
            ]
            groups += [
                {"substrate": substrate, "saes": s, "metrics": metrics, "seeds": list(e)} for s, e in wanted if s
            ]
        return groups + [{"substrate": substrate, "imported": True} for substrate in self.imported()]

    def targets(self) -> list[str]:
        """What the default target asks for."""
        return [path for name in ("scores", "table", "statistics", "charts", "report") for path in self.family(name)]

    def family(self, name: str) -> list[str]:
        """Every file of a family; `FAMILIES` names them."""
        whole = {
            "scores": lambda: self.score_files() + self.anatomy_files(),
            "table": lambda: list(self.tables().values()),
            "statistics": lambda: list(self.marts().values()),
            "charts": self.charts,
            "report": lambda: [self.results("report", file) for file in ("report.html", "cells.json")],
        }
        if name in whole:
            return whole[name]()
        return [path for substrate in self.study.substrates for path in self._family(name, substrate)]

    def _family(self, name: str, substrate: str) -> list[str]:
        lm = self._substrate(substrate).kind == "lm"
        if name == "worlds":
            return [] if lm else [self.world(f, substrate) for f in ("world.safetensors", "world.json", "tasks.json")]
        if name == "activations":
            drawn = [] if lm else ["tasks", *self.evaluation_seeds]
            pools = [self.activations(f"pool_{name}.safetensors", substrate) for name in drawn]
            shared = ["training.safetensors", "text.safetensors" if lm else "pool_tasks.safetensors"]
            return [
                *(self.activations(file, substrate) for file in shared),
                *self.corpus(substrate),
                *self.shards(substrate),
                *pools,
                *self.evaluation_sets(substrate, self.evaluation_seeds),
                *self.library_caches(substrate),
            ]
        made = self.trained(substrate) + self.published(substrate) + self.controls(substrate)
        saes = {"saes": made, "trajectories": self.snapshots(substrate)}[name]
        return [path for kind in SAE_FILES for path in self.sae_files(substrate, saes, kind)]
