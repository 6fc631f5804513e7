"""Result files that the real library's output classes wrote (saebench/make.py), whole, broken and cut off."""

from __future__ import annotations

import copy
import json
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sae_assay.tables import imports, saebench

FIXTURES = Path(__file__).parent / "saebench"
FILES = {path.parent.name: path for path in sorted(FIXTURES.glob("*/*.json"))}
SAE = "gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical"


def raw(evaluation: str) -> dict[str, Any]:
    return json.loads(FILES[evaluation].read_text())


def read(found: Any, path: str = "root/a.json", **options: Any) -> saebench.Result:
    content = found if isinstance(found, bytes) else json.dumps(found).encode()
    return saebench.read(content, PurePosixPath(path), saebench.Options(**options))


def values(result: saebench.Result) -> dict[tuple[Any, ...], float | None]:
    return {(r["component"], r["hp_value"], r["task"]): r["value"] for r in result.records}


def test_every_evaluation_has_a_file_of_the_real_library() -> None:
    assert set(FILES) == set(saebench.READERS)


@pytest.mark.parametrize("evaluation", FILES)
def test_the_sae_the_seed_and_the_versions_come_from_the_file(evaluation: str) -> None:
    result = read(raw(evaluation))
    assert (result.sae["sae_id"], result.sae["arch"], result.sae["panel"]) == (SAE, "jumprelu", "panel")
    assert result.seed == {"core": None, "sparse_probing": 123}.get(evaluation, 42)
    assert (result.why_no_seed is None) == (result.seed is not None)
    assert result.about == {"sae_bench_commit_hash": "0" * 40, "sae_lens_version": "6.54.12", "eval_id": "stand-in"}


def test_numbers_of_data_sets_are_the_files_own() -> None:
    details = {one["dataset_name"]: one for one in raw("sparse_probing")["eval_result_details"]}
    found = values(read(raw("sparse_probing")))
    assert found[("accuracy", 5, "fancyzhx/ag_news")] == details["fancyzhx/ag_news_results"]["sae_top_5_test_accuracy"]
    assert len(found) == 4
    tpp, name = raw("tpp")["eval_result_details"][1], "canrager/amazon_reviews_mcauley_1and5"
    assert values(read(raw("tpp")))[("unintended", 20, name)] == tpp["tpp_threshold_20_unintended_diff_only"]
    probes = values(read(raw("sparse_probing_sae_probes")))
    assert (
        probes[("f1", 1, "96_spam_is")]
        == raw("sparse_probing_sae_probes")["eval_result_details"][1]["sae_metrics_by_k"]["1"]["test_f1"]
    )
    assert len(probes) == 2 * 2 * 3


def test_scr_keeps_both_directions_and_says_where_neither_was_reported() -> None:
    result, first = read(raw("scr")), raw("scr")["eval_result_details"][0]
    task = first["dataset_name"].removesuffix("_results")
    tied = [r for r in result.records if r["status"] != "ok"]
    assert [(r["task"], r["hp_value"], r["component"], r["value"], r["status"]) for r in tied] == [
        (task, 2, "compatible", None, "tied_direction")
    ]
    found = {(r["component"], r["direction"], r["hp_value"], r["task"]): r["value"] for r in result.records}
    assert found[("direction_2", 2, 2, task)] == first["scr_dir2_threshold_2"]
    assert found[("compatible", None, 20, task)] == first["scr_metric_threshold_20"]
    assert len(found) == 8 * 2 * 3  # four pairs of each of two data sets


def test_means_come_by_task_where_the_file_has_tasks() -> None:
    letters = values(read(raw("absorption_first_letter")))
    assert {task for _, _, task in letters} == {"a", "b", "c"} and len(letters) == 9
    ravel = values(read(raw("ravel")))
    own = raw("ravel")["eval_result_unstructured"]["city_results"]["city_Country"]["disentangle_score"]
    assert ravel[("disentanglement_score", None, "city_Country")] == own
    bare = raw("ravel") | {"eval_result_unstructured": None}
    assert {task for _, _, task in values(read(bare))} == {"__all__"}
    assert len(values(read(raw("core")))) == 24  # all of the classes' fields but for two counts of tokens


def test_a_number_that_is_not_finite_is_a_row_without_a_value() -> None:
    found = raw("core")
    found["eval_result_metrics"]["model_behavior_preservation"]["kl_div_score"] = float("nan")
    result = read(found)
    bad = [r for r in result.records if r["status"] != "ok"]
    assert [(r["component"], r["value"], r["status"]) for r in bad] == [("kl_div_score", None, "non_finite")]
    assert len(result.records) == 24


def change(*path: Any, to: Any = None, drop: bool = False) -> Any:
    def changed(found: dict[str, Any]) -> dict[str, Any]:
        holder: Any = found
        for key in path[:-1]:
            holder = holder[key]
        if drop:
            del holder[path[-1]]
        else:
            holder[path[-1]] = to
        return found

    return changed


DETAILS = "eval_result_details"


@pytest.mark.parametrize(
    ("evaluation", "edit", "said"),
    [
        ("tpp", change("eval_type_id", to="unlearning"), "is of the evaluation 'unlearning'; known: core"),
        ("tpp", change("eval_config", drop=True), "eval_config is missing, not an object"),
        ("tpp", change(DETAILS, 0, drop=True), "differ in data sets, such as LabHC/bias_in_bios_class_set1"),
        (
            "tpp",
            change(DETAILS, 0, "tpp_threshold_20_total_metric", to=None),
            "tpp_threshold_20_total_metric is missing",
        ),
        ("tpp", change(DETAILS, 0, "tpp_threshold_2_total_metric", to="0.5"), "is a str, not a number"),
        ("tpp", change(DETAILS, 0, "tpp_threshold_2_total_metric", to=True), "is a bool, not a number"),
        ("tpp", change("eval_config", "n_values", to=[2, 50]), "tpp_threshold_50_total_metric is missing"),
        ("tpp", change("eval_config", "n_values", to=[2, 2]), "names one twice"),
        ("tpp", change("eval_config", "random_seed", to="42"), "random_seed is '42', no seed"),
        ("tpp", change("sae_bench_commit_hash", drop=True), "sae_bench_commit_hash is missing"),
        ("scr", change(DETAILS, 3, "scr_dir1_threshold_2", to=None), "scr_dir1_threshold_2 is missing"),
        ("scr", change(DETAILS, 3, drop=True), "differ in data sets"),
        ("sparse_probing", change(DETAILS, to={}), "is no list of objects"),
        ("sparse_probing_sae_probes", change(DETAILS, 0, "sae_metrics_by_k", "5", drop=True), "has no object for 5"),
        ("absorption_first_letter", change(DETAILS, 1, drop=True), "and the mean of its details"),
        (
            "ravel",
            change("eval_result_unstructured", "city_results", "city_Country", drop=True),
            "the mean of its details",
        ),
        ("core", change("eval_result_metrics", "sparsity", drop=True), "sparsity is missing"),
        ("autointerp", change("eval_result_metrics", "autointerp", "autointerp_score", to=None), "score is missing"),
    ],
)
def test_what_a_file_lacks_is_named(evaluation: str, edit: Any, said: str) -> None:
    with pytest.raises(saebench.Unusable, match=said):
        read(edit(raw(evaluation)))


def test_a_cut_off_file_is_refused_at_any_length() -> None:
    content = FILES["absorption_first_letter"].read_bytes().rstrip()
    for length in range(0, len(content) - 1, 97):
        with pytest.raises(saebench.Unusable, match=r"not whole JSON|holds no object"):
            read(content[:length])
    with pytest.raises(saebench.Unusable, match="twice in one object"):
        read(b'{"a": 1, "a": 2}')


@pytest.mark.parametrize(
    ("path", "sae", "step", "tokens", "final"),
    [
        ("panels/btk/snapshots/step-2441-tokens-10000000/tpp/x.json", "btk.step_0002441", 2441, 10_000_000, False),
        ("panels/btk/snapshots/step-1-tokens-0/x.json", "btk.step_0000001", 1, None, False),
        ("panels/btk/snapshots/step-366210-tokens-1500000000/tpp/x.json", "btk", 366210, 1_500_000_000, True),
        ("reseed/65k/seed_42/tpp/x.json", "65k", None, None, True),
        ("65k/seed_42/x.json", "65k", None, None, True),
    ],
)
def test_folders_name_the_sae_that_the_audits_driver_leaves_out(
    path: str, sae: str, step: int | None, tokens: int | None, final: bool
) -> None:
    found = raw("tpp") | {"sae_lens_release_id": "saebench_tpp", "sae_lens_id": "custom_sae"}
    result = read(found, path, training_tokens=1_500_000_000).sae
    assert (result["sae_id"], result["step"], result["tokens"], result["is_final"]) == (sae, step, tokens, final)
    assert result["panel"] == ("panel" if final else "trajectory")


def test_a_custom_saes_own_name_is_kept() -> None:
    found = raw("tpp") | {"sae_lens_release_id": "my_sae", "sae_lens_id": "custom_sae"}
    assert read(found).sae["sae_id"] == "my_sae"


def test_the_seed_of_a_folder_counts_only_where_asked_for_and_never_against_the_file() -> None:
    path = "r/65k/seed_123/core/x.json"
    assert read(raw("core"), path).seed is None
    assert read(raw("core"), path, seeds_from_folders=True).seed == 123
    with pytest.raises(saebench.Unusable, match="random_seed is 42, and it lies in the folder of seed 123"):
        read(raw("tpp"), path)


def test_the_sae_probes_packages_own_files_are_read() -> None:
    rows = [{"k": k, "dataset": "96_spam_is", "test_auc": 0.9, "test_f1": 0.8, "test_acc": 0.7} for k in (1, 2)]
    path = "r/16k/seed_42/sae_probes/sae_probes_gemma-2-2b/normal_setting/96_spam_is_h_l1.json"
    result = read(rows, path)
    assert (result.sae["sae_id"], result.seed) == ("16k", None) and "sae-probes does not write it" in str(
        result.why_no_seed
    )
    assert values(result)[("accuracy", 2, "96_spam_is")] == 0.7 and len(result.records) == 6
    with pytest.raises(saebench.Unusable, match="test_f1 is missing"):
        read([{**rows[0], "test_f1": None}], path)


# Never half-imported -------------------------------------------------------------------------------------------------------
def places(found: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value in a JSON tree."""
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [place for key, value in items for place in [(*at, key), *places(value, (*at, key))]]


WHOLE = {
    name: len(saebench.read(p.read_bytes(), PurePosixPath("r/a"), saebench.Options()).records)
    for name, p in FILES.items()
}
JUNK = st.sampled_from(
    [None, True, "x", -1, 7, 0.25, float("nan"), float("inf"), [], {}, [1], {"a": 1}, "\x01", 10**400]
)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(FILES)), st.data())
def test_a_changed_file_gives_all_its_scores_or_none(evaluation: str, data: st.DataObject) -> None:
    found = copy.deepcopy(raw(evaluation))
    place = data.draw(st.sampled_from(places(found)))
    edit = change(*place, drop=True) if data.draw(st.booleans()) else change(*place, to=data.draw(JUNK))
    try:
        result = read(edit(found))
    except saebench.Unusable:
        return
    frame = imports._frame(result, ("s", "b"))
    # What a file says it measured decides what is whole: fewer k or n, other data sets, RAVEL without its tasks.
    said = (
        place[:2] in {("eval_config", key) for key in ("n_values", "k_values", "ks")}
        or place[0] == "eval_result_unstructured"
    )
    named = evaluation == "core" and place[0] == "eval_result_metrics"
    if not said and not named:
        assert frame.height == WHOLE[evaluation]
    assert frame.height > 0 and frame["value"].is_not_null().eq(frame["status"].cast(pl.String) == "ok").all()
