"""Stand-ins for what RAVEL and AutoInterp need and a test cannot have: never a result.

A Llama of a few thousand weights that was taught 24 cities, RAVEL's files about them, an SAE that loses nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.saebench.environment import ENV, PYTHON

from sae_assay.saes import formats

D, LAYERS = 32, 2
COUNTRIES = {
    "France": "Europe",
    "Spain": "Europe",
    "Japan": "Asia",
    "India": "Asia",
    "Kenya": "Africa",
    "Egypt": "Africa",
}
CITIES = {f"city{letter}": list(COUNTRIES)[i % 6] for i, letter in enumerate("abcdefghijklmnopqrstuvwx")}
TEMPLATES = {
    "Country": ["the country of %s is", "%s lies in the country"],
    "Continent": ["the continent of %s is", "%s lies on the continent"],
}


def label(city: str, attribute: str) -> str:
    country = CITIES[city]
    return country if attribute == "Country" else COUNTRIES[country]


def write_ravel(folder: Path) -> None:
    """RAVEL's four files of the entity class `city`."""
    folder.mkdir(parents=True)
    files = {
        "attribute_to_prompts": TEMPLATES,
        "prompt_to_split": {t: "train" for ts in TEMPLATES.values() for t in ts},
        "entity_attributes": {city: {a: label(city, a) for a in TEMPLATES} for city in CITIES},
        "entity_to_split": dict.fromkeys(CITIES, "train"),
    }
    for name, content in files.items():
        (folder / f"ravel_city_{name}.json").write_text(json.dumps(content))


def tokenizer(begins: bool = True) -> Any:
    """A token a word; BOS first, as Llama's, unless `begins` is false."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [w for ts in TEMPLATES.values() for t in ts for w in t.split() if w != "%s"]
    known = ["<s>", "</s>", "<pad>", "<unk>", ".", *CITIES, *COUNTRIES, *COUNTRIES.values(), *words]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(known))}
    found = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if begins:
        found.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=found, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def write_llama(folder: Path, steps: int = 250, begins: bool = True) -> None:
    """A Llama in HF format that completes the prompts rightly, and its tokenizer.

    Its first block has no attention: what it knows of a city stays at the city's token until the second block.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(begins)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=D,
        intermediate_size=2 * D,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    silent = model.model.layers[0].self_attn.o_proj.weight
    silent.data.zero_()
    silent.requires_grad_(False)
    _teach(model, words, steps)
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def _teach(model: Any, words: Any, steps: int) -> None:
    texts = [f"{t % city} {label(city, a)} . . . . ." for city in CITIES for a, ts in TEMPLATES.items() for t in ts]
    ids = words(texts, return_tensors="pt", padding=True)
    labels = ids["input_ids"].masked_fill(ids["attention_mask"] == 0, -100)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**ids, labels=labels).loss.backward()
        optimizer.step()


def write_sae(folder: Path) -> None:
    """A ReLU SAE with a latent for either sign of every dimension: it decodes what it encodes, exactly."""
    folder.mkdir(parents=True)
    eye = np.eye(D, dtype=np.float32)
    tensors = {
        "W_enc": np.concatenate([eye, -eye], 1),
        "W_dec": np.concatenate([eye, -eye], 0),
        "b_enc": np.zeros(2 * D, np.float32),
        "b_dec": np.zeros(D, np.float32),
    }
    config = {"architecture": "standard", "d_in": D, "d_sae": 2 * D, "apply_b_dec_to_input": True}
    config |= {"normalize_activations": "none", "reshape_activations": "none", "metadata": {}}
    formats.write(folder / formats.CONFIG, folder / formats.WEIGHTS, config, tensors, {})


def run_all(jobs: dict[str, dict[str, Any]], folder: Path, **environment: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """`run.py` on jobs, in one process of SAEBench's locked environment; gives each answer as soon as it is there.

    What it printed is then in the folder's file `said`.
    """
    files = {name: folder / f"{name}.job.json" for name in jobs}
    for name, path in files.items():
        path.write_text(json.dumps(jobs[name] | {"out": str(folder / f"{name}.out.json")}))
    clean = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [PYTHON, ENV / "run.py", *files.values()],
            stdout=said,
            stderr=said,
            env={**clean, "OMP_NUM_THREADS": "1", "NO_PROXY": "*", "HF_HUB_OFFLINE": "1", **environment},
        )
    for name in jobs:
        out = folder / f"{name}.out.json"
        while not out.exists() and process.poll() is None:
            time.sleep(0.01)
        assert out.exists(), (folder / "said").read_text()[-4000:]
        yield name, json.loads(out.read_text())
    assert process.wait() == 0, (folder / "said").read_text()[-4000:]


def write_text(path: Path, seed: int = 0) -> None:
    """1,000 texts of the model's own words, of more than 100 characters each and less than 5 a word."""
    rng = np.random.default_rng(seed)
    short = ["the", "of", "is", "in", "on"]
    words = [*short, *CITIES, *COUNTRIES]
    odds = [0.7 / len(short) if word in short else 0.3 / (len(words) - len(short)) for word in words]
    path.write_text(json.dumps([" ".join(rng.choice(words, 40, p=odds)) for _ in range(1000)]))


def write_random(folder: Path, family: str, **config: Any) -> None:
    """A random model of another family (`GPTNeoX`, `Gemma2`), which knows no city."""
    import transformers

    words = tokenizer()
    sizes = {"hidden_size": D, "intermediate_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    tokens = {"vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    made = getattr(transformers, f"{family}Config")(**sizes, **tokens, **config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, f"{family}ForCausalLM")(made).save_pretrained(folder)
    words.save_pretrained(folder)
