"""Reads SAEBench's result files: one JSON an SAE and evaluation, in the schema of its output classes (evals/*/eval_output.py).

A file gives all its scores or none: what it says it measured - data sets, k_probe, n - must be there. A number that is not
finite is a score without a value. Probes on raw activations (`llm_*`) are no scores of an SAE, and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sae_assay.metrics.records import Record, record
from sae_assay.modes import Mode
from sae_assay.tables import result_names
from sae_assay.tables.result_names import Options, Unusable

LIBRARY: Mode = "library"  # the real library scored, whatever its version
_ROUNDING = 1e-6


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
    seed, why = result_names.seed(config.get("random_seed"), "its eval_config has no random_seed", path, options)
    about = {name: _text(found, name) for name in ("sae_bench_commit_hash", "sae_lens_version", "eval_id")}
    sae_name = result_names.sae_name(_text(found, "sae_lens_release_id"), _text(found, "sae_lens_id"), path)
    sae = result_names.described(sae_name, found.get("sae_cfg_dict") or {}, path, options)
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
    return [
        record("core", _CORE_NAMES.get(name, name), _number(part, name), mode=LIBRARY)
        for part in kept.values()
        for name in part
    ]


def _sparse_probing(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    sets, ks = _data_sets(found, config, "_results"), _counts(config, "k_values")
    return [
        record(
            "saebench_sparse_probing",
            "accuracy",
            _number(one, f"sae_top_{k}_test_accuracy"),
            task=name,
            **_hp("k_probe", k),
        )
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
        record("saebench_tpp", part, _number(one, f"tpp_threshold_{n}_{key}"), task=name, **_hp("n", n))
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
    records = [
        record("saebench_scr", f"direction_{way}", v, direction=way, **labels) for way, v in enumerate(ways, start=1)
    ]
    if one.get(f"scr_metric_threshold_{n}") is not None:
        return [*records, record("saebench_scr", "compatible", _number(one, f"scr_metric_threshold_{n}"), **labels)]
    reason = "SAEBench reports neither direction, which it does where both begin at one accuracy"
    return [*records, record("saebench_scr", "compatible", None, status="tied_direction", reason=reason, **labels)]


def _absorption(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    """One task a letter; their means are in the file too, which shows that none is missing."""
    letters = _details(found, "first_letter")
    means = _mapping(_mapping(found, "eval_result_metrics"), "mean")
    records = []
    for part, mean in _ABSORPTION.items():
        values = [_number(one, part) for one in letters.values()]
        _is_mean(values, _number(means, mean), mean)
        records += [
            record("absorption", part, v, task=name, mode=LIBRARY) for name, v in zip(letters, values, strict=True)
        ]
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
        return [record("ravel", part, value, mode=LIBRARY) for part, value in stated.items()]
    if not isinstance(classes, dict) or any(not isinstance(one, dict) for one in classes.values()):
        raise Unusable("eval_result_unstructured is no object of attributes")
    tasks = {name: _mapping(one, name) for one in classes.values() for name in one}
    records = []
    for part, key in _RAVEL.items():
        values = {name: _number(one, key) for name, one in tasks.items()}
        groups = [[values[name] for name in one] for one in classes.values()]
        _is_mean([sum(group) / len(group) for group in groups if group], stated[part], part)
        records += [record("ravel", part, value, task=name, mode=LIBRARY) for name, value in values.items()]
    return records


def _autointerp(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Record]:
    scored = _mapping(_mapping(found, "eval_result_metrics"), "autointerp")
    return [record("autointerp", "autointerp_score", _number(scored, "autointerp_score"), mode=LIBRARY)]


def _hp(name: str, value: int) -> dict[str, Any]:
    return {"hp": (name, value), "mode": LIBRARY}


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
    seed, why = result_names.seed(None, "sae-probes does not write it", path, options)
    sae = result_names.described(result_names.sae_name(None, None, path), {}, path, options)
    return Result("sae_probes", sae, seed, why, records)


def files_in(paths: Iterable[str | Path]) -> dict[Path, Path]:
    """JSON files, and those in folders, sorted, each with the folder from which on its path names its SAE."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        files = path.rglob("*.json") if path.is_dir() else [path]
        found |= {file: path if path.is_dir() else path.parent for file in files}
    return dict(sorted(found.items()))
