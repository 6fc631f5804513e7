"""Runs SAEBench's own primitives on given rows and draws. `python parity.py IN.safetensors OUT.json`.

The input holds, per task `i`: `i.train` [classes, m, d], `i.test` [classes, r, d] activations in the order of `i`'s classes,
and once `W_enc`, `b_enc`, `W_dec`, `b_dec`, `threshold` of a JumpReLU SAE; its metadata `job` is JSON: `tasks` (kind: tpp
or scr, seed), `ns`. torch's global generator is seeded with a task's seed right before its probes are trained, and
runs on through scoring. The output holds every task's scores, probes and accuracies.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import torch
from safetensors import safe_open

# Quiet, and the same arithmetic as the main environment's one-thread jobs.
os.environ.setdefault("JAXTYPING_DISABLE", "1")
torch.set_num_threads(1)

import sae_bench.sae_bench_utils.dataset_info as dataset_info  # noqa: E402
from sae_bench.evals.scr_and_tpp import main as saebench  # noqa: E402
from sae_bench.evals.sparse_probing.probe_training import train_probe_on_activations  # noqa: E402

# (data, label) by SAEBench's name; its direction 1 ablates male / female and reads professor / nurse.
SCR_NAMES = {
    "male / female": (1, 0),
    "female_data_only": (1, 1),
    "professor / nurse": (0, 0),
    "nurse_data_only": (0, 1),
    "male_professor / female_nurse": (2, 0),
    "female_nurse_data_only": (2, 1),
}
PROBES = {"select_top_k": None, "use_sklearn": False, "batch_size": 16, "epochs": 20, "lr": 1e-3}


class JumpReluSae(torch.nn.Module):
    """What the primitives ask of an SAE: encode, decode, W_dec."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
            self.register_parameter(name, torch.nn.Parameter(tensors[name], requires_grad=False))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        pre = (x - self.b_dec) @ self.W_enc + self.b_enc
        return pre * (pre > self.threshold)

    def decode(self, f: torch.Tensor) -> torch.Tensor:
        return f @ self.W_dec + self.b_dec


def score(sae: JumpReluSae, train: torch.Tensor, test: torch.Tensor, task: dict, ns: list[int]) -> dict:
    """One task from the seed on: probes, clean accuracies, effects, ablations, scores."""
    scr = task["kind"] == "scr"
    names = (
        {name: at[0] * 2 + at[1] for name, at in SCR_NAMES.items()} if scr else {f"c{i}": i for i in range(len(train))}
    )
    raw_train, raw_test = ({name: rows[i] for name, i in names.items()} for rows in (train, test))
    tokens_train, tokens_test = ({k: v[:, None] for k, v in rows.items()} for rows in (raw_train, raw_test))
    chosen = list(dataset_info.PAIRED_CLASS_KEYS) if scr else list(names)
    torch.manual_seed(task["seed"])
    probes, accuracies = train_probe_on_activations(
        raw_train, raw_test, perform_scr=scr, l1_penalty=1e-3, early_stopping_patience=20, **PROBES
    )
    torch.set_grad_enabled(False)
    clean = saebench.get_probe_test_accuracy(probes, chosen, raw_test, 500, scr)
    effects = saebench.get_all_node_effects_for_one_sae(sae, probes, chosen, scr, tokens_train, 125)
    ablated = saebench.perform_feature_ablations(probes, sae, 125, tokens_test, effects, ns, chosen, 500, scr)
    torch.set_grad_enabled(True)
    results = (
        saebench.get_scr_plotting_dict(ablated, clean) if scr else saebench.create_tpp_plotting_dict(ablated, clean)[0]
    )
    kept = [probes[name] for name in chosen]
    return {
        "results": {name: float(value) for name, value in results.items()},
        "weight": [probe.net.weight[0].tolist() for probe in kept],
        "bias": [probe.net.bias.item() for probe in kept],
        "accuracy": [float(accuracies[name]) for name in chosen],
        "clean": clean,
    }


def main(source: str, target: str) -> None:
    """Read the input, score every task, write the output."""
    with safe_open(source, framework="pt") as file:
        job = json.loads(file.metadata()["job"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    sae = JumpReluSae(tensors)
    rows = []
    with contextlib.redirect_stdout(sys.stderr):
        for i, task in enumerate(job["tasks"]):
            rows.append(score(sae, tensors[f"{i}.train"], tensors[f"{i}.test"], task, job["ns"]))
    Path(target).write_text(json.dumps({"torch": torch.__version__, "tasks": rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
