"""Points SAEBench's dataset loaders at local text, under the text's true names.

A local set is a JSON file {"classes": [...], "train": {"text": [...], "label": [...]}, "test": {...}}; a crossing of two
binary sets has "target" and "spurious" columns too, and `classes` of both. What the library does with rows - sampling,
filtering, pairing, shuffling - stays its own; names that are no local set go to its own loaders, hence to the hub.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import sae_bench.evals.scr_and_tpp.dataset_creation as dataset_creation
import sae_bench.evals.scr_and_tpp.main as scr_and_tpp
import sae_bench.sae_bench_utils.dataset_info as dataset_info
import sae_bench.sae_bench_utils.dataset_utils as dataset_utils
from run import BadInputError

_sets: dict[str, dict[str, Any]] = {}
_library_load = dataset_utils.load_dataset
_library_labelled = dataset_utils.get_multi_label_train_test_data
_library_paired = dataset_creation.get_train_test_data


def use(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Take the job's local sets, by name, in place of those of any job before it.

    Raises:
        BadInputError: a set has one class only.
    """
    files = job["data"].get("sets", {})
    found = {name: json.loads(Path(path).read_text(encoding="utf-8")) for name, path in files.items()}
    _sets.clear()
    _sets.update(found)
    for name, one in found.items():
        labels = sorted(set(one["train"]["label"]) & set(one["test"]["label"]))
        if len(labels) < 2:
            problem = f"has rows of {len(labels)} class(es) in both its parts"
            raise BadInputError(name, problem, "choose a set with two classes or more")
        dataset_info.chosen_classes_per_dataset[name] = [str(label) for label in labels]
        if "target" in one["train"]:
            _register_crossing(name, one)
    dataset_utils.load_dataset = _load
    dataset_utils.get_multi_label_train_test_data = _labelled
    dataset_creation.get_train_test_data = _paired
    return found


def fewest(one: dict[str, Any], part: str, column: str = "label") -> int:
    """Rows of the smallest class of a part of a set."""
    return min(Counter(one[part][column]).values())


def too_few(one: dict[str, Any], train_rows: int, test_rows: int) -> str | None:
    """Why the library cannot draw so many rows of a set of classes (half of them of each), or None."""
    for part, wanted in (("train", train_rows // 2), ("test", test_rows // 2)):
        if (found := fewest(one, part)) < wanted:
            return f"{wanted} rows of each class are drawn to {part}, the smallest class has {found}"
    return None


def too_few_paired(one: dict[str, Any], train_rows: int, test_rows: int) -> str | None:
    """Why the library cannot pair so many rows of a crossing, or None: a cell gives a quarter, the two biased ones twice that."""
    for part, quarter in (("train", train_rows // 4), ("test", test_rows // 4)):
        cells = Counter(zip(one[part]["target"], one[part]["spurious"], strict=True))
        for cell in ((0, 0), (0, 1), (1, 0), (1, 1)):
            wanted = 2 * quarter + 1 if cell[0] == cell[1] else quarter
            if cells[cell] < wanted:
                where = f"target = {cell[0]}, spurious = {cell[1]}"
                return f"{wanted} rows with {where} are drawn to {part}, there are {cells[cell]}"
    return None


def _register_crossing(name: str, one: dict[str, Any]) -> None:
    """Columns, their values and the values to pair, as the library keeps them; the second class is the positive one."""
    target, spurious = one["classes"]
    dataset_info.dataset_metadata[name] = {
        "text_column_name": "text",
        "column1_name": "target",
        "column2_name": "spurious",
        "column1_mapping": {target[0]: 0, target[1]: 1},
        "column2_mapping": {spurious[0]: 0, spurious[1]: 1},
    }
    scr_and_tpp.COLUMN2_VALS_LOOKUP[name] = (spurious[1], spurious[0])


def _load(name: str, *arguments: Any, **options: Any) -> Any:
    if name in _sets:
        return {part: _sets[name][part] for part in ("train", "test")}
    return _library_load(name, *arguments, **options)


def _labelled(name: str, train_size: int, test_size: int, seed: int) -> Any:
    if name not in _sets:
        return _library_labelled(name, train_size, test_size, seed)
    classes = dataset_info.chosen_classes_per_dataset[name]
    found = dataset_utils.get_ag_news_dataset(name, classes, train_size, test_size, seed)
    return dataset_utils.ensure_shared_keys(*found)


def _paired(
    name: str,
    spurious_corr: bool,
    train_size: int,
    test_size: int,
    seed: int,
    column1_vals: Any = None,
    column2_vals: Any = None,
) -> Any:
    if not spurious_corr or name not in _sets:
        return _library_paired(name, spurious_corr, train_size, test_size, seed, column1_vals, column2_vals)
    import pandas as pd

    sizes = {"train": train_size // 4, "test": test_size // 4}
    parts = [
        dataset_creation.get_spurious_corr_data(
            pd.DataFrame(_sets[name][part]), column1_vals, column2_vals, name, size, seed
        )
        for part, size in sizes.items()
    ]
    return dataset_utils.ensure_shared_keys(*parts)
