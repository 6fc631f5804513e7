"""What a metric is to sae-assay, and which metrics are known. Light: imports nothing but the standard library.

A plug-in is an installed package with an entry point in the group `sae_assay.metrics` that names a `Metric`.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "sae_assay.metrics"


@dataclass(frozen=True)
class Need:
    """Something outside the project that a metric cannot do without.

    kind: `module` (an importable package), `environment` (a folder with a synced environment of its own), `variable` (an
    environment variable), `study` (the job finds out, and says `not_applicable`) or `never` (not to be had offline).
    """

    kind: Literal["module", "environment", "variable", "study", "never"]
    name: str
    reason: str

    def missing(self) -> bool:
        """Whether it is not here."""
        if self.kind == "module":
            return find_spec(self.name) is None
        if self.kind == "environment":
            return not Path(self.name, ".venv", "bin", "python").exists()
        return self.kind == "never" or (self.kind == "variable" and not os.environ.get(self.name))


@dataclass(frozen=True)
class Metric:
    """A metric on trial.

    Attributes:
        name: as in the score table.
        components: the numbers that it gives.
        hyper_parameter: `n`, `k_probe` or None.
        higher_is_better: its direction; components that differ say so in `exceptions`.
        substrates: kinds of substrate that it can score.
        encoder, decoder: whether it reads the SAE's encoder and its decoder (which truth it answers to).
        function: `module:name` of the function from tensors to records; None for what only the registry knows.
        needs: what must be there.
        exceptions: components where less is better.
    """

    name: str
    components: tuple[str, ...]
    hyper_parameter: str | None = None
    higher_is_better: bool = True
    substrates: tuple[str, ...] = ("world", "lm")
    encoder: bool = True
    decoder: bool = True
    function: str | None = None
    needs: tuple[Need, ...] = ()
    exceptions: tuple[str, ...] = ()

    def reason(self) -> str | None:
        """Why it cannot run here, or None."""
        missing = [need.reason for need in self.needs if need.missing()]
        return "; ".join(missing) or None

    def load(self) -> Callable[..., Any]:
        """The metric's function.

        Raises:
            LookupError: the metric cannot run here.
        """
        if self.function is None or (why := self.reason()):
            raise LookupError(f"metric {self.name} cannot run here: {why if self.function else 'it has no function'}")
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)

    def describe(self) -> dict[str, Any]:
        """As `sae-assay metrics --json` lists it."""
        reason, given = self.reason(), "; ".join(need.reason for need in self.needs if need.kind == "study")
        return {**asdict(self), "can_run": reason is None, "reason": reason, "given": given or None}


_TORCH = Need("module", "torch", "needs torch: install the group `compute`")
_SAEBENCH = Need(
    "environment",
    "envs/saebench",
    "runs the real SAEBench: install it with `uv sync --frozen --project envs/saebench` (Python 3.11 or 3.12)",
)
_SETS = Need("study", "sets", "labelled text with rows enough: the sae-probes package's, or SAEBench's own from a hub")
_SPELLS = Need("study", "model", "a language model that spells: 20 first letters that a probe finds (Gemma-2-2b does)")
_RAVEL = Need(
    "study",
    "ravel",
    "a Gemma- or Llama-family model whose tokenizer begins texts with BOS, and RAVEL's data (metrics.ravel.data)",
)
_JUDGE = Need("study", "judge", "an OpenAI-compatible endpoint and what it may cost (metrics.autointerp)")
_KEY = Need("variable", "OPENAI_API_KEY", "needs an LLM that judges: set OPENAI_API_KEY")

BUILT_IN = (
    Metric(
        "ground_truth",
        ("mcc", "f1", "precision", "recall", "uniqueness", "explained_variance", "l0", "dead_latents"),
        substrates=("world", "toy"),
        function="sae_assay.metrics.ground_truth:ground_truth",
        exceptions=("l0", "dead_latents"),
    ),
    Metric(
        "sparse_probing",
        ("accuracy",),
        "k_probe",
        decoder=False,
        function="sae_assay.metrics.probing:sparse_probing",
        needs=(_TORCH,),
    ),
    Metric(
        "sae_probes",
        ("auc", "f1", "accuracy"),
        "k_probe",
        decoder=False,
        function="sae_assay.metrics.probing:sae_probes",
        needs=(_TORCH,),
    ),
    Metric(
        "tpp",
        ("score", "intended", "unintended"),
        "n",
        function="sae_assay.metrics.tpp:tpp",
        needs=(_TORCH,),
        exceptions=("unintended",),
    ),
    Metric(
        "scr",
        ("score", "compatible", "direction_1", "direction_2"),
        "n",
        function="sae_assay.metrics.scr:scr",
        needs=(_TORCH,),
    ),
    Metric(
        "reconstruction",
        ("explained_variance", "explained_variance_saebench", "l0", "dead_latents", "ce_recovered", "kl"),
        substrates=("lm",),
        function="sae_assay.metrics.reconstruction:reconstruction",
        needs=(_TORCH,),
        exceptions=("l0", "dead_latents", "kl"),
    ),
    Metric("known_validity", ("score",), function="sae_assay.metrics.positive_controls:known_validity"),
    Metric("pure_noise", ("score",), function="sae_assay.metrics.positive_controls:pure_noise"),
    Metric(
        "saebench_sparse_probing",
        ("accuracy", "accuracy_of_all"),
        "k_probe",
        substrates=("lm",),
        decoder=False,
        needs=(_SAEBENCH, _SETS),
    ),
    Metric(
        "saebench_tpp",
        ("score", "intended", "unintended"),
        "n",
        substrates=("lm",),
        needs=(_SAEBENCH, _SETS),
        exceptions=("unintended",),
    ),
    Metric(
        "saebench_scr",
        ("score", "compatible", "direction_1", "direction_2"),
        "n",
        substrates=("lm",),
        needs=(_SAEBENCH, _SETS),
    ),
    Metric(
        "core",
        (
            "explained_variance_saebench",
            "explained_variance_legacy",
            "mse",
            "cossim",
            "l0",
            "l1",
            "l2_ratio",
            "relative_reconstruction_bias",
            "ce_loss_score",
            "kl_div_score",
            "frac_alive",
        ),
        substrates=("lm",),
        needs=(_SAEBENCH,),
        exceptions=("mse", "l0", "l1"),
    ),
    Metric(
        "absorption",
        ("mean_absorption_fraction", "full_absorption_rate", "num_split_features"),
        higher_is_better=False,
        substrates=("lm",),
        needs=(_SAEBENCH, _SPELLS),
    ),
    Metric(
        "ravel",
        ("disentanglement_score", "cause_score", "isolation_score"),
        substrates=("lm",),
        needs=(_SAEBENCH, _RAVEL),
    ),
    Metric(
        "autointerp",
        ("autointerp_score", "coverage"),
        substrates=("lm",),
        needs=(_SAEBENCH, _JUDGE, _KEY),
    ),
)


def registry() -> dict[str, Metric]:
    """All known metrics by name: the built-in ones, then installed plug-ins.

    Raises:
        ValueError: a plug-in takes a name that is taken, or does not name a `Metric`.
    """
    known = {metric.name: metric for metric in BUILT_IN}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        metric = entry.load()
        if not isinstance(metric, Metric):
            raise ValueError(f"entry point {entry.name} ({entry.value}) is no sae_assay.metrics.api.Metric")
        if metric.name in known:
            raise ValueError(f"entry point {entry.name} ({entry.value}): the metric {metric.name} is known already")
        known[metric.name] = metric
    return known


def listing() -> list[dict[str, Any]]:
    """Every known metric with `name`, `can_run` and `reason`."""
    return [metric.describe() for metric in registry().values()]
