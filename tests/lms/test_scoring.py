"""From the stand-in's activations to scores: pooling, splits, reconstruction, and the two bridges to the metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.lms import stand_in

from sae_assay.errors import AssayError
from sae_assay.lms import activations, evaluation, scoring, texts
from sae_assay.lms.tokens import Windows
from sae_assay.metrics import reconstruction
from sae_assay.metrics.latents import SparseLatents
from sae_assay.saes.encoder import LightSAE

LAYER, CONTEXT = 1, 7
METRICS = {
    "sparse_probing": {"k_probe": [1, 3]},
    "tpp": {"n": [1, 2, 50], "modes": ["saebench", "strict"]},
    "scr": {"n": [1], "modes": ["saebench", "strict"]},
    "reconstruction": {},
}


def some_windows(count: int, seed: int, shortest: int = 2) -> Windows:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, CONTEXT + 1, count)
    tokens = rng.integers(1, 40, (count, CONTEXT)) * (np.arange(CONTEXT) < lengths[:, None])
    return Windows(tokens.astype(np.int64), lengths.astype(np.int64))


def text_set(model: object, name: str, classes: int, seed: int) -> texts.TextSet:
    found = some_windows(40 * classes, seed)
    labels = torch.arange(len(found)) % classes
    # A token that gives the class away.
    found.tokens[:, 1] = 1 + labels.numpy()
    hidden, row, last = activations.residuals(model, found, LAYER, name)
    return texts.TextSet(name, [str(c) for c in range(classes)], labels, hidden.half(), row, last)


@pytest.fixture(scope="module")
def world() -> tuple[object, texts.Texts]:
    return model_and_texts()


def model_and_texts() -> tuple[object, texts.Texts]:
    model = stand_in.model()
    full = some_windows(24, 9, shortest=CONTEXT)
    passages = texts.read_passages(model, full, LAYER, limit=1e9)
    sets = [text_set(model, name, 2 + 2 * (i > 1), i) for i, name in enumerate(["1_a", "2_b", "4_d__5_e", "3_c"])]
    return model, texts.Texts(sets[:2], sets[2:3], sets[3], passages, {"context": CONTEXT})


def an_sae(exact: bool = False) -> LightSAE:
    """A random SAE, or one that reconstructs exactly: latents are the coordinates and their negatives."""
    d = stand_in.CONFIG.d_model
    generator = torch.Generator().manual_seed(4)
    W_dec = torch.cat([torch.eye(d), -torch.eye(d)])
    if not exact:
        W_dec = torch.nn.functional.normalize(torch.randn(2 * d, d, generator=generator), dim=1)
    b_enc = torch.zeros(2 * d) if exact else torch.full((2 * d,), -0.1)
    return LightSAE(
        "standard", W_dec.T.contiguous(), b_enc, W_dec, torch.zeros(d), None, {"apply_b_dec_to_input": False}, {}
    )


def test_residuals_leave_out_first_tokens_and_pads_and_keep_order() -> None:
    model, found = stand_in.model(), some_windows(9, 0, shortest=1)
    hidden, row, last = activations.residuals(model, found, LAYER, "x")
    assert len(hidden) == int((found.lengths - 1).sum())
    for i, length in enumerate(found.lengths.tolist()):
        alone = model.residual(torch.from_numpy(found.tokens[i : i + 1, :length]), LAYER)[0]
        torch.testing.assert_close(hidden[row == i], alone[1:], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(last[i], alone[-1], rtol=1e-5, atol=1e-5)


def test_activations_that_are_not_finite_are_refused() -> None:
    model = stand_in.model()
    model.blocks[0].down[0, 0] = float("nan")
    with pytest.raises(AssayError, match="not finite"):
        activations.residuals(model, some_windows(3, 0), LAYER, "training text")


def test_ablating_a_latent_everywhere_moves_the_pooled_activation_by_its_pooled_value() -> None:
    generator = torch.Generator().manual_seed(1)
    x, row = torch.randn(50, 24, generator=generator), torch.arange(50) % 8
    sae = an_sae()
    latents = sae.encode(x)
    j = int(latents.sum(0).argmax())
    ablated = x - latents[:, j, None] * sae.W_dec[j]
    wanted = activations.pooled(x, row, 8) - activations.pooled(latents, row, 8)[:, j, None] * sae.W_dec[j]
    torch.testing.assert_close(activations.pooled(ablated, row, 8), wanted)
    torch.testing.assert_close(activations.pooled(x, row, 8)[3], x[3::8].mean(0))


def test_texts_and_evaluations_survive_their_files(world: tuple[object, texts.Texts], tmp_path: Path) -> None:
    _, found = world
    found.save(tmp_path / "text.safetensors")
    again = texts.Texts.load(tmp_path / "text.safetensors")
    assert [s.name for s in again.binary] == ["1_a", "2_b"] and again.many.classes == list("0123")
    assert torch.equal(again.many.hidden, found.many.hidden) and torch.equal(
        again.passages.counts, found.passages.counts
    )
    one = evaluation.build(found, ("s", "lm", 42))
    one.save(tmp_path / "a.safetensors")
    evaluation.build(again, ("s", "lm", 42)).save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-9])
    with pytest.raises(AssayError, match="not a whole file"):
        evaluation.Evaluation.load(tmp_path / "b.safetensors")


def test_a_split_is_balanced_disjoint_and_moves_with_the_seed(world: tuple[object, texts.Texts]) -> None:
    _, found = world
    one, two = (evaluation.split(found.many, ("s", "lm", seed)) for seed in (42, 123))
    assert one.train.shape == (4, 32) and one.test.shape == (4, 8)
    for c in range(4):
        assert set(found.many.labels[one.train[c]].tolist()) == set(found.many.labels[one.test[c]].tolist()) == {c}
    assert not set(one.train.flatten().tolist()) & set(one.test.flatten().tolist())
    assert not torch.equal(one.test, two.test)


def test_scr_classes_cross_the_cells() -> None:
    neither, spurious, target, both = cells = torch.arange(24).view(4, 6)
    strict = [[set(rows.tolist()) for rows in problem] for problem in evaluation.scr_classes(cells, "strict")]

    def union(*parts: torch.Tensor) -> set[int]:
        return set(torch.cat(parts).tolist())

    assert strict[0] == [union(both, target), union(spurious, neither)]
    assert strict[1] == [union(both, spurious), union(target, neither)]
    assert strict[2] == [union(both), union(neither)]
    assert {len(rows) for problem in evaluation.scr_classes(cells, "saebench") for rows in problem} == {6}


def records_of(world: tuple[object, texts.Texts], sae: LightSAE, seed: int) -> list[dict]:
    model, found = world
    one = evaluation.build(found, ("s", "lm", seed))
    prepared = scoring.prepare(found, one, lambda residual: model.logits(residual, LAYER))
    return scoring.score(sae, scoring.encode(sae, found), found, prepared, METRICS)


def value(records: list[dict], metric: str, component: str, **key: object) -> float:
    (found,) = [
        r
        for r in records
        if (r["metric"], r["component"]) == (metric, component) and all(r[k] == v for k, v in key.items())
    ]
    return found["value"]


def test_an_exact_reconstruction_keeps_everything(world: tuple[object, texts.Texts]) -> None:
    records = records_of(world, an_sae(exact=True), 42)
    assert value(records, "reconstruction", "explained_variance") == pytest.approx(1, abs=1e-6)
    assert value(records, "reconstruction", "ce_recovered") == pytest.approx(1, abs=1e-4)
    assert value(records, "reconstruction", "kl") == pytest.approx(0, abs=1e-5)
    assert value(records, "reconstruction", "l0") == pytest.approx(stand_in.CONFIG.d_model, abs=0.5)
    assert value(records, "reconstruction", "dead_latents") <= 2
    # A token gives each class away, and single coordinates carry it.
    assert value(records, "sparse_probing", "accuracy", task="1_a", hp_value=3) > 0.6


def test_text_is_encoded_in_parts_as_it_is_at_once(
    world: tuple[object, texts.Texts], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scoring.encode(an_sae(), world[1])
    monkeypatch.setattr(LightSAE, "rows_together", 7)
    parts = scoring.encode(an_sae(), world[1])
    torch.testing.assert_close(parts.errors.squared, whole.errors.squared, rtol=1e-5, atol=1e-6)
    assert torch.equal(parts.errors.active, whole.errors.active) and len(whole.errors.active) > 7
    for name, latents in whole.pooled.items():
        torch.testing.assert_close(parts.pooled[name].dense(), latents.dense(), rtol=1e-5, atol=1e-6)


def test_every_cell_has_a_row_with_a_number_or_a_reason(world: tuple[object, texts.Texts]) -> None:
    records = records_of(world, an_sae(), 42)
    counts = {m: sum(r["metric"] == m for r in records) for m in METRICS}
    assert counts == {"sparse_probing": 2 * 2, "tpp": 3 * 3 * 2, "scr": 4 * 2, "reconstruction": 6}
    for r in records:
        assert (r["value"] is None) == (r["status"] != "ok") == (r["reason"] is not None)
    wide = [r for r in records if r["metric"] == "tpp" and r["hp_value"] == 50]
    assert {r["status"] for r in wide} == {"not_applicable"}
    assert {r["task"] for r in records if r["metric"] == "scr"} == {"4_d__5_e"}


def test_scores_repeat_at_a_seed_and_move_with_it(world: tuple[object, texts.Texts]) -> None:
    sae = an_sae()
    first, again, other = records_of(world, sae, 42), records_of(world, sae, 42), records_of(world, sae, 123)
    assert first == again
    for metric in ("sparse_probing", "tpp", "reconstruction"):
        assert [r["value"] for r in first if r["metric"] == metric] != [
            r["value"] for r in other if r["metric"] == metric
        ]


def test_the_variance_formulas() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 5.0]])
    error = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    active = torch.tensor([[True, False, False], [True, True, False], [True, True, False]])
    # Two rows of the text: the first two tokens, and the third. A row that is not sampled would have fired the last latent.
    rows = SparseLatents.of(torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    drawn = reconstruction.sample(x, torch.arange(3), torch.tensor([0, 1]))
    records = reconstruction.variance(reconstruction.TokenErrors(error, active.sum(1), rows), drawn)
    # Centred: sum of squares about (3, 3) is 4+1 + 0+1 + 4+4 = 14. SAEBench: E|x|^2 = 68/3 and d = 2.
    assert value(records, "reconstruction", "explained_variance") == pytest.approx(1 - 3 / 14)
    denominator = 68 / 3 - (68 / 6) ** 2
    assert value(records, "reconstruction", "explained_variance_saebench") == pytest.approx(1 - 1 / denominator)
    assert value(records, "reconstruction", "l0") == pytest.approx(5 / 3)
    assert value(records, "reconstruction", "dead_latents") == 1


def test_saebench_counts_masked_positions_as_zero_activations(world: tuple[object, texts.Texts]) -> None:
    _, found = world
    ratio = scoring._pad_ratio(found.many, CONTEXT)
    counted = torch.bincount(found.many.row, minlength=len(found.many.labels))
    torch.testing.assert_close(ratio * counted, (CONTEXT - counted).float())
