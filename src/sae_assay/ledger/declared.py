"""What a study declares before it runs, as a record."""

from __future__ import annotations

from typing import Any

from sae_assay.ledger.canonical import digest
from sae_assay.ledger.files import Hasher
from sae_assay.ledger.records import SCHEMA, with_id
from sae_assay.plan import Plan


def plan_record(plan: Plan) -> dict[str, Any]:
    """The study's choices: digest of the whole, grid sizes, thresholds, tolerances, primary hyper-parameters."""
    design = plan.design()
    tolerances = Hasher(store=None).sha256("tolerances.yaml")
    return with_id(
        {
            "type": "plan",
            "schema": SCHEMA,
            "study": plan.name,
            "study_digest": digest(design),
            "seeds": design["seeds"],
            "grid": grid_of(plan),
            "score_files": len(plan.score_files()),
            "primary": design["scorecard"]["primary"],
            "thresholds": design["scorecard"]["thresholds"],
            "confidence": design["scorecard"]["confidence"],
            "tolerances": tolerances,
        }
    )


def grid_of(plan: Plan) -> dict[str, Any]:
    """What a study asks for, counted by substrate."""
    return {
        substrate: {
            "trained": len(plan.trained(substrate)),
            "controls": len(plan.controls(substrate)),
            "snapshots": len(plan.snapshots(substrate)),
            "metrics": sorted(plan.metrics(substrate)),
        }
        for substrate in plan.study.substrates
    }
