"""Two metrics whose verdicts are known beforehand: the audit itself is put on trial with them.

`known_validity` is the truth plus declared noise; `pure_noise` knows nothing about the SAE. Numpy only.
"""

from __future__ import annotations

from sae_assay.metrics.records import Record, record
from sae_assay.seeds import numpy_generator


def known_validity(truth: float, tau: float, substrate: str, sae_id: str, evaluation_seed: int) -> Record:
    """truth + N(0, tau), drawn anew for every SAE and evaluation seed.

    Args:
        truth: a ground-truth score of the SAE.
        tau: standard deviation of the noise, as declared in the study.
    """
    noise = numpy_generator("known_validity", substrate, sae_id, evaluation_seed).normal(0.0, tau)
    return record("known_validity", "score", truth + float(noise))


def pure_noise(tau: float, substrate: str, sae_id: str, evaluation_seed: int) -> Record:
    """N(0, tau) whatever the SAE."""
    noise = numpy_generator("pure_noise", substrate, sae_id, evaluation_seed).normal(0.0, tau)
    return record("pure_noise", "score", float(noise))
