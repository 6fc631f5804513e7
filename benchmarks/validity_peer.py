"""The reference's side of `benchmarks/validity.py`, run with envs/saebench's Python and the reference on PYTHONPATH.

    python benchmarks/validity_peer.py data CACHE
    python benchmarks/validity_peer.py score CACHE ARCH

The reference runs as it is: `generate` makes its pool and tasks, `run_one_sae` scores. Three things are put around it:
its download of the world becomes a load of the same files, timers stand around the functions that `run_one_sae` calls,
and each TPP and SCR task's state of torch's global generator is noted before the task takes its draws,
as are its probing splits, the order in which it ranks latents and the C that it chooses. Its second probing mode
(`sae_probes`) is called right before the first on the same rows, timed apart; so are fits run to their optimum, for the
comparison alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)

from sae_lens import SAE  # noqa: E402
from sae_lens.synthetic import SyntheticModel  # noqa: E402
from saebench_audit.runners.eval import _try_fold_W_dec_norm  # noqa: E402
from saebench_audit.synthetic import data_gen, eval_sae_probes, run_eval  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score  # noqa: E402

SEED = 1234  # the reference's default
REPO = "world"
KS = [1, 2, 4, 8, 16, 32, 64]
NS = [1, 2, 5, 10, 20, 50, 100, 500]


class Stages:
    """CPU seconds (user and system, this process) of each stage; what runs between stages is `rest`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **options)
            finally:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - start

        return run


def data(cache: Path) -> dict[str, Any]:
    """The reference's pool, labels and tasks of one seed, in CACHE/data; its seconds are kept beside them."""
    start = time.process_time()
    data_gen.generate(REPO, None, SEED, cache / "data", device="cpu")
    found = {"data_generation": time.process_time() - start, "peak_mib": _peak()}
    (cache / "data_seconds.json").write_text(json.dumps(found))
    return found


def converged(
    acts: torch.Tensor, labels: torch.Tensor, train: torch.Tensor, test: torch.Tensor, ranking: Any, Cs: list[float]
) -> dict[str, dict[int, dict[str, float]]]:
    """Both modes' last fits on the reference's rows, latents and C, but run to their optimum: scikit-learn's default
    solver, which the reference uses, stops at a gradient of 1e-4, where a row or several may lie on the other side."""
    y, truth = labels[train].numpy(), labels[test].numpy()
    x, held = (acts[rows][:, torch.from_numpy(ranking)].double().numpy() for rows in (train, test))
    found: dict[str, dict[int, dict[str, float]]] = {"sparse_probing": {}, "sae_probes": {}}
    for k, C in zip(KS, Cs, strict=True):
        for mode, strength in (("sparse_probing", 1.0), ("sae_probes", C)):
            model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-10, max_iter=1000)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(x[:, :k], y)
            said = model.predict(held[:, :k])
            found[mode][k] = {
                "test_acc": accuracy_score(truth, said),
                "test_f1": f1_score(truth, said, average="weighted"),
                "test_auc": roc_auc_score(truth, model.predict_proba(held[:, :k])[:, 1]),
            }
    return found


def score(cache: Path, arch: str) -> dict[str, Any]:
    """One SAE, all metrics: CACHE/peer/ARCH.json (the reference's own record), .npz (states) and .seconds.json (per stage)."""
    stages, states = Stages(), {}
    more: list[Any] = []  # of the second probing mode, per task
    optima: list[Any] = []  # of `converged`, per task
    sae = SAE.load_from_disk(str(cache / "saes" / arch), device="cpu")
    _try_fold_W_dec_norm(sae)
    for stage, name in (
        ("ground_truth", "compute_ground_truth"),
        ("pool_encode", "encode_in_chunks"),
        ("sparse_probing", "balanced_split"),
    ):
        setattr(run_eval, name, stages.timed(stage, getattr(run_eval, name)))
    fit = run_eval.run_sae_probes_for_task
    first, second = stages.timed("sparse_probing", fit), stages.timed("sae_probes", fit)

    optimum = stages.timed("converged", converged)

    def both_modes(*args: Any, **options: Any) -> Any:
        more.append(second(*args, **{**options, "mode": "sae_probes"}))
        found = first(*args, **options)
        optima.append(optimum(*args[:4], ranked[-1], tuned[-len(KS) :]))
        return found

    ranked, tuned = [], []
    rank, tune = eval_sae_probes.get_sorted_indices, eval_sae_probes.find_best_reg

    def noted_rank(*args: Any) -> Any:
        found = rank(*args)
        ranked.append(found[: max(KS)].numpy())
        return found

    def noted_tune(*args: Any, **options: Any) -> Any:
        found = tune(*args, **options)
        tuned.append(found.classifier.C)
        return found

    eval_sae_probes.get_sorted_indices, eval_sae_probes.find_best_reg = noted_rank, noted_tune
    split = run_eval.balanced_split

    def noted_split(*args: Any, seed: int) -> Any:
        found = split(*args, seed=seed)
        states[f"train.{seed:03d}"], states[f"test.{seed:03d}"] = (rows.numpy() for rows in found)
        return found

    def noted(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        run = stages.timed(stage, function)

        def with_state(*args: Any, **options: Any) -> Any:
            states[f"{stage}.{sum(name.startswith(stage) for name in states):03d}"] = torch.get_rng_state().numpy()
            return run(*args, **options)

        return with_state

    run_eval.balanced_split = noted_split
    run_eval.run_sae_probes_for_task = both_modes
    run_eval.run_tpp_for_sibling_group = noted("tpp", run_eval.run_tpp_for_sibling_group)
    run_eval.run_scr_for_task = noted("scr", run_eval.run_scr_for_task)
    target = cache / "peer" / f"{arch}.json"
    start = time.process_time()
    record = run_eval.run_one_sae(
        entry=run_eval.PanelEntry(arch, "benchmark", arch, REPO, None),
        sae=sae,
        shared_dir=cache / "data",
        out_path=target,
        probe_ks=KS,
        tpp_ns=NS,
        scr_ns=NS,
        device="cpu",
        force=True,
    )
    total = time.process_time() - start
    assert record is not None
    record["sae_probes"] = dict(zip(record["sparse_probing"], more, strict=True))
    record["converged"] = dict(zip(record["sparse_probing"], optima, strict=True))
    # Both modes rank alike; one value of C per task and k.
    states["ranking"], states["C"] = np.array(ranked[::2]), np.array(tuned).reshape(-1, len(KS))
    target.write_text(json.dumps(record))
    np.savez_compressed(target.with_suffix(".npz"), **states)
    rest = total - sum(stages.seconds.values())
    del stages.seconds["converged"]  # not the reference's work
    found = {**stages.seconds, "rest": rest, "peak_mib": _peak()}
    (cache / "peer" / f"{arch}.seconds.json").write_text(json.dumps(found))
    return found


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    what, cache, *arch = sys.argv[1:]
    folder = Path(cache)
    SyntheticModel.from_pretrained = lambda *_, **__: SyntheticModel.load_from_disk(folder / "world" / "library")
    with contextlib.redirect_stdout(io.StringIO()):
        found = data(folder) if what == "data" else score(folder, *arch)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
