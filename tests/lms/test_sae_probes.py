"""The bridge to the real sae-probes package. The package is imported by the slow tests only."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sae_assay.errors import AssayError
from sae_assay.metrics import sae_probes

HOOK = "blocks.5.hook_resid_post"
ROWS, WIDTH = 240, 6


def planted(name: str, seed: int) -> sae_probes.ProbeSet:
    """Latent 2 tells the label, with noise; the rest tell nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(ROWS) % 2
    last = torch.rand(ROWS, WIDTH, generator=generator)
    last[:, 2] += 0.8 * labels
    return sae_probes.ProbeSet(name, labels, last)


SAE = SimpleNamespace(encode=lambda x: x, W_dec=torch.eye(WIDTH))


@pytest.mark.parametrize(
    ("labels", "last", "said"),
    [
        (torch.arange(100) % 2, torch.zeros(100, 2), "has 100 rows"),
        (torch.zeros(240, dtype=torch.long), torch.zeros(240, 2), "0 of them positive"),
        (torch.arange(240) % 2, torch.full((240, 2), float("inf")), "not finite"),
    ],
)
def test_what_the_package_would_stumble_over_is_refused(
    tmp_path: Path, labels: torch.Tensor, last: torch.Tensor, said: str
) -> None:
    with pytest.raises(AssayError, match=said):
        sae_probes.Package([sae_probes.ProbeSet("1_x", labels, last)], HOOK, tmp_path)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> sae_probes.Package:
    if "sae_probes" in sys.modules:
        pytest.skip("another test imported the package with its own data")
    return sae_probes.Package(
        [planted("1_one", 0), planted("2_two words", 1)], HOOK, tmp_path_factory.mktemp("package")
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning", "ignore:Inconsistent values:UserWarning")
def test_scores_are_the_packages_own_on_the_given_rows(package: sae_probes.Package) -> None:
    records = package.score(SAE, [1, 3, 9], seed=7)
    from sae_probes.utils_data import get_train_test_indices
    from sae_probes.utils_training import find_best_reg

    found = package.sets[0]
    train, test = get_train_test_indices(found.labels.numpy(), ROWS - 100, 99, seed=7)
    x, y = found.last[:, [2]], found.labels
    wanted = find_best_reg(x[train], y[train], x[test], y[test], penalty="l1", seed=7).metrics
    scored = {r["component"]: r for r in records if r["task"] == "1_one" and r["hp_value"] == 1}
    assert scored["auc"]["value"] == pytest.approx(wanted.test_auc) and wanted.test_auc > 0.9
    assert scored["f1"]["value"] == pytest.approx(wanted.test_f1)
    assert scored["accuracy"]["value"] == pytest.approx(wanted.test_acc)
    assert (scored["auc"]["n_train"], scored["auc"]["n_test"]) == (len(train), len(test))
    wide = [r for r in records if r["hp_value"] == 9]
    assert len(wide) == 6 and {r["status"] for r in wide} == {"not_applicable"}


@pytest.mark.slow
def test_scores_repeat_at_a_seed_and_move_with_it(package: sae_probes.Package) -> None:
    first, again, other = (package.score(SAE, [1], seed) for seed in (7, 7, 8))
    assert first == again != other
