"""The laws that `benchmarks/scale.py` fits, against costs of known law; and the script itself at toy sizes (slow)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import scale, scale_fit

ROOT = Path(__file__).parents[2]
SIZES = np.array([1024, 2048, 4096, 8192, 16_384, 32_768, 65_536.0])


def noisy(costs: Any, seed: int, spread: float = 0.03) -> Any:
    return costs * np.exp(spread * np.random.default_rng(seed).standard_normal(len(costs)))


def test_a_power_law_without_noise_is_found_exactly() -> None:
    law = scale_fit.fit(SIZES, 3e-5 * SIZES**1.7)
    assert law.kind == "power"
    assert law.exponent == pytest.approx(1.7, abs=1e-9)
    assert law.scale == pytest.approx(3e-5, rel=1e-6)
    assert law.at(1e6) == pytest.approx(3e-5 * 1e6**1.7, rel=1e-6)


def test_the_standard_error_is_that_of_least_squares() -> None:
    """Closed form: residual / sqrt(sum of squared deviations of log size)."""
    costs = noisy(SIZES**1.2, 1)
    law = scale_fit.fit(SIZES, costs)
    slope, intercept = np.polyfit(np.log(SIZES), np.log(costs), 1)
    residual = np.sqrt(((np.log(costs) - intercept - slope * np.log(SIZES)) ** 2).sum() / (len(SIZES) - 2))
    assert (law.exponent, law.residual) == pytest.approx((slope, residual))
    assert law.error == pytest.approx(residual / (np.log(SIZES).std() * np.sqrt(len(SIZES))))


def test_intervals_hold_the_true_exponent_and_extrapolations_the_true_cost_as_often_as_they_say() -> None:
    held, reached, draws = 0, 0, 400
    for seed in range(draws):
        law = scale_fit._power(SIZES, noisy(2e-4 * SIZES**1.5, seed))
        held += law.low <= 1.5 <= law.high
        one = noisy(np.array([2e-4 * 2.0**30]), seed + draws)[0]
        at_base = law.at(4096)
        _, low, high = scale_fit.extrapolated(at_base, {"n": 4096}, {"n": 2**20}, {"n": law})
        reached += low <= one <= high
    assert 0.92 <= held / draws <= 0.98
    assert 0.90 <= reached / draws <= 0.99


@pytest.mark.parametrize("seed", range(3))
def test_a_fixed_cost_is_told_from_a_smaller_exponent(seed: int) -> None:
    law = scale_fit.fit(SIZES, noisy(0.5 + 1e-9 * SIZES**2, seed))
    assert law.kind == "fixed"
    assert law.low <= 2 <= law.high
    assert law.constant == pytest.approx(0.5, rel=0.1)
    assert law.at(2**20) == pytest.approx(0.5 + 1e-9 * 2**40, rel=0.3)


def test_what_fills_up_bends_and_what_stays_is_flat() -> None:
    assert scale_fit.fit(SIZES, noisy(SIZES / (1 + SIZES / 4096), 0)).kind == "bends"
    assert scale_fit.fit(SIZES, noisy(np.ones(len(SIZES)), 0)).kind == "flat"
    assert scale_fit.fit(SIZES, np.ones(len(SIZES))).kind == "flat"
    assert scale_fit.fit(SIZES[:3], SIZES[:3]).kind == "unfit"
    assert scale_fit.fit(SIZES, np.zeros(len(SIZES))).kind == "unfit"


def test_an_extrapolation_multiplies_the_ratios_of_the_sizes_that_change() -> None:
    laws = {"n": scale_fit.fit(SIZES, SIZES**2), "d": scale_fit.fit(SIZES, 5 * SIZES), "flat": scale_fit.Fit("flat", 7)}
    base, target = {"n": 1000.0, "d": 100.0, "flat": 1.0}, {"n": 10_000.0, "d": 300.0, "flat": 9.0}
    assert scale_fit.extrapolated(2.0, base, target, laws) == pytest.approx((600, 600, 600))


@pytest.mark.slow
def test_the_script_runs_at_toy_sizes() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/scale.py"), "--toy", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT).stdout)
    widths = [point["sizes"]["latents"] for point in found["points"]]
    assert sorted(widths) == scale.TOY["latents"]
    for point in found["points"]:
        costs = point["costs"]
        assert 20 < costs["counts: l0"] < 32  # 25 on the rows that set the threshold
        assert costs["counts: probing"] == 12 and costs["counts: tpp"] == 4
        assert all(costs[f"seconds: {stage}"] > 0 for stage in ("sampling", "encode", "ground_truth", "sae_probes"))
    assert found["fits"]["bytes: pool"]["latents"]["kind"] == "flat"
    assert "EXTRAPOLATED" in scale.report(found)
