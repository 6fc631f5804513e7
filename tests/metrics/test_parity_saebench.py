"""TPP and SCR against SAEBench's own primitives (sae-bench 0.6.0, envs/saebench) on the same rows and draws."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import torch
from safetensors.torch import save_file
from tests.saebench.environment import ENV, INSTALLED, PYTHON

from sae_assay.metrics import probes, scr, tpp

pytestmark = [
    pytest.mark.saebench,
    INSTALLED,
]
NS = [1, 2, 5, 10, 20, 50, 100]
D, D_SAE = 24, 100
TPP_SHAPES = [(4, 40, 13), (3, 61, 16), (5, 33, 20), (2, 50, 12), (4, 120, 31)]
SCR_SHAPES = [(52, 14), (81, 21), (140, 35)]


@pytest.fixture(scope="module")
def job() -> tuple[dict[str, torch.Tensor], list[dict]]:
    """A JumpReLU SAE, and tasks whose classes overlap so that every accuracy is between chance and one."""
    g = torch.Generator().manual_seed(11)
    W_dec = torch.nn.functional.normalize(torch.randn(D_SAE, D, generator=g), dim=1)
    tensors = {
        "W_dec": W_dec,
        "W_enc": (W_dec.T + 0.2 * torch.randn(D, D_SAE, generator=g)).contiguous(),
        "b_enc": 0.1 * torch.randn(D_SAE, generator=g),
        "b_dec": 0.2 * torch.randn(D, generator=g),
        "threshold": torch.rand(D_SAE, generator=g) + 0.3,
    }
    tasks: list[dict] = []

    def add(kind: str, centres: torch.Tensor, m: int, r: int, sometimes: torch.Tensor | None = None) -> None:
        for side, rows in (("train", m), ("test", r)):
            x = centres[:, None] + 1.3 * torch.randn(len(centres), rows, D, generator=g)
            if sometimes is not None:
                x = x + (torch.rand(len(centres), rows, 1, generator=g) < 0.5) * sometimes[:, None]
            tensors[f"{len(tasks)}.{side}"] = x
        tasks.append({"kind": kind, "seed": 100 + len(tasks)})

    for classes, m, r in TPP_SHAPES:
        add("tpp", 1.2 * torch.randn(classes, D, generator=g), m, r)
    for m, r in SCR_SHAPES:
        t, s = 0.8 * torch.randn(D, generator=g), 1.1 * torch.randn(D, generator=g)
        none = torch.zeros(D)
        # Target 1, 0; spurious 1, 0; biased: both, neither. Half of the first four have the other concept too.
        add("scr", torch.stack([t, none, s, none, t + s, none]), m, r, torch.stack([s, s, t, t, none, none]))
    return tensors, tasks


@pytest.fixture(scope="module")
def theirs(job, tmp_path_factory) -> list[dict]:
    tensors, tasks = job
    folder = tmp_path_factory.mktemp("parity")
    save_file(tensors, folder / "in.safetensors", {"job": json.dumps({"tasks": tasks, "ns": NS})})
    command = [PYTHON, ENV / "parity.py", folder / "in.safetensors", folder / "out.json"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return json.loads((folder / "out.json").read_text())["tasks"]


def _latents(tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    pre = (x - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
    return pre * (pre > tensors["threshold"])


def _trained(
    train: torch.Tensor, test: torch.Tensor, pairs: list[tuple[int, ...]], g: torch.Generator
) -> probes.Probes:
    """All probes of a task, drawn in SAEBench's order; `pairs` of classes for SCR, else one probe per class."""
    x = torch.cat([train.flatten(0, 1), test.flatten(0, 1)])
    rows = torch.arange(len(train) * train.shape[1]).view(len(train), -1)
    held = len(rows) * train.shape[1] + torch.arange(len(test) * test.shape[1]).view(len(test), -1)
    if pairs:
        plans = [probes.plan(rows[list(p)], held[list(p)], 0, D, g, paired=True) for p in pairs]
    else:
        plans = [probes.plan(list(rows), list(held), c, D, g) for c in range(len(train))]
    return probes.train(x, plans)


def _exactly(theirs: dict) -> probes.Probes:
    weight, bias = torch.tensor(theirs["weight"]), torch.tensor(theirs["bias"])
    return probes.Probes(weight, bias, torch.zeros(len(bias), dtype=torch.long), torch.zeros(len(bias)))


@pytest.mark.parametrize("i", range(len(TPP_SHAPES)))
def test_tpp_is_equal_at_every_n(job, theirs, i: int) -> None:
    tensors, tasks = job
    train, test, g = tensors[f"{i}.train"], tensors[f"{i}.test"], torch.Generator().manual_seed(tasks[i]["seed"])
    trained = _trained(train, test, [], g)
    assert torch.allclose(trained.weight, torch.tensor(theirs[i]["weight"]), rtol=0, atol=1e-5)
    assert trained.accuracy.tolist() == theirs[i]["accuracy"]
    for used in (trained, _exactly(theirs[i])):
        inputs = tpp.TppInput(
            "t", None, _latents(tensors, train), _latents(tensors, test), test, tensors["W_dec"], used
        )
        draws = tpp.draw(len(train), train.shape[1], test.shape[1], len(NS), g.clone_state())
        found = {(r["component"], r["hp_value"]): r["value"] for r in tpp.saebench(inputs, draws, NS)}
        names = {"score": "total_metric", "intended": "intended_diff_only", "unintended": "unintended_diff_only"}
        wanted = {(c, n): theirs[i]["results"][f"tpp_threshold_{n}_{names[c]}"] for c in names for n in NS}
        assert found == wanted
        assert len(set(found.values())) > 5


@pytest.mark.parametrize("i", range(len(TPP_SHAPES), len(TPP_SHAPES) + len(SCR_SHAPES)))
def test_scr_is_equal_at_every_n(job, theirs, i: int) -> None:
    tensors, tasks = job
    train, test, g = tensors[f"{i}.train"], tensors[f"{i}.test"], torch.Generator().manual_seed(tasks[i]["seed"])
    trained = _trained(train, test, [(2, 3), (3, 2), (0, 1), (1, 0), (4, 5), (5, 4)], g).take([0, 2, 4])
    assert torch.allclose(trained.weight, torch.tensor(theirs[i]["weight"]), rtol=0, atol=1e-5)
    assert trained.accuracy.tolist() == theirs[i]["accuracy"]
    shaped = [rows[:4].unflatten(0, (2, 2)) for rows in (_latents(tensors, train), _latents(tensors, test), test)]
    for used in (trained, _exactly(theirs[i])):
        # SAEBench's order of probes is spurious, target, biased.
        inputs = scr.ScrInput("s", None, *shaped, tensors["W_dec"], used.take([1, 0, 2]))
        found = {(r["component"], r["hp_value"]): r["value"] for r in scr.scr(inputs, NS, "saebench")}
        results, wanted = theirs[i]["results"], {}
        for n in NS:
            wanted[("compatible", n)] = results.get(f"scr_metric_threshold_{n}")
            for k in (1, 2):
                value = results[f"scr_dir{k}_threshold_{n}"]
                assert found[(f"direction_{k}", n)] in (value, None)
                assert found[(f"direction_{k}", n)] is not None or value == 0
        assert {key: found[key] for key in wanted} == wanted
        assert len(set(found.values())) > 5
