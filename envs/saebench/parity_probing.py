"""Runs jobs as run.py does, and notes what sparse probing draws and chooses. `python parity_probing.py JOB.json ...`.

By its first k-sparse probe of a set the library has drawn what depends on the SAE (docs/saebench.md), so its negatives
follow from no seed. What is noted is torch's generator at that moment: from there on a set's probes draw nothing but
negatives. An answer has one more key, `probing`, a record a set in the job's order:
    state    the generator's state, hexadecimal
    seconds  CPU seconds of the probe on all latents, which is no k-sparse score
    cells    a record a probe: k_probe, class, accuracy, latents (those chosen)
A job with `converged: true` has its k-sparse probes fitted in double precision until nothing moves; scikit-learn's
defaults, which the library takes, stop earlier.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import run
import sae_bench.evals.sparse_probing.probe_training as library
import torch
from sklearn.linear_model import LogisticRegression


class Converged(LogisticRegression):
    """scikit-learn's logistic regression at its optimum."""

    def fit(self, X: Any, y: Any) -> Converged:
        self.set_params(solver="newton-cholesky", tol=1e-10)
        return super().fit(X.astype(np.float64), y)

    def predict(self, X: Any) -> Any:
        return super().predict(X.astype(np.float64))


class Recorder:
    """Stands in for the library's training of probes, and passes every call on."""

    def __init__(self) -> None:
        self.sets: list[dict[str, Any]] = []
        self._train, self._mask = library.train_probe_on_activations, library.get_top_k_mean_diff_mask
        self._chosen: list[list[int]] = []

    def __enter__(self) -> Recorder:
        library.train_probe_on_activations = self.train
        library.get_top_k_mean_diff_mask = self.mask
        return self

    def __exit__(self, *error: object) -> None:
        library.train_probe_on_activations, library.get_top_k_mean_diff_mask = self._train, self._mask

    def mask(self, *arguments: Any, **options: Any) -> Any:
        found = self._mask(*arguments, **options)
        self._chosen.append((~found).nonzero()[:, 0].tolist())
        return found

    def train(self, *arguments: Any, select_top_k: int | None = None, **options: Any) -> Any:
        if select_top_k is None:  # the probe on all latents begins a set
            started = time.process_time()
            found = self._train(*arguments, select_top_k=None, **options)
            self.sets.append({"state": None, "cells": [], "seconds": time.process_time() - started})
            return found
        one = self.sets[-1]
        one["state"] = one["state"] or bytes(torch.get_rng_state().tolist()).hex()
        self._chosen = []
        found = self._train(*arguments, select_top_k=select_top_k, **options)
        pairs = zip(found[1].items(), self._chosen, strict=True)
        one["cells"] += [
            {"k_probe": select_top_k, "class": name, "accuracy": float(accuracy), "latents": latents}
            for (name, accuracy), latents in pairs
        ]
        return found


def recorded(job: dict[str, Any]) -> dict[str, Any]:
    """The answer to a job, with the record of its probes."""
    library.LogisticRegression = Converged if job.get("converged") else LogisticRegression
    with Recorder() as seen:
        found = _answer(job)
    return found | {"probing": seen.sets}


_answer = run.answer

if __name__ == "__main__":
    run.answer = recorded
    for argument in sys.argv[1:]:
        run.main(argument)
