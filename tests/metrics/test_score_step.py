"""The scoring step on files: folders and evaluation sets in, score files out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.metrics.conftest import make_sae
from tests.metrics.test_world import DEFINITIONS, LIMITS, METRICS

from sae_assay.errors import AssayError
from sae_assay.evaluation import EvaluationSet
from sae_assay.saes import controls, formats
from sae_assay.steps import evaluation_set, score
from sae_assay.tables import scores

D_SAE = 24


@pytest.fixture
def job(pool, features, tmp_path) -> tuple[SimpleNamespace, SimpleNamespace, dict]:
    world = {"feature_vectors": features, "bias": features[0] * 0}
    world |= {name: np.ones(40, np.float32) for name in ("firing_probabilities", "magnitude_means", "magnitude_stds")}
    save_file(world, tmp_path / "world.safetensors")
    sets = []
    for seed in (1, 2):
        sets.append(tmp_path / f"evaluation_{seed}.safetensors")
        evaluation_set.build(pool, DEFINITIONS, LIMITS, METRICS, ("s", "hand", seed)).save(sets[-1])
    sae = make_sae(16, D_SAE)
    config = {"architecture": "standard", "d_in": 16, "d_sae": D_SAE, "dtype": "float32", "apply_b_dec_to_input": True}
    tensors = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    weights = {name: t.numpy() for name, t in tensors.items()} | {"b_enc": np.full(D_SAE, -0.3, np.float32)}
    made = {
        "standard_l0_04_seed_0": (
            config,
            weights,
            {"arch": "standard", "target_l0": 4.0, "training_seed": 0, "is_final": True},
        ),
        "oracle": (*controls.oracle(features, D_SAE), {"control": "oracle", "is_final": True}),
    }
    cards = []
    for name, (cfg, arrays, card) in made.items():
        (tmp_path / name).mkdir()
        cards.append(str(tmp_path / name / "cfg.json"))
        formats.write(cards[-1], tmp_path / name / "sae_weights.safetensors", cfg, arrays, card)
    inputs = SimpleNamespace(cards=cards, evaluations=sets, world_weights=tmp_path / "world.safetensors")
    outputs = SimpleNamespace(scores=[tmp_path / f"{name}_{seed}.parquet" for name in made for seed in (1, 2)])
    saes = [{"id": name, "panel": panel} for name, panel in zip(made, ("panel", "control"), strict=True)]
    settings = {"study": "s", "substrate": "hand", "d_sae": D_SAE, "saes": saes, "evaluation_seeds": [1, 2]}
    settings |= {"metrics": METRICS}
    return inputs, outputs, settings


def test_one_checked_file_per_sae_and_seed(job) -> None:
    inputs, outputs, settings = job
    score.run(inputs, outputs, settings)
    tables = [scores.read(path) for path in outputs.scores]
    assert [(t["sae_id"][0], t["eval_seed"][0]) for t in tables] == [
        (one["id"], seed) for one in settings["saes"] for seed in (1, 2)
    ]
    assert len({t.height for t in tables}) == 1
    trained, oracle = tables[0], tables[2]
    assert trained["arch"][0] == "standard" and trained["target_l0"][0] == 4 and trained["panel"][0] == "panel"
    assert oracle["control"][0] == "oracle" and oracle["arch"][0] == "oracle"
    mcc = [t.filter(t["component"] == "mcc")["value"][0] for t in (trained, oracle)]
    assert mcc[0] < 0.95 and mcc[1] == pytest.approx(1, abs=1e-3)
    noise = [t.filter(t["metric"] == "pure_noise")["value"][0] for t in tables]
    assert len(set(noise)) == 4


def test_scoring_twice_gives_equal_bytes(job, tmp_path) -> None:
    inputs, outputs, settings = job
    score.run(inputs, outputs, settings)
    first = [Path(p).read_bytes() for p in outputs.scores]
    score.run(inputs, outputs, settings)
    assert [Path(p).read_bytes() for p in outputs.scores] == first


def test_a_truncated_evaluation_set_is_named(job) -> None:
    inputs, outputs, settings = job
    content = inputs.evaluations[0].read_bytes()
    inputs.evaluations[0].write_bytes(content[:-100])
    with pytest.raises(AssayError, match=r"evaluation_1\.safetensors: not a whole evaluation set"):
        score.run(inputs, outputs, settings)


def test_an_sae_of_another_width_is_refused(job, features) -> None:
    inputs, outputs, settings = job
    arrays = {"feature_vectors": features[:, :8].copy(), "bias": features[0, :8] * 0}
    arrays |= {name: np.ones(40, np.float32) for name in ("firing_probabilities", "magnitude_means", "magnitude_stds")}
    save_file(arrays, inputs.world_weights)
    with pytest.raises(AssayError, match="its decoder has width 16, the world 8"):
        score.run(inputs, outputs, settings)


def test_an_sae_that_does_not_fit_the_study_is_named(job) -> None:
    inputs, outputs, settings = job
    with pytest.raises(AssayError, match=r"standard_l0_04_seed_0: it has 24 latents, .* at 32"):
        score.run(inputs, outputs, settings | {"d_sae": 32})


def test_a_set_without_rows_scores_as_one_with_them(job, features) -> None:
    inputs, outputs, settings = job
    arrays = {"feature_vectors": features, "bias": features[0] * 0}
    for path in inputs.evaluations:  # rows that the world's features make, as in the workflow
        kept = EvaluationSet.load(path)
        EvaluationSet(kept.pool.in_world(arrays, ""), kept.sample, kept.tasks, kept.purpose).save(path)
    score.run(inputs, outputs, settings)
    first = [Path(p).read_bytes() for p in outputs.scores]
    for path in inputs.evaluations:
        kept = EvaluationSet.load(path)
        EvaluationSet(kept.pool.without_rows(), kept.sample, kept.tasks, kept.purpose).save(path)
        with pytest.raises(AssayError, match="holds features alone"):
            EvaluationSet.load(path)
    score.run(inputs, outputs, settings)
    assert [Path(p).read_bytes() for p in outputs.scores] == first
