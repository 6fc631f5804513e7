"""Reads SAEBench's result files: one JSON an SAE and evaluation, in the schema of its output classes (evals/*/eval_output.py).

A file gives all its scores or none: what it says it measured - data sets, k_probe, n - must be there. A number that is not
finite is a score without a value. Probes on raw activations (`llm_*`) are no scores of an SAE, and are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sae_assay.metrics.records import Record, record

UNKNOWN_SEED = "the evaluation seed is unknown: "
_SNAPSHOT = re.compile(r"[/_.-]?\bstep[-_](\d+)(?:[-_]tokens[-_](\d+))?|_step_(\d+)")
_SEED_FOLDER = re.compile(r"seed[-_]?(\d+)")
_DRIVER = re.compile(r"saebench_\w+")  # an evaluation's name that the audit's driver gives in place of a release
_ROUNDING = 1e-6


class Unusable(ValueError):
    """Why a file cannot be imported, in words that follow its name."""


@dataclass(frozen=True)
class Options:
    """What the study says of the files.

    Attributes:
        training_tokens: a snapshot that has seen so many tokens is its run's finished SAE; None: none is.
        seeds_from_folders: a file without a seed takes it from a folder `seed_42` above it.
    """

    training_tokens: int | None = None
    seeds_from_folders: bool = False


@dataclass(frozen=True)
class Result:
    """A whole result file.

    Attributes:
        evaluation: SAEBench's name of it.
        sae: what describes the SAE, by the score table's columns; None where the file does not say.
        seed: the evaluation seed, or None, and why.
        about: versions and ids, as the file gives them.
        records: its scores.
    """

    evaluation: str
    sae: dict[str, Any]
    seed: int | None
    why_no_seed: str | None
    records: list[Record]
    about: dict[str, Any] = field(default_factory=dict)


def read(content: bytes, path: PurePosixPath, options: Options) -> Result:
    """Everything in one file.

    Args:
        content: the file's bytes.
        path: where it lies, from the imported folder on; names the SAE where the file does not.

    Raises:
        Unusable: not whole, of another schema, or without something that it should hold.
    """
    found = _parse(content)
    if isinstance(found, list):
        return _sae_probes_file(found, path, options)
    if not isinstance(found, dict):
        raise Unusable("holds no object")
    evaluation = found.get("eval_type_id")
    if not isinstance(evaluation, str) or evaluation not in READERS:
        raise Unusable(f"is of the evaluation {evaluation!r}; known: {', '.join(READERS)}")
    config = _mapping(found, "eval_config")
    seed, why = _seed(config.get("random_seed"), "its eval_config has no random_seed", path, options)
    about = {name: _text(found, name) for name in ("sae_bench_commit_hash", "sae_lens_version", "eval_id")}
    name = _sae_name(_text(found, "sae_lens_release_id"), _text(found, "sae_lens_id"), path)
    sae = _described(name, found.get("sae_cfg_dict") or {}, path, options)
    records = READERS[evaluation](found, config)
    if not records:
        raise Unusable("holds no score")
    return Result(evaluation, sae, seed, why, records, about)


def _parse(content: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key stands twice in one object")
        return found

    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"is not whole JSON ({' '.join(str(error).split())[:120]})") from None


# What a file must hold -------------------------------------------------------------------------------------------------------
def _mapping(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = holder.get(key)
    if not isinstance(found, dict):
        raise Unusable(f"{key} is {_kind(found)}, not an object")
    return found


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    """A text or null; the key must be there."""
    if key not in holder:
        raise Unusable(f"{key} is missing")
    if holder[key] is not None and not isinstance(holder[key], str):
        raise Unusable(f"{key} is {_kind(holder[key])}, not a text")
    return holder[key]


def _number(holder: Mapping[str, Any], key: str) -> float:
    found = holder.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise Unusable(f"{key} is {_kind(found)}, not a number")
    try:
        return float(found)
    except OverflowError:
        raise Unusable(f"{key} is no number that a float holds") from None


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


def _counts(config: Mapping[str, Any], key: str) -> list[int]:
    found = config.get(key)
    if not isinstance(found, list) or not found or any(type(n) is not int or n < 1 for n in found):
        raise Unusable(f"eval_config.{key} is no list of whole numbers above 0")
    if len(set(found)) < len(found):
        raise Unusable(f"eval_config.{key} names one twice")
    return found


def _details(found: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """The result details by their name."""
    details = found.get("eval_result_details")
    if not isinstance(details, list) or any(not isinstance(one, dict) for one in details):
        raise Unusable("eval_result_details is no list of objects")
    names = [_text(one, key) for one in details]
    if None in names or len(set(names)) < len(names):
        raise Unusable(f"eval_result_details names a {key} twice or not at all")
    return {str(name): one for name, one in zip(names, details, strict=True)}


def _data_sets(found: Mapping[str, Any], config: Mapping[str, Any], ending: str) -> dict[str, dict[str, Any]]:
    """Details by data set; all that the configuration names, and no others."""
    details = {name.removesuffix(ending): one for name, one in _details(found, "dataset_name").items()}
    wanted = config.get("dataset_names")
    if not isinstance(wanted, list) or not wanted or any(not isinstance(name, str) for name in wanted):
        raise Unusable("eval_config.dataset_names is no list of names")
    if gap := sorted(set(wanted) ^ set(details)):
        raise Unusable(f"eval_config and details differ in data sets, such as {gap[0]}")
    return details


# Evaluations -----------------------------------------------------------------------------------------------------------------
Reader = Callable[[Mapping[str, Any], Mapping[str, Any]], list[Record]]
_CORE = {
    "reconstruction_quality": "explained_variance",
    "sparsity": "l0",
    "model_performance_preservation": "ce_loss_score",
}
_CORE_NAMES = {"explained_variance": "explained_variance_saebench"}  # method.md, Metrics
_PARTS = {"auc": "test_auc", "f1": "test_f1", "accuracy": "test_accuracy"}
_TPP = {"score": "total_metric", "intended": "intended_diff_only", "unintended": "unintended_diff_only"}
_ABSORPTION = {
    "mean_absorption_fraction": "mean_absorption_fraction_score",
    "full_absorption_rate": "mean_full_absorption_score",
    "num_split_features": "mean_num_split_features",
}
_RAVEL = {
    "disentanglement_score": "disentangle_score",
    "cause_score": "cause_score",
    "isolation_score": "isolation_score",
}


def _core(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    """Every measured number under its own name, but for the explained variance, which is none; counts of tokens are left out."""
    categories = _mapping(found, "eval_result_metrics")
    for category, name in _CORE.items():
        _number(_mapping(categories, category), name)
    kept = {name: _mapping(categories, name) for name in sorted(categories) if name != "token_stats"}
    return [record("core", _CORE_NAMES.get(name, name), _number(part, name)) for part in kept.values() for name in part]


def _sparse_probing(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    sets, ks = _data_sets(found, config, "_results"), _counts(config, "k_values")
    return [
        record("sparse_probing", "accuracy", _number(one, f"sae_top_{k}_test_accuracy"), task=name, **_hp("k_probe", k))
        for name, one in sets.items()
        for k in ks
    ]


def _sae_probes(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    sets, ks = _data_sets(found, config, "_results"), _counts(config, "ks")
    return [
        record("sae_probes", part, _number(_at_k(one, k), key), task=name, **_hp("k_probe", k))
        for name, one in sets.items()
        for k in ks
        for part, key in _PARTS.items()
    ]


def _at_k(one: Mapping[str, Any], k: int) -> Mapping[str, Any]:
    """The library's numbers at one k: under sae_metrics_by_k, or as fields of their own."""
    by_k = one.get("sae_metrics_by_k")
    if by_k is None:
        return {key: one.get(f"sae_top_{k}_{key}") for key in _PARTS.values()}
    if not isinstance(by_k, dict) or not isinstance(by_k.get(str(k)), dict):
        raise Unusable(f"sae_metrics_by_k has no object for {k}")
    return dict(by_k[str(k)])


def _tpp(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    sets, ns = _data_sets(found, config, "_tpp_results"), _counts(config, "n_values")
    return [
        record("tpp", part, _number(one, f"tpp_threshold_{n}_{key}"), task=name, **_hp("n", n))
        for name, one in sets.items()
        for n in ns
        for part, key in _TPP.items()
    ]


def _scr(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    """SAEBench's score is `compatible`: it gives 0 where the denominator is too small, and does not say so."""
    pairs = {name.removesuffix("_results"): one for name, one in _details(found, "dataset_name").items()}
    if set(pairs) != (wanted := _scr_pairs(config)):
        raise Unusable(f"eval_config and details differ in data sets, such as {min(set(pairs) ^ wanted)}")
    ns = _counts(config, "n_values")
    return [r for name, one in pairs.items() for n in ns for r in _scr_at(name, one, n)]


def _scr_pairs(config: Mapping[str, Any]) -> set[str]:
    names, pairs = config.get("dataset_names"), config.get("column1_vals_lookup")
    try:
        return {f"{name}_scr_{pair[0]}_{pair[1]}" for name in names for pair in pairs[name]}  # type: ignore[union-attr,index]
    except (TypeError, KeyError, IndexError):
        raise Unusable("eval_config names no pairs of its data sets (column1_vals_lookup)") from None


def _scr_at(name: str, one: Mapping[str, Any], n: int) -> list[Record]:
    labels: dict[str, Any] = {"task": name, **_hp("n", n)}
    ways = [_number(one, f"scr_dir{way}_threshold_{n}") for way in (1, 2)]
    records = [record("scr", f"direction_{way}", v, direction=way, **labels) for way, v in enumerate(ways, start=1)]
    if one.get(f"scr_metric_threshold_{n}") is not None:
        return [*records, record("scr", "compatible", _number(one, f"scr_metric_threshold_{n}"), **labels)]
    reason = "SAEBench reports neither direction, which it does where both begin at one accuracy"
    return [*records, record("scr", "compatible", None, status="tied_direction", reason=reason, **labels)]


def _absorption(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    """One task a letter; their means are in the file too, which shows that none is missing."""
    letters = _details(found, "first_letter")
    means = _mapping(_mapping(found, "eval_result_metrics"), "mean")
    records = []
    for part, mean in _ABSORPTION.items():
        values = [_number(one, part) for one in letters.values()]
        _is_mean(values, _number(means, mean), mean)
        records += [record("absorption", part, v, task=name) for name, v in zip(letters, values, strict=True)]
    return records


def _is_mean(values: list[float], stated: float, what: str) -> None:
    mean = sum(values) / len(values) if values else float("nan")
    if abs(mean - stated) > _ROUNDING * max(1.0, abs(stated)):
        raise Unusable(f"{what} is {stated}, and the mean of its details {mean}")


def _ravel(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    """One task an attribute where the file has them, else the means alone."""
    means = _mapping(_mapping(found, "eval_result_metrics"), "ravel")
    stated = {part: _number(means, part) for part in _RAVEL}
    classes = found.get("eval_result_unstructured")
    if not classes:
        return [record("ravel", part, value) for part, value in stated.items()]
    if not isinstance(classes, dict) or any(not isinstance(one, dict) for one in classes.values()):
        raise Unusable("eval_result_unstructured is no object of attributes")
    tasks = {name: _mapping(one, name) for one in classes.values() for name in one}
    records = []
    for part, key in _RAVEL.items():
        values = {name: _number(one, key) for name, one in tasks.items()}
        groups = [[values[name] for name in one] for one in classes.values()]
        _is_mean([sum(group) / len(group) for group in groups if group], stated[part], part)
        records += [record("ravel", part, value, task=name) for name, value in values.items()]
    return records


def _autointerp(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    scored = _mapping(_mapping(found, "eval_result_metrics"), "autointerp")
    return [record("autointerp", "autointerp_score", _number(scored, "autointerp_score"))]


def _hp(name: str, value: int) -> dict[str, Any]:
    return {"hp": (name, value), "mode": "saebench"}


READERS: dict[str, Reader] = {
    "core": _core,
    "sparse_probing": _sparse_probing,
    "sparse_probing_sae_probes": _sae_probes,
    "tpp": _tpp,
    "scr": _scr,
    "absorption_first_letter": _absorption,
    "ravel": _ravel,
    "autointerp": _autointerp,
}


def _sae_probes_file(found: list[Any], path: PurePosixPath, options: Options) -> Result:
    """The sae-probes package's own file: a list of one object a k_probe, all of one data set."""
    if not found or any(not isinstance(one, dict) or "k" not in one for one in found):
        raise Unusable("is a list, but not of sae-probes' objects")
    names, ks = {_text(one, "dataset") for one in found}, _counts({"k": [one["k"] for one in found]}, "k")
    if len(names) > 1 or None in names:
        raise Unusable("is of several data sets or of none")
    parts = {**_PARTS, "accuracy": "test_acc"}
    records = [
        record("sae_probes", part, _number(one, key), task=str(*names), **_hp("k_probe", k))
        for one, k in zip(found, ks, strict=True)
        for part, key in parts.items()
    ]
    seed, why = _seed(None, "sae-probes does not write it", path, options)
    sae = _described(_sae_name(None, None, path), {}, path, options)
    return Result("sae_probes", sae, seed, why, records)


# Whose scores, at which seed -------------------------------------------------------------------------------------------------
def _seed(stated: Any, missing: str, path: PurePosixPath, options: Options) -> tuple[int | None, str | None]:
    """The evaluation seed, or None and why."""
    if stated is not None and (type(stated) is not int or not 0 <= stated < 2**63):
        raise Unusable(f"eval_config.random_seed is {stated!r}, no seed")
    named = [int(match[1]) for part in path.parts[:-1] if (match := _SEED_FOLDER.fullmatch(part))]
    if stated is not None and named and named[-1] != stated:
        raise Unusable(f"eval_config.random_seed is {stated}, and it lies in the folder of seed {named[-1]}")
    if stated is None and options.seeds_from_folders and named:
        return named[-1], None
    return stated, None if stated is not None else UNKNOWN_SEED + missing


_LAYOUT = {"snapshots", "sae_probes", "normal_setting", "absorption", "eval_results", *READERS}


def _sae_name(release: str | None, sae_id: str | None, path: PurePosixPath) -> str:
    """`release/id` as SAELens knows it; a custom SAE's own name; else the folder that holds the file."""
    if sae_id and sae_id != "custom_sae":
        return f"{release}/{sae_id}" if release else sae_id
    if release and not _DRIVER.fullmatch(release):
        return release
    parts = [
        part
        for part in path.parts[1:-1]
        if part not in _LAYOUT and not _SEED_FOLDER.fullmatch(part) and not part.startswith("sae_probes_")
    ]
    return "/".join(parts) or path.parts[0]


def _described(name: str, config: Any, path: PurePosixPath, options: Options) -> dict[str, Any]:
    """The SAE's columns; `RUN.step_0002441` names a snapshot, as everywhere."""
    if not isinstance(config, dict):
        raise Unusable("sae_cfg_dict is no object")
    match = _SNAPSHOT.search(name)
    step = int(match[1] or match[3]) if match else None
    tokens = int(match[2]) if match and match[2] else None
    run = (name[: match.start()] + name[match.end() :] if match else name) or path.parts[0]
    if any(ord(letter) < 32 for letter in run):
        raise Unusable(f"names its SAE {name!r}")
    finished = step is None or (options.training_tokens is not None and (tokens or 0) >= options.training_tokens)
    k, arch, seed = config.get("k"), config.get("architecture"), config.get("seed")
    return {
        "panel": "panel" if finished else "trajectory",
        "sae_id": run if finished else f"{run}.step_{step:07d}",
        "arch": arch if isinstance(arch, str) else None,
        "target_l0": float(k) if isinstance(k, int | float) and not isinstance(k, bool) else None,
        "training_seed": seed if type(seed) is int else None,
        "step": step,
        "tokens": tokens or None,  # the audit's code calls the first step's tokens 0
        "is_final": finished,
    }


def files_in(paths: Iterable[str | Path]) -> dict[Path, Path]:
    """JSON files, and those in folders, sorted, each with the folder from which on its path names its SAE."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        files = path.rglob("*.json") if path.is_dir() else [path]
        found |= {file: path if path.is_dir() else path.parent for file in files}
    return dict(sorted(found.items()))
