"""The registry, and the positive controls."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sae_assay.metrics import api
from sae_assay.metrics.positive_controls import known_validity, pure_noise
from sae_assay.metrics.records import record
from sae_assay.tables.scores import RANGES


def test_every_metric_of_the_paper_is_known_and_gives_a_reason_where_it_cannot_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    listed = {m["name"]: m for m in api.listing()}
    assert {
        "ground_truth",
        "core",
        "sparse_probing",
        "sae_probes",
        "scr",
        "tpp",
        "absorption",
        "ravel",
        "autointerp",
    } <= set(listed)
    assert all(m["can_run"] or m["reason"] for m in listed.values())
    assert not listed["autointerp"]["can_run"] and "set OPENAI_API_KEY" in listed["autointerp"]["reason"]
    assert listed["tpp"]["can_run"] and "RAVEL's data (metrics.ravel.data)" in listed["ravel"]["given"]


def test_listing_imports_no_torch() -> None:
    code = "import sys, sae_assay.metrics.api as a; a.listing(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_function_is_loaded_by_name_and_a_missing_need_says_why() -> None:
    from sae_assay.metrics import tpp

    known = api.registry()
    assert known["tpp"].load() is tpp.tpp
    with pytest.raises(LookupError, match="metric autointerp cannot run here"):
        known["autointerp"].load()


def test_known_validity_is_the_truth_plus_noise_of_the_declared_size() -> None:
    draws = np.array([known_validity(0.5, 0.1, "w", f"sae_{i}", 42)["value"] for i in range(2000)])
    assert draws.mean() == pytest.approx(0.5, abs=0.01) and draws.std() == pytest.approx(0.1, abs=0.01)
    assert known_validity(0.5, 0.1, "w", "a", 1) == known_validity(0.5, 0.1, "w", "a", 1)


def test_pure_noise_knows_nothing() -> None:
    assert pure_noise(1.0, "w", "a", 1) != pure_noise(1.0, "w", "a", 2)
    assert pure_noise(1.0, "w", "a", 1)["value"] != known_validity(0, 1.0, "w", "a", 1)["value"]


def test_a_record_is_null_exactly_where_its_status_says_so() -> None:
    assert record("m", "score", float("nan"))["status"] == "non_finite"
    assert record("m", "score", float("inf"))["value"] is None
    for value, status in ((None, "ok"), (1.0, "failed")):
        with pytest.raises(ValueError, match="a value needs `ok`"):
            record("m", "score", value, status=status)
    assert "accuracy" in RANGES
