"""An evaluation set: all that scoring needs of one substrate at one evaluation seed, and its file format. Numpy only.

It holds only the rows that some task uses, each once. Tasks name rows by their position in it. The probes on raw
activations are stored with their tasks: they do not depend on any SAE.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sae_assay import sparse
from sae_assay.errors import AssayError
from sae_assay.worlds.pool import Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

Family = Literal["probing", "tpp", "scr"]
_POOL = ("hidden", "indptr", "indices", "values")
_REMEDY = "delete the file and run the workflow again; it rebuilds what is missing"


@dataclass(frozen=True)
class Task:
    """One task's rows and probes, in one mode (None: the rows serve both probing procedures).

    Attributes:
        family: `probing`, `tpp` or `scr`.
        status: `ok`, or why there can be no score (`reason` says more); then there are no arrays.
        counts: `train_positives` and `test_positives` of a probing task.
        arrays: `train` and `test`, positions of rows (int32): tpp [classes, rows]; scr [data, label, rows]; probing
            [positives + pool of negatives]. `weight` float32 [probes, d] and `bias` [probes] for tpp (one per class) and
            scr (target, spurious, biased). `train_order` and `test_order` of probing: the fixed balanced rows, shuffled.
    """

    family: Family
    id: str
    kind: str | None
    mode: str | None
    status: str = "ok"
    reason: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationSet:
    """Rows (`pool`), positions of an unbiased sample of them (`sample`, int32) and tasks.

    `purpose` names the streams of everything that scoring draws, such as (study, substrate, evaluation seed).
    """

    pool: Pool
    sample: NDArray[np.int32]
    tasks: list[Task]
    purpose: tuple[str | int, ...]

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; equal sets give equal bytes."""
        arrays: dict[str, NDArray[Any]] = {f"pool.{name}": getattr(self.pool, name) for name in _POOL}
        arrays["sample"] = self.sample
        cards = []
        for i, task in enumerate(self.tasks):
            arrays |= {f"task.{i:04d}.{name}": array for name, array in task.arrays.items()}
            card = {key: getattr(task, key) for key in ("family", "id", "kind", "mode", "status", "reason", "counts")}
            cards.append({**card, "arrays": sorted(task.arrays)})
        head = {"num_features": self.pool.num_features, "purpose": list(self.purpose), "tasks": cards}
        metadata = {"evaluation_set": json.dumps(head, sort_keys=True)}
        Path(path).write_bytes(save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata))

    @classmethod
    def load(cls, path: str | Path, world: Mapping[str, NDArray[np.float32]] | None = None) -> EvaluationSet:
        """Read an evaluation set.

        Args:
            world: arrays of world.safetensors; they make the rows where the set was stored without.

        Raises:
            AssayError: no such file, truncated, not an evaluation set, or one of another world.
        """
        try:
            with safe_open(str(path), framework="np") as file:
                head = json.loads(file.metadata()["evaluation_set"])
                parts = {name: file.get_tensor(f"pool.{name}") for name in _POOL}
                tasks = [_task(card, i, file) for i, card in enumerate(head["tasks"])]
                sample = file.get_tensor("sample")
                pool = Pool(**parts, num_features=head["num_features"])
        except FileNotFoundError:
            raise AssayError(str(path), "no such evaluation set", _REMEDY) from None
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise AssayError(
                str(path), f"not a whole evaluation set ({' '.join(str(error).split())})", _REMEDY
            ) from None
        if not pool.hidden.shape[1]:
            pool = pool.in_world(world, str(path))
        return cls(pool, sample, tasks, tuple(head["purpose"]))


def _task(card: dict[str, Any], i: int, file: Any) -> Task:
    names = card.pop("arrays")
    return Task(**card, arrays={name: file.get_tensor(f"task.{i:04d}.{name}") for name in names})


def subset(pool: Pool, rows: NDArray[np.integer]) -> Pool:
    """The pool of these rows, in this order."""
    indptr, source = sparse.taken(pool.indptr, rows)
    return Pool(pool.hidden[rows], indptr, pool.indices[source], pool.values[source], pool.num_features)
