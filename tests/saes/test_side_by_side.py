"""Groups of SAEs on one stream: alone or together, killed or not, the same bytes. Everything here imports sae_lens (slow)."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.project import ROOT
from tests.saes import side_by_side_run as small

from sae_assay import scratch
from sae_assay.saes import encoder, formats, recalibration
from sae_assay.saes.settings import drawn_widths

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SCRIPT = ROOT / "tests/saes/side_by_side_run.py"


def start(folder: Path, names: str, pause: float = 0) -> multiprocessing.process.BaseProcess:
    """A process forked from a server that paid for the import of sae_lens, in the environment of `in_a_fresh_process`.

    Not forked from this one: importing sae_assay.cli in an earlier test changes the environment, and with it the arithmetic of
    processes that start afterwards.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sae_assay.saes.side_by_side"])
    folder.mkdir(exist_ok=True)
    process = context.Process(target=small.main, args=(str(folder), names, pause))
    process.start()
    return process


def finish(process: multiprocessing.process.BaseProcess) -> None:
    process.join()
    assert process.exitcode == 0


def in_a_fresh_process(folder: Path, names: str) -> int:
    """Go on in another interpreter; the step from which it went on."""
    variables = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(folder), names]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[1])


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in (folder / "saes").rglob("*") if path.is_file()]
    return {path.relative_to(folder / "saes").as_posix(): scratch.digest(path) for path in files}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four SAEs side by side, in one process that nobody disturbed."""
    folder = tmp_path_factory.mktemp("together")
    finish(start(folder, ",".join(small.WAYS)))
    return folder


def test_an_sae_trained_in_a_group_has_the_bytes_that_it_has_alone(together: Path, tmp_path: Path) -> None:
    expected = digests(together)
    assert len(expected) == 2 * (3 * 2 * 3 + 3)  # three runs in two forms at three steps, and one run in one form
    for name in ("sampled", "jumprelu"):
        folder = tmp_path / name
        finish(start(folder, name))
        found = digests(folder)
        assert found and found == {path: sha for path, sha in expected.items() if path.startswith(name)}


def test_a_killed_run_goes_on_from_its_last_checkpoint_and_gives_the_same_bytes(together: Path, tmp_path: Path) -> None:
    """Killed twice with -9, at moments that are really random: equal bytes must not depend on them."""
    folder, names, saved = tmp_path / "killed", ",".join(small.WAYS), [0]
    for _ in range(2):
        process = start(folder, names, pause=0.1)
        while process.is_alive() and checkpoint(folder) == saved[-1]:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.9))
        assert process.is_alive(), "it ended before it could be killed"
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        saved.append(checkpoint(folder))
    assert saved == sorted(set(saved)) and all(step % 7 == 0 for step in saved)
    assert in_a_fresh_process(folder, names) == saved[-1] < small.STEPS
    assert digests(folder) == digests(together)
    assert len(list(folder.glob("checkpoint_*"))) == 1


def checkpoint(folder: Path) -> int:
    """The step of the last whole checkpoint."""
    return max((int(path.name.split("_")[1]) for path in folder.glob("checkpoint_*")), default=0)


def test_snapshots_have_their_true_l0_and_the_recalibrated_form_the_nominal_one(together: Path) -> None:
    first, again = (
        formats.read(together / "saes" / name) for name in ("sampled.step_0000001", "sampled.recalibrated.step_0000001")
    )
    rows = small.Rows().read(0)[:400]
    for file, held_out in ((first, rows), (again, rows[200:])):
        found = encoder.from_file(file, "here").encode(held_out)
        assert file.card["l0"] == pytest.approx(float((found != 0).sum(1).float().mean()))
        assert file.config["metadata"]["hook_name"] == "here"
    assert first.card["l0"] > 8 and again.card["l0"] == pytest.approx(2, abs=0.3)  # the nominal L0 is 2
    assert [first.card[name] for name in ("variant", "panel", "tokens", "step")] == ["n2", "trajectory", 64, 1]
    assert [again.card[name] for name in ("variant", "panel", "tokens", "step")] == [
        "n2.recalibrated",
        "trajectory",
        64,
        1,
    ]
    assert (again.card["sae_id"], again.card["base_sae_id"]) == (
        "sampled.recalibrated.step_0000001",
        "sampled.step_0000001",
    )
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        np.testing.assert_array_equal(first.tensors[name], again.tensors[name])
    final = formats.read(together / "saes/sampled.recalibrated").card
    assert (final["panel"], final["is_final"]) == ("trajectory", True)
    assert final["explained_variance"] > again.card["explained_variance"]


def test_sampled_widths_follow_their_law() -> None:
    run = small.settings("sampled")
    from dataclasses import replace

    run = replace(run, prefixes=1, smallest_prefix=64, d_sae=4096)
    drawn = [drawn_widths(run, step) for step in range(4000)]
    assert all(len(widths) == 2 and 64 <= widths[0] < 4096 == widths[1] for widths in drawn)
    below = np.mean([widths[0] < 512 for widths in drawn])  # half of the range on a logarithmic scale
    assert below == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 4000))
    assert drawn[:5] == [drawn_widths(run, step) for step in range(5)] and drawn[0] != drawn[1]
    few = replace(run, prefixes=4, smallest_prefix=5, d_sae=8)
    assert Counter(map(tuple, (drawn_widths(few, step) for step in range(300)))).keys() >= {(5, 6, 7, 8), (5, 6, 8)}


def test_sampled_matryoshka_is_the_librarys_loss_at_the_drawn_widths() -> None:
    from sae_lens import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    from sae_assay.saes import train

    run = small.settings("sampled")
    ours, rows = train.initialised(run, small.D_IN), small.Rows().read(0)[:32]
    for step in (3, 4):
        widths = drawn_widths(run, step)
        config = MatryoshkaBatchTopKTrainingSAEConfig(
            d_in=small.D_IN, d_sae=24, k=2, matryoshka_widths=widths, use_matryoshka_aux_loss=True
        )
        theirs = MatryoshkaBatchTopKTrainingSAE(config)
        theirs.load_state_dict(ours.state_dict())
        given = TrainStepInput(rows, {}, torch.arange(24) % 2 == 0, step, False)
        found, expected = (sae.training_forward_pass(given) for sae in (ours, theirs))
        assert found.losses.keys() == expected.losses.keys() >= {f"inner_mse_loss_{w}" for w in widths[:-1]}
        assert float(expected.losses["auxiliary_reconstruction_loss"]) > 0
        assert float(found.loss) == float(expected.loss)


def test_the_recalibrated_threshold_leaves_exactly_the_nominal_number() -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "W_enc": rng.standard_normal((6, 12)),
        "b_enc": rng.standard_normal(12) * 0.1,
        "b_dec": rng.standard_normal(6),
    }
    tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
    rows = torch.from_numpy(rng.standard_normal((500, 6)).astype(np.float32))
    latents = (rows.numpy() - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
    for k in (1, 3, 2.5):
        found = recalibration.threshold(tensors, rows, k, chunk=64)
        assert (latents > found).sum() == pytest.approx(k * 500, abs=1)
    assert recalibration.threshold(tensors, rows, 12) == 0  # no latent may be negative
