"""Sections that declare a synthetic world, the rows drawn from it and its tasks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sae_assay.study.base import Fraction, Name, PositiveInt, Strict


class Zipf(Strict):
    exponent: float = 0.5
    max_prob: Fraction = 0.4
    min_prob: Fraction = 5e-4


class Hierarchy(Strict):
    roots: PositiveInt
    branching: PositiveInt = 4
    depth: PositiveInt = 3
    mutually_exclusive_portion: Annotated[float, Field(ge=0, le=1)] = 1.0
    compensate_probabilities: bool = True
    scale_children_by_parent: bool = False


class Orthogonalization(Strict):
    steps: PositiveInt = 100
    lr: Annotated[float, Field(gt=0)] = 3e-4


class Correlation(Strict):
    rank: PositiveInt = 25
    scale: float = 0.1


class LinearMagnitude(Strict):
    start: float = 5.0
    end: float = 4.0


class FoldedNormal(Strict):
    mean: float = 0.5
    std: float = 0.5


class WorldConfig(Strict):
    """A synthetic world of `sae_lens.synthetic` (method.md, Substrates); SynthSAEBench-16k's values are the defaults."""

    num_features: PositiveInt
    hidden_dim: PositiveInt
    zipf: Zipf = Zipf()
    hierarchy: Hierarchy | None = None
    orthogonalization: Orthogonalization | None = Orthogonalization()
    correlation: Correlation | None = Correlation()
    mean_magnitude: LinearMagnitude = LinearMagnitude()
    std_magnitude: FoldedNormal = FoldedNormal()
    bias_norm: Annotated[float, Field(ge=0)] = 0.5
    seed: int = 42


class PublishedWorld(Strict):
    """A world that `SyntheticModel.save` wrote: a registered input of the hub (and one of its variants), or a folder."""

    input: Name | None = None
    variant: str = ""  # a folder of the repository, such as superposition/d-512
    path: str | None = None

    @model_validator(mode="after")
    def _check(self) -> PublishedWorld:
        if (self.input is None) == (self.path is None) or (self.path and self.variant):
            raise ValueError("name either `input` (and `variant`) or `path`")
        return self


class SampleSizes(Strict):
    """Rows drawn from a world: for training, for calibrating controls, for choosing tasks, and per evaluation seed."""

    training_rows: PositiveInt
    calibration_rows: PositiveInt = 20_000
    task_rows: PositiveInt = 60_000
    pool_rows: PositiveInt = 60_000


class SparseProbingTasks(Strict):
    """Counts and row limits of the sparse-probing tasks; firing-rate ranges follow method.md, Synthetic tasks."""

    single_in: int = 24
    single_out: int = 24
    per_boolean: int = 4
    single_in_rate: tuple[float, float] = (0.005, 0.20)
    single_out_rate: tuple[float, float] = (0.0007, 0.005)
    boolean_in_rate: tuple[float, float] = (0.02, 0.30)
    boolean_out_rate: tuple[float, float] = (0.0005, 0.003)
    max_train_positives: PositiveInt = 512
    max_test: PositiveInt = 1500


class TppTasks(Strict):
    in_: Annotated[int, Field(alias="in", ge=0)] = 30
    out: Annotated[int, Field(ge=0)] = 30
    min_rate: Fraction = 1e-4
    max_rows_per_class: PositiveInt = 2000


class ScrTasks(Strict):
    per_combination: PositiveInt = 3
    max_tasks: PositiveInt = 27
    in_rate: tuple[float, float] = (0.005, 0.25)
    out_rate: tuple[float, float] = (0.0005, 0.03)
    in_label_rate: tuple[float, float] = (0.03, 0.30)
    out_label_rate: tuple[float, float] = (0.001, 0.10)
    or_out_size: PositiveInt = 10
    min_cell: PositiveInt = 100
    min_cell_out_out: PositiveInt = 40
    max_rows_per_class: PositiveInt = 1500


class Tasks(Strict):
    sparse_probing: SparseProbingTasks = SparseProbingTasks()
    tpp: TppTasks = TppTasks()
    scr: ScrTasks = ScrTasks()
