"""What every section of a study shares: strictness, names and number ranges."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Architecture = Literal[
    "batchtopk", "matryoshka", "sampled_matryoshka", "matching_pursuit", "standard", "jumprelu", "toy"
]
TOPK_FAMILY: tuple[Architecture, ...] = ("batchtopk", "matryoshka", "sampled_matryoshka")
ControlKind = Literal["oracle", "best", "random_init", "random_l0_matched", "permuted_decoder"]
MetricName = Literal[
    "ground_truth",
    "sparse_probing",
    "sae_probes",
    "tpp",
    "scr",
    "reconstruction",
    "known_validity",
    "pure_noise",
    "saebench_sparse_probing",
    "saebench_tpp",
    "saebench_scr",
    "core",
    "absorption",
    "ravel",
    "autointerp",
]
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Strict(BaseModel):
    """Base of every section: unknown keys are errors, values are frozen.

    Attributes:
        optional: keys that are written out only where a study sets them, so that a key that is new to the schema changes the
            settings of no recorded job.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    optional: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unset = {name for name in self.optional if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in handler(self).items() if name not in unset}


def no_repeats(values: list[Any], what: str) -> None:
    repeated = sorted({v for v in values if values.count(v) > 1})
    if repeated:
        raise ValueError(f"{what} lists {repeated} twice")


def nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
