"""The paths that only a CUDA device takes, held to the CPU's and to themselves. Skipped where there is none.

uv run pytest tests/gpu -m gpu
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.sparse import csr_array
from tests.lms import stand_in
from tests.lms.test_scoring import LAYER, an_sae, model_and_texts
from tests.saes import side_by_side_run as small
from tests.saes.test_side_by_side import digests

from sae_assay import numerics
from sae_assay.lms import evaluation, scoring, shards, stream
from sae_assay.lms import model as models
from sae_assay.lms.tokens import Windows
from sae_assay.metrics.latents import SparseLatents
from sae_assay.saes import encoder
from sae_assay.saes.encoder import LightSAE
from sae_assay.saes.rows import FeatureRows
from sae_assay.saes.settings import RunSettings
from sae_assay.study.worlds import WorldConfig
from sae_assay.worlds import build

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore"),
]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sae(arch: str) -> LightSAE:
    W_dec = torch.nn.functional.normalize(normal(64, 24), dim=1)
    tied = arch == "matching_pursuit"
    return LightSAE(
        arch=arch,
        W_enc=torch.empty(0) if tied else W_dec.T.contiguous(),
        b_enc=torch.zeros(64),
        W_dec=W_dec,
        b_dec=normal(24, seed=1),
        threshold=torch.full((64,), 0.7) if arch == "jumprelu" else None,
        config={"max_iterations": 5, "k": 5},
        card={},
    )


def test_auto_is_the_gpu() -> None:
    assert numerics.begin({"device": "auto"}) == "cuda"


@pytest.mark.parametrize("arch", ["standard", "jumprelu", "topk", "matching_pursuit"])
def test_latents_are_the_cpus(arch: str) -> None:
    here, x = sae(arch), normal(2000, 24, seed=2)
    there = here.on("cuda")
    wanted, found = here.encode(x), SparseLatents.of(there.worker.encode(x.cuda()))
    assert torch.equal(found.dense(), there.encode(x))
    # A latent at its threshold, or a tie of pursuit, may fall to either side.
    assert ((found.dense() - wanted).abs().amax(1) > 1e-3).float().mean() < 0.002
    torch.testing.assert_close(there.decode(wanted), here.decode(wanted), rtol=1e-4, atol=1e-4)


def test_rows_of_a_world_are_the_cpus() -> None:
    draw = np.random.default_rng(0)
    features = csr_array(np.maximum(draw.standard_normal((300, 50)), 0).astype(np.float32))
    directions, bias = draw.standard_normal((50, 24)).astype(np.float32), np.ones(24, np.float32)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    here, there = (FeatureRows(features, directions, bias, device)[order] for device in ("cpu", "cuda"))
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)


def test_a_world_is_built_there() -> None:
    config = WorldConfig.model_validate({"num_features": 64, "hidden_dim": 16, "hierarchy": {"roots": 2}, "seed": 1})
    here, there, again = (build.arrays_of(build.build(config, "w", device)) for device in ("cpu", "cuda", "cuda"))
    for name, array in here.items():
        np.testing.assert_allclose(there[name], array, atol=1e-4, err_msg=name)
        np.testing.assert_array_equal(again[name], there[name], err_msg=name)


def test_a_language_model_is_the_cpus() -> None:
    here = stand_in.model()
    there = on_gpu(here)
    tokens = torch.tensor([[3, 17, 9, 30, 2, 39, 11]])
    residual = here.residual(tokens, 1)
    torch.testing.assert_close(there.residual(tokens, 1).cpu(), residual, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(there.logits(residual, 1).cpu(), here.logits(residual, 1), rtol=1e-3, atol=1e-3)


def test_a_stream_of_rows_stays_there(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(1, 40, (30, 8))
    text, model = Windows(drawn, np.full(30, 8)), stand_in.model()
    here, there = (stream.TokenRows(one, text, 1, 1e9) for one in (model, on_gpu(model)))
    batch = [next(stream.batches(stream.ModelBlocks(rows, [64, 64]), 32, ("t",))) for rows in (here, there)]
    assert batch[1].is_cuda
    torch.testing.assert_close(batch[1].cpu(), batch[0], rtol=1e-4, atol=1e-4)
    entries = shards.build(there, [64], "fp32", tmp_path, [])
    stored = load_file(tmp_path / entries[0]["file"])["rows"]
    torch.testing.assert_close(stored, here.take(64, stream.Position())[0], rtol=1e-4, atol=1e-4)


def test_texts_are_encoded_there() -> None:
    _, found = model_and_texts()
    here, there = (scoring.encode(one, found) for one in (an_sae(), an_sae().on("cuda")))
    torch.testing.assert_close(there.errors.squared, here.errors.squared, rtol=1e-3, atol=1e-3)
    for name, latents in here.pooled.items():
        torch.testing.assert_close(there.pooled[name].dense(), latents.dense(), rtol=1e-3, atol=1e-3)


def test_reconstructions_are_measured_there() -> None:
    model, found = model_and_texts()
    one = evaluation.build(found, ("s", "lm", 42))
    values = {}
    for lm, an in ((model, an_sae()), (on_gpu(model), an_sae().on("cuda"))):
        seed = scoring.prepare(found, one, lambda residual, lm=lm: lm.logits(residual, LAYER))
        records = scoring.score(an, scoring.encode(an, found), found, seed, {"reconstruction": {}})
        values[an is an.worker] = {r["component"]: r["value"] for r in records}
    assert seed.predictions is not None and seed.predictions.hidden.is_cuda
    assert values[False] == pytest.approx(values[True], rel=1e-3, abs=1e-3)


def test_cards_are_measured_there() -> None:
    here, x = sae("jumprelu"), normal(5000, 24, seed=3)
    wanted, found = (encoder.measure(one, x) for one in (here, here.on("cuda")))
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3) and found["l0"] > 1


def on_gpu(found: models.Llama) -> models.Llama:
    blocks = [models.Block(**{name: weight.cuda() for name, weight in vars(block).items()}) for block in found.blocks]
    return models.Llama(found.config, found.embedding.cuda(), blocks, found.norm.cuda(), found.unembedding.cuda())


def settings(name: str, autocast: bool) -> RunSettings:
    return RunSettings(**{**vars(small.settings(name)), "device": "cuda", "autocast": autocast})


def trained(folder: Path, names: list[str], autocast: bool, stop: int | None = None) -> Any:
    """A group trained on the GPU, cut off before step `stop`; goes on from a checkpoint that it finds."""
    from sae_assay.saes.side_by_side import Group, Member

    folder.mkdir(exist_ok=True)
    members = [Member(settings(name, autocast), [1, 20], name != "jumprelu") for name in names]
    group = Group(members, small.Rows().read(0)[:400], folder)
    group.resume()
    start = group.done
    batches = stream.batches(small.Rows(), small.BATCH, ("order",), start)
    cut = batches if stop is None else (batch for _, batch in zip(range(start, stop), batches, strict=False))
    try:
        group.fit(cut, 7, dict)
    except StopIteration:
        assert stop is not None
    return start


@pytest.mark.slow
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", small.WAYS)
def test_training_repeats_itself_alone_together_and_after_a_stop(name: str, autocast: bool, tmp_path: Path) -> None:
    once, again, stopped, together = (tmp_path / part for part in ("once", "again", "stopped", "together"))
    trained(once, [name], autocast)
    trained(again, [name], autocast)
    assert digests(again) == digests(once)
    trained(stopped, [name], autocast, stop=33)
    assert trained(stopped, [name], autocast) == 28
    assert digests(stopped) == digests(once)
    trained(together, list(small.WAYS), autocast)
    assert digests(once).items() <= digests(together).items()
