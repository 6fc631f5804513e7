"""Real training runs on a small rank-one-per-row problem; everything here imports sae_lens (slow)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_assay.errors import AssayError
from sae_assay.saes import encoder, formats
from sae_assay.saes.settings import RunSettings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

RUN = RunSettings(
    "run", "batchtopk", 2, 0, ("t",), d_sae=16, samples=80_000, batch_size=100, lr=3e-3, dead_feature_window=20
)
ARCHS = ["batchtopk", "matryoshka", "matching_pursuit", "standard", "jumprelu"]


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    """Two of 16 directions of a 16-dimensional space, a bias, and no noise."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(16, 16, generator=generator), dim=1)
    which = torch.randint(0, 16, (3000, 2), generator=generator)
    return (4 + torch.rand(3000, 2, 1, generator=generator)).mul(directions[which]).sum(1) + 0.3


def train(rows: torch.Tensor, run: RunSettings, steps: tuple[int, ...] = ()) -> Any:
    from sae_assay.saes import train

    return train.train_run(rows, run, steps)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_run_learns_reaches_its_l0_and_is_written_with_its_card(
    arch: str, rows: torch.Tensor, tmp_path: Path
) -> None:
    from sae_lens import SAE

    from sae_assay.saes import train as module

    run = replace(RUN, arch=arch, widths=(4, 16) if arch == "matryoshka" else None)
    trained = train(rows, run, (1,))
    assert list(trained) == [1, 800]
    cards = {}
    for step, sae in trained.items():
        folder = tmp_path / str(step)
        folder.mkdir()
        module.save(sae, run, True, rows[:500], folder / formats.CONFIG, folder / formats.WEIGHTS)
        cards[step] = formats.read(folder).card
    first, last = cards[1], cards[800]
    assert last["explained_variance"] > max(0.6, first["explained_variance"])
    assert last["l0"] == pytest.approx(2, rel=0.3)
    assert (last["sae_id"], last["panel"], last["is_final"], last["tokens"]) == ("run", "panel", True, 80_000)
    assert (first["sae_id"], first["panel"], first["is_final"], first["step"]) == (
        "run.step_0000001",
        "trajectory",
        False,
        1,
    )
    assert (last["coefficient"] is not None) == (arch in ("standard", "jumprelu"))
    theirs, ours = SAE.load_from_disk(tmp_path / "800"), encoder.load(tmp_path / "800")
    assert theirs.cfg.architecture() == {"batchtopk": "jumprelu", "matryoshka": "jumprelu"}.get(arch, arch)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.decode(ours.encode(rows[:50])), theirs.decode(theirs.encode(rows[:50])), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("arch", ["batchtopk", "jumprelu"])
def test_a_run_repeats_bit_by_bit_and_its_snapshots_do_not_disturb_it(arch: str, rows: torch.Tensor) -> None:
    run = replace(RUN, arch=arch, samples=3000)
    torch.manual_seed(7)
    one = train(rows, run, (5, 10))[30]
    torch.manual_seed(8)
    other, elsewhere = train(rows, run)[30], train(rows, replace(run, id="seed_1"))[30]
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor, other.tensors[name])
    assert (one.tensors["W_enc"] != elsewhere.tensors["W_enc"]).any()


def test_a_snapshot_is_the_end_of_a_run_of_that_length_without_decay(rows: torch.Tensor) -> None:
    long, short = (replace(RUN, samples=n, decay_fraction=0.0) for n in (3000, 1000))
    snapshot, end = train(rows, long, (10,))[10], train(rows, short)[10]
    for name, tensor in snapshot.tensors.items():
        np.testing.assert_array_equal(tensor, end.tensors[name])


def test_normalisation_is_folded_into_snapshots_too(rows: torch.Tensor) -> None:
    run = replace(RUN, normalize_activations="expected_average_only_in", samples=10_000)
    trained = train(rows * 50, run, (80,))
    for sae in trained.values():
        assert sae.config["normalize_activations"] == "none"
        found = encoder.from_file(formats.SaeFile(sae.config, sae.tensors, {}), "here")
        assert encoder.measure(found, rows[:500] * 50)["explained_variance"] > 0.3


def test_bad_input_is_refused_before_training(rows: torch.Tensor) -> None:
    with pytest.raises(AssayError, match="L0 17 does not fit 16 latents"):
        train(rows, replace(RUN, target_l0=17))


def test_the_controller_begins_as_the_run_says(rows: torch.Tensor) -> None:
    run = replace(RUN, arch="jumprelu", samples=RUN.batch_size)
    began = [train(rows, replace(run, l0_control=control))[1].coefficient for control in (None, (0.05, 0.5))]
    # One step moves a logarithm by the gain times the error at most, here 0.02 times 0.5.
    assert began[1] == pytest.approx(0.05, rel=0.011) and began[0] > 0.5
