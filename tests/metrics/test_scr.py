"""SCR: a case solved by hand, and what has no score."""

from __future__ import annotations

import torch

from sae_assay.metrics import scr
from sae_assay.metrics.probes import Probes

NS = [1, 2]
# x = (t, s); target data and spurious data hold the four cells alike.
TARGET = torch.tensor([[[1.0, 1], [1, 0]], [[0, 1], [0, 0]]])
SPURIOUS = torch.tensor([[[1.0, 1], [0, 1]], [[1, 0], [0, 0]]])


def _inputs(biased: list[float], bias: float, n_rows: int = 4) -> scr.ScrInput:
    """Latents are t and s themselves; probes of target and spurious are perfect."""
    x = torch.stack([TARGET, SPURIOUS]).repeat(1, 1, n_rows, 1)
    weight, biases = torch.tensor([[1.0, 0], [0, 1], biased]), torch.tensor([-0.5, -0.5, bias])
    probes = Probes(weight, biases, torch.zeros(3, dtype=torch.long), torch.ones(3))
    return scr.ScrInput("pair", "in-in", x, x, x, torch.eye(2), probes)


def _rows(records: list[dict], n: int) -> dict[str, dict]:
    return {r["component"]: r for r in records if r["hp_value"] == n}


def test_ablating_the_spurious_latent_repairs_the_biased_probe() -> None:
    """Biased probe: .6 t + s > .5. On target data it says yes in (1,1), (1,0), (0,1): .75. Without s: .6 t > .5, all
    right: (1 - .75) / (1 - .75) = 1. On spurious data: .75; without t: s > .5, 1. Both originals are .75: a tie."""
    rows = _rows(scr.scr(_inputs([0.6, 1.0], -0.5), NS, "strict"), 1)
    assert rows["direction_1"]["value"] == 1 and rows["direction_2"]["value"] == 1
    assert rows["direction_1"]["direction"] == 1 and rows["direction_2"]["direction"] == 2
    assert rows["score"]["status"] == rows["compatible"]["status"] == "tied_direction"
    assert "0.7500" in rows["score"]["reason"]


def test_the_direction_of_lower_original_accuracy_is_reported() -> None:
    """Biased probe: .3 t + s > .5 reads s alone: .5 on target data, 1 on spurious data (undefined). Without s it never
    says yes: still .5, so direction 1 scores 0."""
    records = scr.scr(_inputs([0.3, 1.0], -0.5), NS, "saebench")
    rows = _rows(records, 1)
    assert rows["direction_1"]["value"] == 0 and rows["score"]["value"] == 0 and rows["score"]["direction"] is None
    assert rows["direction_2"]["status"] == "undefined_denominator" and rows["direction_2"]["value"] is None
    assert {r["n_train"] for r in records} == {4 * 8}


def test_an_undefined_score_is_null_and_saebenchs_value_is_zero() -> None:
    """The probes of target and spurious are worse than the biased one where the biased probe is .75 and theirs is .5."""
    inputs = _inputs([0.6, 1.0], -0.5)
    inputs.probes.bias[:2] = 5.0
    inputs.probes.weight[2] = torch.tensor([1.0, 0.4])
    rows = _rows(scr.scr(inputs, NS, "saebench"), 1)
    assert rows["score"]["status"] == "undefined_denominator" and rows["score"]["value"] is None
    assert rows["compatible"]["value"] == 0 and rows["compatible"]["status"] == "ok"
    assert "below 0.001" in rows["score"]["reason"]


def test_no_rows_is_a_status() -> None:
    records = scr.unavailable("pair", "in-in", NS, "strict", "too_few_rows", "3 rows in the smallest cell")
    assert len(records) == 8 and {r["status"] for r in records} == {"too_few_rows"}
    assert {(r["component"], r["direction"]) for r in records} == {
        ("score", None),
        ("compatible", None),
        ("direction_1", 1),
        ("direction_2", 2),
    }
