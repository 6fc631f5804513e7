"""A study: which substrates, SAEs, metrics and seeds are put on trial."""

from sae_assay.study.load import Seeds, Study, TrainingGroup
from sae_assay.study.substrates import Run, Substrate

__all__ = ["Run", "Seeds", "Study", "Substrate", "TrainingGroup"]
