"""SCR: a case solved by hand, and what has no score."""

from __future__ import annotations

import dataclasses

import pytest
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


def test_both_directions_are_weighed_by_what_there_is_to_repair() -> None:
    """As above: direction 1 gains 0 of .5; direction 2 has nothing to repair and loses: without t, s > .5 stays right, so
    both data sets together go from (.5 + 1) to (.5 + 1) of (1 + 1)."""
    records = scr.scr(_inputs([0.3, 1.0], -0.5), NS, "fix_direction")
    assert {(r["component"], r["direction"], r["mode"]) for r in records} == {("score", None, "fix_direction")}
    assert _rows(records, 1)["score"]["value"] == 0


def test_a_tie_has_a_score_where_both_directions_count() -> None:
    rows = _rows(scr.scr(_inputs([0.6, 1.0], -0.5), NS, "fix_direction"), 1)
    assert rows["score"]["value"] == 1 and rows["score"]["status"] == "ok"


def test_both_directions_without_a_gap_have_no_score() -> None:
    inputs = _inputs([0.6, 1.0], -0.5)
    inputs.probes.bias[:2] = 5.0  # probes of target and spurious always say yes: .5, below the biased one's .75
    rows = _rows(scr.scr(inputs, NS, "fix_direction"), 1)
    assert rows["score"]["value"] is None and rows["score"]["status"] == "undefined_denominator"
    assert "0.5000 - 0.7500" in rows["score"]["reason"]


@pytest.fixture
def noisy() -> scr.ScrInput:
    g = torch.Generator().manual_seed(8)
    W_dec = torch.nn.functional.normalize(torch.randn(20, 6, generator=g), dim=1)

    def rows(n: int) -> torch.Tensor:
        t, s = (
            torch.randn(6, generator=torch.Generator().manual_seed(1)),
            torch.randn(6, generator=torch.Generator().manual_seed(2)),
        )
        noise = torch.randn(2, 2, n, 6, generator=g)
        half = (torch.arange(n) < n // 2).float()[:, None]
        target = torch.stack([t + half * s, half * s])
        spurious = torch.stack([s + half * t, half * t])
        return torch.stack([target, spurious]) + noise

    train, test = rows(40), rows(30)
    probes = Probes(torch.randn(3, 6, generator=g), torch.zeros(3), torch.zeros(3, dtype=torch.long), torch.ones(3))
    direction = test[0, 0].mean(0) - test[0, 1].mean(0), test[1, 0].mean(0) - test[1, 1].mean(0)
    probes.weight[0], probes.weight[1], probes.weight[2] = *direction, direction[0] + 0.4 * direction[1]
    encode = [torch.relu(x @ W_dec.T - 0.3) for x in (train, test)]
    return scr.ScrInput("noisy", "in-in", *encode, test, W_dec, probes)


@pytest.mark.parametrize("mode", ["strict", "saebench", "fix_direction"])
def test_scr_is_blind_to_order_scale_and_number_of_latents_and_to_the_order_of_rows(noisy, mode) -> None:
    """In every mode: effects are absolute, so that no latent of zero effect is ever ablated."""
    g = torch.Generator().manual_seed(4)
    order, scale = torch.randperm(20, generator=g), 0.5 + torch.rand(20, generator=g)
    rows = torch.randperm(30, generator=g)

    def changed(f: torch.Tensor) -> torch.Tensor:
        f = (f * scale)[..., order]
        return torch.cat([torch.zeros(*f.shape[:-1], 5), f], -1)

    moved = dataclasses.replace(
        noisy,
        train_latents=changed(noisy.train_latents),
        test_latents=changed(noisy.test_latents)[:, :, rows],
        test_hidden=noisy.test_hidden[:, :, rows],
        W_dec=torch.cat([torch.ones(5, 6), (noisy.W_dec / scale[:, None])[order]]),
    )
    ns = [1, 3, 8]
    before, after = ([r["value"] for r in scr.scr(inputs, ns, mode)] for inputs in (noisy, moved))
    assert after == pytest.approx(before, abs=1e-6)
    assert len({v for v in before if v is not None}) > 2


def test_latents_that_never_fire_repair_nothing(noisy) -> None:
    dead = dataclasses.replace(noisy, train_latents=0 * noisy.train_latents, test_latents=0 * noisy.test_latents)
    values = {r["value"] for r in scr.scr(dead, [1, 8], "strict") if r["status"] == "ok"}
    assert values == {0.0}
