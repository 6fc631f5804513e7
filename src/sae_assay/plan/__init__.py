"""From a study to jobs: which files each rule reads and writes, and with which settings.

The rules ask this plan and compute nothing themselves; the ledger asks the rules. So a list that grows or shrinks in the
study shows in what a rule asks for, and nothing keeps a second list.
"""

from sae_assay.plan.files import ANATOMY_TABLES, TABLES
from sae_assay.plan.lms import Plan
from sae_assay.plan.names import rule_name

__all__ = ["ANATOMY_TABLES", "TABLES", "Plan", "rule_name"]
