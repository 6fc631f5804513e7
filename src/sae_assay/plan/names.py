"""Names of SAEs' snapshots and of rules, and plain values of a study's sections."""

from __future__ import annotations

import re
from typing import Any


def snapshot_id(run: str, step: int) -> str:
    """`batchtopk_l0_08_seed_0.step_0000977`"""
    return f"{run}.step_{step:07d}"


def dump(section: Any) -> dict[str, Any]:
    """A study section as plain JSON values."""
    return section.model_dump(mode="json", by_alias=True)


DIGITS = dict(
    zip("0123456789", ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], strict=True)
)


def rule_name(*parts: str) -> str:
    """A rule's name from a substrate's and a group's, in small letters and underscores: `train_smollm_two_all`."""
    spelt = re.sub(r"\d", lambda match: f"_{DIGITS[match[0]]}_", "_".join(parts).lower())
    return re.sub(r"[^a-z]+", "_", spelt).strip("_")
