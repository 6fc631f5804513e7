"""k-sparse probing by the real sae-probes package (Kantamneni et al. 2025), on activations that we cached.

The package reads labels from its own data folder and activations from a cache that it fills if a file is missing. Both
are given to it here: a folder with only the study's sets and rows, named before the package is imported (its import
would read all 44 MB), and cache files with the last tokens' activations (the package's own `ensure_dataset_activations`
would run the model again). Everything after that is the package's: splits, selection of latents, choice of C, solver.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import sys
import tempfile
import types
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from sae_assay.errors import AssayError
from sae_assay.metrics.records import Record, record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

PARTS = {"auc": "test_auc", "f1": "test_f1", "accuracy": "test_acc"}
FEWEST_ROWS = 200  # the package keeps 100 rows to test
MODEL = "cached"  # names folders and files of the package; no model is loaded


@dataclass(frozen=True)
class ProbeSet:
    """One binary set: its name, labels (0 or 1) [rows], and last-token activations float32 [rows, d_model]."""

    name: str
    labels: Tensor
    last: Tensor


class Package:
    """The sae-probes package, given these sets. One per process: the package keeps what it has read.

    Args:
        sets: binary sets with equally many rows of both labels, at least 200 rows each.
        hook: the hook's name, for file names.
        folder: where labels, cached activations and results go.

    Raises:
        AssayError: the package was imported before, a set is too small or unbalanced, or activations are not finite.
    """

    def __init__(self, sets: Sequence[ProbeSet], hook: str, folder: str | Path) -> None:
        self.sets, self.hook, self.folder = sets, hook, Path(folder)
        for found in sets:
            _check(found)
        self._write()
        self._evals = _import(self.folder / "data")

    def score(self, sae: Any, ks: Sequence[int], seed: int, penalty: Literal["l1", "l2"] = "l1") -> list[Record]:
        """AUC, weighted F1 and accuracy on every set at every k_probe.

        Args:
            sae: anything with `encode` ([rows, d_model] -> [rows, d_sae]) and `W_dec`.
            seed: moves the package's split, folds and solver.
            penalty: of its logistic regression.
        """
        usable = [k for k in ks if k <= len(sae.W_dec)]
        with tempfile.TemporaryDirectory(dir=self.folder) as results, _quiet():
            self._evals.run_sae_evals(
                sae=sae,
                model_name=MODEL,
                hook_name=self.hook,
                reg_type=penalty,
                setting="normal",
                ks=usable,
                results_path=results,  # one per SAE and seed: the package's file names have neither
                model_cache_path=self.folder / "cache",
                datasets=[found.name for found in self.sets],
                device="cpu",
                seed=seed,
            )
            paths = [
                Path(results, f"sae_probes_{MODEL}", "normal_setting", f"{s.name}_{self.hook}_{penalty}.json")
                for s in self.sets
            ]
            found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        records = [r for s, scores in zip(self.sets, found, strict=True) for r in _records(s, scores)]
        return records + [
            r for s in self.sets for k in ks if k not in usable for r in _too_narrow(s, k, len(sae.W_dec))
        ]

    def _write(self) -> None:
        import polars as pl

        data, cache = self.folder / "data", self.folder / "cache" / f"model_activations_{MODEL}"
        (data / "cleaned_data").mkdir(parents=True)
        cache.mkdir(parents=True)
        # The package finds a set's file by its tag: the name without its number.
        index = {
            "Dataset Tag": [s.name.partition("_")[2] for s in self.sets],
            "Dataset save name": [f"cleaned_data/{s.name}.csv" for s in self.sets],
            "Data type": ["Binary Classification"] * len(self.sets),
        }
        _write_csv(pl.DataFrame(index), data / "probing_datasets_MASTER.csv.zst")
        for found in self.sets:
            _write_csv(pl.DataFrame({"target": found.labels.tolist()}), data / "cleaned_data" / f"{found.name}.csv.zst")
            torch.save(found.last.clone(), cache / f"{found.name}_{self.hook}.pt")


def _write_csv(table: Any, path: Path) -> None:
    import zstandard

    path.write_bytes(zstandard.ZstdCompressor().compress(table.write_csv().encode()))


def _check(found: ProbeSet) -> None:
    rows, positive = len(found.labels), int(found.labels.sum())
    if rows < FEWEST_ROWS or 2 * positive != rows:
        problem = f"has {rows} rows, {positive} of them positive; sae-probes needs {FEWEST_ROWS} or more, half of them positive"
        raise AssayError(found.name, problem, "raise rows_per_dataset or choose another set")
    if not torch.isfinite(found.last).all():
        raise AssayError(found.name, "activations are not finite", "run the step lm_activations again")


def _import(data: Path) -> Any:
    """Import the package with its data folder set to ours; its `constants` module is nothing but this path and two types."""
    if "sae_probes" in sys.modules:
        raise AssayError(
            "sae-probes", "was imported before its data folder was set", "score it in a process of its own"
        )
    constants = types.ModuleType("sae_probes.constants")
    vars(constants).update(
        DATA_PATH=data,
        DEFAULT_RESULTS_PATH=Path("results"),
        RegType=Literal["l1", "l2"],
        Setting=Literal["normal", "scarcity", "imbalance"],
    )
    sys.modules["sae_probes.constants"] = constants
    with _quiet():
        # transformer_lens and torch announce what they will drop; the lock decides when that concerns us.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        from sae_probes import run_sae_evals

    return sys.modules[run_sae_evals.__module__]


def version() -> str:
    """The installed package's version."""
    return importlib.metadata.version("sae-probes")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's prints and bars, and its two known warnings: scikit-learn's about `penalty` (right until
    1.10, which pyproject.toml excludes) and about saga's iteration limit, which is part of the procedure."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.filterwarnings("ignore", message=r".*'?penalty'? .*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r".*[Ii]nconsistent values: penalty.*", category=UserWarning)
        warnings.filterwarnings("ignore", message=r".*max_iter was reached.*")
        yield


def _records(found: ProbeSet, scores: list[dict[str, Any]]) -> list[Record]:
    rows = len(found.labels)
    train = min(rows - 100, 1024)  # the package's own rule
    return [
        record(
            "sae_probes",
            part,
            float(one[key]),
            task=found.name,
            hp=("k_probe", int(one["k"])),
            mode="saebench",
            n_train=train,
            n_test=min(rows, 1500) - train - 1,
        )
        for one in scores
        for part, key in PARTS.items()
    ]


def _too_narrow(found: ProbeSet, k: int, width: int) -> list[Record]:
    reason = f"k_probe = {k} exceeds the SAE's {width} latents"
    hp = ("k_probe", k)
    return [
        record(
            "sae_probes", part, None, task=found.name, hp=hp, mode="saebench", status="not_applicable", reason=reason
        )
        for part in PARTS
    ]
