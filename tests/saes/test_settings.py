from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sae_assay.errors import AssayError
from sae_assay.saes.settings import L0Controller, RunSettings, batches

RUN = RunSettings("run", "batchtopk", 2, 0, ("t",), d_sae=8, samples=40, batch_size=4, lr=1e-3)
ROWS = torch.arange(20.0).reshape(10, 2)


def test_settings_of_a_study() -> None:
    run = {"id": "a", "arch": "matryoshka", "l0": 3, "training_seed": 1, "lr": 0.01, "widths": [2, 8]}
    training = {"samples": 100, "batch_size": 10, "dead_feature_window": 5, "decay_fraction": 0.5}
    found = RunSettings.of(run, training, 8, ("s", "w"), device="cpu")
    assert (found.target_l0, found.steps, found.lr, found.widths, found.decay_fraction) == (3, 10, 0.01, (2, 8), 0.5)


def test_a_study_may_say_how_the_controller_of_an_architecture_begins() -> None:
    run = {"id": "a", "arch": "jumprelu", "l0": 3, "training_seed": 1, "lr": 0.01}
    training = {"samples": 100, "batch_size": 10, "dead_feature_window": 5, "decay_fraction": 0.5}
    training["l0_control"] = {"jumprelu": {"start": 0.05, "clip": 0.5}}
    assert RunSettings.of(run, training, 8, ("s", "w")).l0_control == (0.05, 0.5)
    assert RunSettings.of(run | {"arch": "standard"}, training, 8, ("s", "w")).l0_control is None


def test_every_pass_sees_every_row_once_but_for_the_last_incomplete_batch() -> None:
    stream = batches(ROWS, RUN)
    first, second = ([next(stream) for _ in range(2)] for _ in range(2))
    for one in (first, second):
        seen = torch.cat(one)[:, 0].tolist()
        assert len(set(seen)) == 8
        assert set(seen) <= set(ROWS[:, 0].tolist())
    assert torch.cat(first).tolist() != torch.cat(second).tolist()


def test_order_depends_on_the_run_alone() -> None:
    one, other = batches(ROWS, RUN), batches(ROWS, RUN)
    torch.manual_seed(1)
    assert torch.equal(next(one), next(other))
    assert not torch.equal(next(batches(ROWS, RUN)), next(batches(ROWS, replace(RUN, id="another"))))


@pytest.mark.parametrize(
    ("change", "rows", "steps", "message"),
    [
        ({"arch": "gated"}, ROWS, [], "unknown architecture gated"),
        ({"target_l0": 9}, ROWS, [], "L0 9 does not fit 8 latents"),
        ({"target_l0": 0}, ROWS, [], "L0 0 does not fit"),
        ({"widths": (2, 4)}, ROWS, [], "widths .2, 4. do not fit"),
        ({"widths": (4, 2, 8)}, ROWS, [], "widths .4, 2, 8. do not fit"),
        ({"batch_size": 11}, ROWS, [], "hold no batch of 11"),
        ({"samples": 3}, ROWS, [], "no step"),
        ({}, ROWS / 0, [], "10 of 10 training rows are not finite"),
        ({}, ROWS, [0, 11], r"snapshots \[0, 11\] lie outside 1 .. 10"),
    ],
)
def test_what_cannot_be_trained_is_refused(change: dict, rows: torch.Tensor, steps: list[int], message: str) -> None:
    with pytest.raises(AssayError, match=message) as caught:
        replace(RUN, **change).check(rows, steps)
    assert caught.value.where == "run"


def test_the_controller_finds_the_coefficient_of_a_known_law() -> None:
    """L0 = 20 / coefficient: the target 4 belongs to the coefficient 5."""
    controller = L0Controller(target=4, start=1, gain=0.05, smoothing=0.2)
    for _ in range(400):
        controller.observe(20 / controller.value)
        controller.step()
    assert controller.value == pytest.approx(5, rel=1e-3)
    assert controller.state_dict()["mean_l0"] == pytest.approx(4, rel=1e-3)


def test_the_controller_survives_a_silent_sae() -> None:
    controller = L0Controller(target=4, start=1, gain=0.5, smoothing=1)
    for _ in range(100):
        controller.observe(0)
    assert controller.value == controller.limits[0]
