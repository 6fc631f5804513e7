"""What does not fit is said by the environment's own code, in one process for all jobs: an error, or rows with a status."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.saebench.environment import ENV, INSTALLED, PYTHON

from sae_assay.saes import formats

pytestmark = [
    pytest.mark.slow,
    pytest.mark.saebench,
    INSTALLED,
]
D, D_SAE, HOOK = 6, 8, "blocks.1.hook_resid_post"


def save_sae(folder: Path, hook: str | None = None) -> str:
    folder.mkdir()
    rng = np.random.default_rng(0)
    config = {
        "architecture": "jumprelu",
        "d_in": D,
        "d_sae": D_SAE,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {} if hook is None else {"hook_name": hook},
    }
    tensors = {
        "W_enc": rng.normal(size=(D, D_SAE)),
        "W_dec": rng.normal(size=(D_SAE, D)),
        "b_enc": np.zeros(D_SAE),
        "b_dec": np.zeros(D),
        "threshold": np.full(D_SAE, 0.1),
    }
    single = {name: array.astype(np.float32) for name, array in tensors.items()}
    formats.write(folder / "cfg.json", folder / "sae_weights.safetensors", config, single, {})
    return str(folder)


def save_set(path: Path, classes: int, rows: int, *, crossed: bool = False) -> dict[str, str]:
    labels = [c for c in range(classes) for _ in range(rows)]
    part: dict[str, list[Any]] = {"text": [f"text {i}" for i in range(len(labels))], "label": labels}
    if crossed:
        part |= {"target": [c // 2 for c in labels], "spurious": [c % 2 for c in labels]}
    named: Any = [["a", "b"], ["x", "y"]] if crossed else [str(c) for c in range(classes)]
    path.write_text(json.dumps({"classes": named, "train": part, "test": part}), encoding="utf-8")
    return {path.stem: str(path)}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("environment")
    sae, elsewhere = save_sae(folder / "sae"), save_sae(folder / "elsewhere", "blocks.7.hook_resid_post")
    news, one_class = save_set(folder / "news.json", 3, 10), save_set(folder / "flat.json", 1, 40)
    pairs = save_set(folder / "pairs.json", 4, 10, crossed=True)
    common = {
        "metric": "saebench_tpp",
        "model": {"kind": "gguf", "path": "none", "name": "none"},
        "hook": HOOK,
        "layer": 1,
        "d_model": D,
        "sae": sae,
        "seed": 3,
        "mode": "library",
        "cache": str(folder / "cache"),
        "data": {"sets": news},
        "device": "cpu",
    }

    def sized(names: list[str], train: int, test: int, **more: Any) -> dict[str, Any]:
        return {"dataset_names": names, "train_set_size": train, "test_set_size": test, "llm_batch_size": 2, **more}

    jobs = {
        "width": {"d_model": D + 1, "config": sized(["news"], 8, 4, n_values=[2])},
        "hook": {"sae": elsewhere, "config": sized(["news"], 8, 4, n_values=[2])},
        "one_class": {"data": {"sets": one_class}, "config": sized(["flat"], 8, 4, n_values=[2])},
        "few_rows": {"config": sized(["news"], 40, 4, n_values=[2, 5])},
        "few_pairs": {
            "metric": "saebench_scr",
            "data": {"sets": pairs},
            "config": sized(["pairs"], 20, 20, n_values=[2]),
        },
        "too_wide": {"config": sized(["news"], 8, 4, n_values=[9])},
    }
    for name, job in jobs.items():
        content = json.dumps({**common, **job, "out": str(folder / f"{name}.out")})
        (folder / f"{name}.job").write_text(content, encoding="utf-8")
    files = [str(folder / f"{name}.job") for name in jobs]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([PYTHON, ENV / "run.py", *files], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: json.loads((folder / f"{name}.out").read_text(encoding="utf-8")) for name in jobs}


def test_an_sae_of_another_width_or_hook_is_an_error(answers: dict[str, dict[str, Any]]) -> None:
    assert "reads 6 dimensions, the model's residual stream has 7" in answers["width"]["error"]["problem"]
    assert "was trained at blocks.7.hook_resid_post" in answers["hook"]["error"]["problem"]


def test_a_set_of_one_class_is_an_error(answers: dict[str, dict[str, Any]]) -> None:
    assert answers["one_class"]["error"]["where"] == "flat"
    assert "1 class(es)" in answers["one_class"]["error"]["problem"]


def test_too_few_rows_are_rows_that_say_so(answers: dict[str, dict[str, Any]]) -> None:
    rows = answers["few_rows"]["rows"]
    assert {(r["component"], r["hp_value"]) for r in rows} == {
        (part, n) for part in ("score", "intended", "unintended") for n in (2, 5)
    }
    assert {(r["value"], r["status"], r["task"]) for r in rows} == {(None, "too_few_rows", "news")}
    assert "20 rows of each class are drawn to train, the smallest class has 10" in rows[0]["reason"]
    # A quarter of 20 rows a cell, and twice that and one more where both concepts agree.
    assert "11 rows with target = 0, spurious = 0" in answers["few_pairs"]["rows"][0]["reason"]


def test_more_latents_than_the_sae_has_are_not_applicable(answers: dict[str, dict[str, Any]]) -> None:
    rows = answers["too_wide"]["rows"]
    assert len(rows) == 3 and {r["status"] for r in rows} == {"not_applicable"}
    assert rows[0]["reason"] == "9 latents are ablated, the SAE has 8"
    assert answers["too_wide"]["versions"]["sae-bench"] == "0.6.0"
