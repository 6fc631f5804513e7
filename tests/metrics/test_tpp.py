"""TPP: closed forms, brute force and invariances."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests.metrics.conftest import LinearSae

from sae_assay.metrics import tpp
from sae_assay.metrics.probes import Probes

NS = [1, 2, 3, 8]


def _probes(weight: torch.Tensor, bias: torch.Tensor) -> Probes:
    return Probes(weight, bias, torch.zeros(len(bias), dtype=torch.long), torch.ones(len(bias)))


def _inputs(x_train: torch.Tensor, x_test: torch.Tensor, sae: LinearSae, probes: Probes) -> tpp.TppInput:
    return tpp.TppInput("t", "in", sae.encode(x_train), sae.encode(x_test), x_test, sae.W_dec, probes)


@pytest.fixture
def monosemantic() -> tpp.TppInput:
    """Class c is the unit vector e_c, latent c fires for it alone, and probe c is right on every row."""
    x = torch.eye(4)[:, None].repeat(1, 10, 1)
    sae = LinearSae(torch.eye(4, 8), torch.eye(8, 4), torch.zeros(4))
    return _inputs(x, x[:, :5], sae, _probes(2 * torch.eye(4) - 0.5, torch.zeros(4)))


@pytest.fixture
def noisy() -> tpp.TppInput:
    g = torch.Generator().manual_seed(5)
    centres = torch.randn(4, 10, generator=g)
    train, test = (centres[:, None] + torch.randn(4, n, 10, generator=g) for n in (60, 25))
    W_dec = torch.nn.functional.normalize(torch.randn(30, 10, generator=g), dim=1)
    sae = LinearSae(W_dec.T.contiguous(), W_dec, torch.zeros(10), 0.5)
    return _inputs(train, test, sae, _probes(centres - centres.mean(0), -0.5 * torch.ones(4)))


def _by_key(records: list[dict]) -> dict:
    return {(r["component"], r["hp_value"]): r["value"] for r in records}


def _draws(inputs: tpp.TppInput, seed: int = 0) -> tpp.TppDraws:
    classes, m = inputs.train_latents.shape[:2]
    return tpp.draw(classes, m, inputs.test_latents.shape[1], len(NS), torch.Generator().manual_seed(seed))


def test_a_monosemantic_sae_loses_exactly_its_own_class(monosemantic) -> None:
    """Ablating latent c turns e_c into 0: probe c misses its class (accuracy .5), the others still say no."""
    for records in (tpp.strict(monosemantic, NS), tpp.saebench(monosemantic, _draws(monosemantic), NS)):
        values = _by_key(records)
        assert values["intended", 1] == 0.5
        assert values["unintended", 1] == 0
        assert values["score", 1] == 0.5
        assert all(r["status"] == "ok" and r["n_train"] == 40 and r["n_test"] == 20 for r in records)


def test_an_sae_whose_latents_never_fire_scores_zero(noisy) -> None:
    dead = dataclasses.replace(noisy, train_latents=0 * noisy.train_latents, test_latents=0 * noisy.test_latents)
    assert set(_by_key(tpp.strict(dead, NS)).values()) == {0.0}


def test_strict_is_blind_to_the_order_scale_and_number_of_latents(noisy) -> None:
    g = torch.Generator().manual_seed(1)
    order, scale = torch.randperm(30, generator=g), 0.5 + torch.rand(30, generator=g)

    def changed(f: torch.Tensor) -> torch.Tensor:
        f = (f * scale)[..., order]
        return torch.cat([torch.zeros(*f.shape[:-1], 5), f], -1)

    W_dec = torch.cat([torch.ones(5, 10), (noisy.W_dec / scale[:, None])[order]])
    moved = dataclasses.replace(
        noisy, train_latents=changed(noisy.train_latents), test_latents=changed(noisy.test_latents), W_dec=W_dec
    )
    values = _by_key(tpp.strict(noisy, NS))
    assert _by_key(tpp.strict(moved, NS)) == pytest.approx(values, abs=1e-12)
    assert values["score", 3] > 0.02


def test_strict_is_what_saebench_scores_on_average_over_its_draws(noisy) -> None:
    """Effects barely depend on the draw, so the mean over draws comes close to the balanced accuracy's score."""
    scores = [_by_key(tpp.saebench(noisy, _draws(noisy, seed), NS))["score", 2] for seed in range(60)]
    assert len(set(scores)) > 10
    assert sum(scores) / 60 == pytest.approx(_by_key(tpp.strict(noisy, NS))["score", 2], abs=0.02)


def test_equal_draws_give_equal_scores(noisy) -> None:
    assert tpp.saebench(noisy, _draws(noisy), NS) == tpp.saebench(noisy, _draws(noisy), NS)


def test_an_n_beyond_the_width_is_a_row_with_a_status(monosemantic) -> None:
    records = tpp.strict(monosemantic, [1, 9])
    assert [r["status"] for r in records if r["hp_value"] == 9] == ["not_applicable"] * 3
    assert records[-1]["reason"] == "n = 9 exceeds the SAE's 8 latents"


def test_each_repair_changes_one_thing(noisy) -> None:
    """Fixed negatives keep SAEBench's choice of latents (ties included), positive effects keep its draws."""
    draws, base = _draws(noisy), _by_key(tpp.saebench(noisy, _draws(noisy), NS))
    fixed, positive = (
        _by_key(tpp.tpp(noisy, NS, mode, draws))
        for mode in ("fix_negatives", "fix_ties")  # type: ignore[arg-type]
    )
    assert {part for part, _ in fixed} == {part for part, _ in positive} == {"score"}
    assert positive == {key: base[key] for key in positive}  # NS stay below the number of positive effects here
    assert fixed["score", 2] != base["score", 2]
    strict = _by_key(tpp.strict(noisy, NS))
    assert fixed == pytest.approx({key: strict[key] for key in fixed}, abs=1e-12)


def test_a_latent_of_zero_effect_is_ablated_before_a_negative_one_unless_repaired(monosemantic) -> None:
    """Latent 5 has a negative effect on class 0, so k is 2 there, and the second place goes to a latent of zero effect.
    All of these fire in every row, so whichever it is, ablating it takes a direction out that some probe reads."""
    W_dec = torch.cat([torch.eye(4), torch.eye(4)[[1, 0, 1, 1]]])
    W_dec[5] *= -1
    f_train, f_test = monosemantic.train_latents.clone(), monosemantic.test_latents.clone()
    for f in (f_train, f_test):
        f[..., [4, 6, 7]] = 1.0  # no difference between classes: effect 0
        f[..., [1, 2, 3]] = 1.0
        f[0, :, 5] = 0.1
    inputs = dataclasses.replace(monosemantic, train_latents=f_train, test_latents=f_test, W_dec=W_dec)
    draws = _draws(inputs)
    saebench, repaired = (_by_key(tpp.tpp(inputs, NS, m, draws)) for m in ("saebench", "fix_ties"))  # type: ignore[arg-type]
    assert saebench["score", 1] == repaired["score", 1] == repaired["score", 8] != saebench["score", 8]


def test_a_mode_that_draws_needs_draws(noisy) -> None:
    with pytest.raises(ValueError, match="mode fix_ties draws negatives"):
        tpp.tpp(noisy, NS, "fix_ties")


def test_strict_is_blind_to_the_order_of_rows(noisy) -> None:
    g = torch.Generator().manual_seed(3)
    train, test = (torch.randperm(n, generator=g) for n in (60, 25))
    moved = dataclasses.replace(
        noisy,
        train_latents=noisy.train_latents[:, train],
        test_latents=noisy.test_latents[:, test],
        test_hidden=noisy.test_hidden[:, test],
    )
    assert _by_key(tpp.strict(moved, NS)) == pytest.approx(_by_key(tpp.strict(noisy, NS)), abs=1e-12)
