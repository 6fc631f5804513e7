"""Models in Hugging Face's format: random ones of a few thousand weights, stand-ins for Llama and Gemma-2."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.lms.test_registry import HUB

from sae_assay.errors import AssayError
from sae_assay.lms import hub_model, registry
from sae_assay.lms import model as models
from sae_assay.lms.tokens import windows

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]
REVISION = "0" * 40
SHARED: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def make(family: str, folder: Path) -> Any:
    """A random model and a tokenizer of words, saved as the hub serves them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers as t
        from tokenizers import Tokenizer, pre_tokenizers
        from tokenizers import models as kinds

    torch.manual_seed(0)
    if family == "llama":
        config: Any = t.LlamaConfig(**SHARED)
    else:  # soft caps small enough to matter, and a window that some layers cannot see past
        config = t.Gemma2Config(
            **SHARED, sliding_window=4, attn_logit_softcapping=0.5, final_logit_softcapping=0.5, query_pre_attn_scalar=8
        )
    config._attn_implementation = "eager"
    model = t.AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.eval().save_pretrained(folder)
    tokenizer = Tokenizer(kinds.WordLevel({"<pad>": 0, "<bos>": 1, "<eos>": 2, "a": 3, "b": 4}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def manifest(folder: Path) -> Path:
    files = {p.name: {"sha256": registry.file_digest(p), "size": p.stat().st_size} for p in sorted(folder.iterdir())}
    path = folder.parent / "model.json"
    path.write_text(json.dumps({"input": "it", "repository": "a/b", "revision": REVISION, "files": files}))
    return path


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    """transformers' own model, its folder and a manifest of it."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    own = make(request.param, folder)
    return own, folder, manifest(folder)


TOKENS = torch.randint(3, 40, (3, 9), generator=torch.Generator().manual_seed(1))


def test_residuals_are_transformers_hidden_states(saved: tuple[Any, Path, Path]) -> None:
    own, folder, path = saved
    model = hub_model.HubModelFile(path, folder).load()
    with torch.no_grad():
        hidden = own(TOKENS, output_hidden_states=True, use_cache=False).hidden_states
    for layer in range(3):  # behind the last layer transformers gives the normed state
        torch.testing.assert_close(model.residual(TOKENS, layer), hidden[layer + 1], rtol=0, atol=0)
    assert model.config.d_model == 24 and len(model.embedding) == 40


def test_the_two_halves_make_the_whole_model(saved: tuple[Any, Path, Path]) -> None:
    own, folder, path = saved
    model = hub_model.HubModelFile(path, folder).load()
    with torch.no_grad():
        whole = own(TOKENS, use_cache=False).logits
    for layer in range(4):
        torch.testing.assert_close(model.logits(model.residual(TOKENS, layer), layer), whole, rtol=0, atol=0)
    moved = model.logits(model.residual(TOKENS, 1) + 0.1, 1)
    assert (moved - whole).abs().max() > 1e-3


def test_pads_on_the_right_change_no_token_before_them(saved: tuple[Any, Path, Path]) -> None:
    _, folder, path = saved
    model = hub_model.HubModelFile(path, folder).load()
    padded = torch.cat([TOKENS, torch.zeros(3, 4, dtype=torch.int64)], 1)
    torch.testing.assert_close(model.residual(padded, 2)[:, :9], model.residual(TOKENS, 2), rtol=1e-5, atol=1e-5)


def test_files_are_held_to_the_manifest(saved: tuple[Any, Path, Path], tmp_path: Path) -> None:
    _, folder, path = saved
    found = json.loads(path.read_text())
    found["files"]["config.json"]["sha256"] = "0" * 64
    wrong = tmp_path / "model.json"
    wrong.write_text(json.dumps(found))
    with pytest.raises(AssayError, match=r"config.json: its SHA-256 is .*delete the manifest"):
        hub_model.HubModelFile(wrong, folder)
    wrong.write_text("{}")
    with pytest.raises(AssayError, match="no manifest of a model"):
        hub_model.HubModelFile(wrong, folder)
    with pytest.raises(AssayError, match="no such model file"):
        hub_model.HubModelFile(tmp_path / "none.json")


def test_a_hook_beyond_the_model_is_refused(saved: tuple[Any, Path, Path]) -> None:
    _, folder, path = saved
    file = hub_model.HubModelFile(path, folder)
    assert models.layer_of("blocks.3.hook_resid_post", file) == 3
    with pytest.raises(AssayError, match="beyond the model's 4 blocks"):
        models.layer_of("blocks.4.hook_resid_post", file)


def test_every_window_begins_with_the_models_first_token(saved: tuple[Any, Path, Path]) -> None:
    _, folder, path = saved
    tokenizer = hub_model.HubModelFile(path, folder).tokenizer()
    for keep, expected in (("beginning", [1, 3, 4]), ("end", [1, 4, 4])):
        found = windows(tokenizer, ["a b b b b", "a"], 3, keep)  # type: ignore[arg-type]
        assert found.tokens.tolist() == [expected, [1, 3, 0]]
        assert found.lengths.tolist() == [3, 2]


def test_the_manifest_is_written_from_the_pinned_files(
    saved: tuple[Any, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, path = saved
    files = sorted(p.name for p in folder.iterdir())

    def download(repository: str, name: str, revision: str) -> str:
        assert (repository, revision) == ("a/b", REVISION)
        return str(folder / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    source = HUB | {"revision": REVISION, "files": files}
    entry = {"title": "t", "used_for": "u", "source": source, "obtained": "fetched", "licence": "MIT"}
    where = tmp_path / "registry.yaml"
    where.write_text(yaml.safe_dump({"it": entry}))
    made = tmp_path / "made/model.json"
    hub_model.write_manifest("it", made, where)
    assert json.loads(made.read_text()) == json.loads(path.read_text())
    model = models.read(made)
    assert model.residual(TOKENS, 0).shape == (3, 9, 24)
