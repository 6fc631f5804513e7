"""What a study's page is given beside its results: seconds that a benchmark measured, which no job may take itself.

A page's bytes depend on no clock, so measured seconds come as a file that the study names. `benchmarks/saebench.py` writes
it; it is read and checked before any work.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from sae_assay.errors import AssayError
from sae_assay.study.base import Name, PositiveInt, Strict

KEY = "report.seconds"
_MEASURE = "measure again (`benchmarks/saebench.py ... --write FILE`), or take the key out of the study"
Words = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Timed = Literal["saebench_tpp", "saebench_scr", "saebench_sparse_probing"]


class ReportSection(Strict):
    """What the page shows beside the statistics.

    Attributes:
        seconds: a JSON file of measured seconds, in the project.
    """

    seconds: Words


class SideBySide(Strict):
    """One metric on one SAE: CPU seconds of all its scores by the library and by our code, and how far the scores differ.

    Attributes:
        scores: how many both gave; `unequal` of them differ.
        largest_difference: null where one side gave a score and the other none.
    """

    library: Positive
    ours: Positive
    scores: PositiveInt
    unequal: Annotated[int, Field(ge=0)]
    largest_difference: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class Measured(Strict):
    """A run of the benchmark: on what, where, when, by which command."""

    study: Name
    substrate: Name
    sae: Words
    seed: Annotated[str, Field(pattern=r"^\d+$")]
    command: Words
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    machine: Words
    sae_bench: Words
    metrics: Annotated[dict[Timed, SideBySide], Field(min_length=1)]


def load(path: str, root: Path = Path()) -> dict[str, Any]:
    """The content of a file of the project at `root` as plain JSON values, and the `sha256` of its bytes.

    Raises:
        AssayError: no such file, no JSON, or an unknown, missing or impossible value.
    """
    try:
        content = Path(root, path).read_bytes()
        found = Measured.model_validate(json.loads(content)).model_dump(mode="json")
        return {**found, "sha256": hashlib.sha256(content).hexdigest()}
    except OSError:
        raise AssayError(path, f"cannot be read; {KEY} names it", _MEASURE) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise AssayError(path, f"{key}: {first['msg']} ({KEY} names this file)", _MEASURE) from None
    except ValueError as error:
        raise AssayError(path, f"no JSON ({error}); {KEY} names it", _MEASURE) from None
