"""A job as its rule defines it now: what it reads, what it writes, and with which settings."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sae_assay.ledger.canonical import digest
from sae_assay.ledger.environment import Group

# Read by jobs that are not current, besides their own inputs: Snakemake reruns a job only when one of its inputs is newer.
ANCHOR = ".sae-assay/anchor"


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes:
        rule: the rule's name.
        wildcards: its wildcards.
        step: the module under sae_assay.steps that it runs.
        group: the locked packages that it depends on.
        inputs: paths read, in the rule's order.
        outputs: paths written, in the rule's order.
        settings: all configuration that the step sees.
    """

    rule: str
    wildcards: dict[str, str]
    step: str
    group: Group
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """Names the job, whatever its lists of inputs and outputs grow or shrink to."""
        return job_key(self.rule, self.wildcards)

    @property
    def label(self) -> str:
        """For messages: `score_sae substrate=mini sae=oracle`."""
        return job_label(self.rule, self.wildcards)

    @classmethod
    def of_script(cls, snakemake: Any) -> Job:
        """From the object that Snakemake hands to a script."""
        wildcards = {str(name): str(value) for name, value in snakemake.wildcards.items()}
        return cls._build(snakemake.rule, wildcards, snakemake.input, snakemake.output, snakemake.params)

    @classmethod
    def of_rule(cls, rule: Any, wildcards: Mapping[str, str]) -> Job:
        """Ask a Snakemake rule what its job with these wildcards would be, without building the DAG."""
        wildcards = dict(wildcards)
        outputs, _ = rule.expand_output(wildcards)
        inputs, *_ = rule.expand_input(wildcards)
        params, _ = rule.expand_params(wildcards, inputs, outputs, None)
        return cls._build(rule.name, wildcards, inputs, outputs, params)

    @classmethod
    def _build(cls, rule: str, wildcards: dict[str, str], inputs: Any, outputs: Any, params: Any) -> Job:
        return cls(
            rule=rule,
            wildcards=wildcards,
            step=str(params.get("step") or rule),
            group=params.get("group", "compute"),
            inputs=tuple(str(path) for path in inputs if str(path) != ANCHOR),
            outputs=tuple(map(str, outputs)),
            settings=params.settings,
        )


def job_label(rule: str, wildcards: Mapping[str, str]) -> str:
    """A job in messages: its rule, then its wildcards by name."""
    return " ".join([rule, *(f"{name}={value}" for name, value in sorted(wildcards.items()))])


def job_key(rule: str, wildcards: Mapping[str, str]) -> str:
    """24 hex digits that name a job by its rule and wildcards."""
    return _key(rule, tuple(sorted(wildcards.items())))


@functools.cache
def _key(rule: str, wildcards: tuple[tuple[str, str], ...]) -> str:
    return digest({"rule": rule, "wildcards": dict(wildcards)})[:24]
