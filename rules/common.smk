# The study, its plan, and what all rules share. Nothing is computed in a rule: they ask the plan (src/sae_assay/plan.py).
import sys

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from sae_assay.errors import AssayError
from sae_assay.ledger import restore
from sae_assay.plan import TABLES, Plan, rule_name
from sae_assay.study import Study

try:
    plan = Plan(Study.load(config.get("study", "config.yaml")))
except AssayError as error:
    raise WorkflowError(str(error))

RUN = "../src/sae_assay/steps/run.py"


wildcard_constraints:
    substrate=plan.pattern("world", "toy", "lm"),
    sae=r"[^/]+?",
    seed=r"\d+",
