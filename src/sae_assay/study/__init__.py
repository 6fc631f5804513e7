"""A study: which substrates, SAEs, metrics and seeds are put on trial.

Names are imported when they are asked for: a job that reads one section (`study.worlds`) does not depend on the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_assay.study.load import Seeds, Study, TrainingGroup
    from sae_assay.study.substrates import Run, Substrate

_HOMES = {"Run": "substrates", "Seeds": "load", "Study": "load", "Substrate": "substrates", "TrainingGroup": "load"}
__all__ = ["Run", "Seeds", "Study", "Substrate", "TrainingGroup"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
