"""Which queries and tables a mart needs, and their digests: the SQL side of a cell's record."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

import sqlglot
from sqlglot import exp

from sae_assay.errors import AssayError
from sae_assay.statistics import runner

PYTHON_STEPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run_bootstrap": ("stg_decisions", ("question", "cell_id")),
    "run_anatomy": ("stg_anatomy_squares", ("cell_id",)),
}
"""Steps of `runner.PLAN` that are no query: the step that they read, and the columns whose equal rows they take together."""

MODULES = {"run_bootstrap": "bootstrap.py", "run_anatomy": "anatomy.py"}
"""Where the text of a Python step stands, in sae_assay/statistics."""

DECLARED = ("primaries", "criteria", "decay_fractions", "best_kept", "families", "text_shares")
"""Tables made of the study's configuration."""


def query_file(step: str) -> str:
    """Where a step's text stands, relative to the project's root."""
    folder = "src/sae_assay/statistics"
    return f"{folder}/{MODULES[step]}" if step in PYTHON_STEPS else f"{folder}/sql/{step}.sql"


def query_text(step: str) -> str:
    """A step's text: SQL, or the Python of a step that is no query."""
    if step in PYTHON_STEPS:
        return (resources.files("sae_assay.statistics") / MODULES[step]).read_text(encoding="utf-8")
    return runner.sql(step)


@cache
def reads(step: str) -> frozenset[str]:
    """Names of the tables that a step reads: other steps, the study's tables, its declarations."""
    if step in PYTHON_STEPS:
        return frozenset({PYTHON_STEPS[step][0]})
    tree = sqlglot.parse_one(runner.sql(step), read="duckdb")
    found = {table.name for table in tree.find_all(exp.Table)}
    known = {*runner.PLAN, *runner.TABLES, *runner.ANATOMY_TABLES, *DECLARED, "planned_cells"} - {step}
    own = {cte.alias for cte in tree.find_all(exp.CTE)}
    if unknown := found - known - own:
        raise AssayError(
            query_file(step), f"reads {', '.join(sorted(unknown))}, which no step makes", "correct the query"
        )
    # a common table expression that bears a table's name may read that table
    return frozenset((found & known) - {name for name in own if not _reads_itself(tree, name)})


def _reads_itself(tree: exp.Expr, name: str) -> bool:
    return any(
        table.name == name for cte in tree.find_all(exp.CTE) if cte.alias == name for table in cte.find_all(exp.Table)
    )


@cache
def needs(mart: str) -> tuple[str, ...]:
    """The mart and the steps that it needs, in the order of `runner.PLAN`."""
    wanted, queue = {mart}, [mart]
    while queue:
        new = reads(queue.pop()) & set(runner.PLAN) - wanted
        wanted |= new
        queue += new
    return tuple(step for step in runner.PLAN if step in wanted)


@cache
def tables(mart: str) -> tuple[str, ...]:
    """The study's tables that a mart is computed from, through all of its steps."""
    found = {name for step in needs(mart) for name in reads(step)}
    every = (*runner.TABLES, *runner.ANATOMY_TABLES)
    return tuple(name for name in every if ("planned_cells" if name == "coverage" else name) in found)


@cache
def sql_sha256(mart: str) -> str:
    """SHA-256 over lines `STEP SHA-256 of its text` of the mart's query and all that it needs, in the order of PLAN."""
    lines = [f"{step} {hashlib.sha256(query_text(step).encode()).hexdigest()}" for step in needs(mart)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
