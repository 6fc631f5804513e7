"""From files to the jobs that made them and the inputs that those read, by the ledger's records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sae_assay.ledger.canonical import digest
from sae_assay.ledger.records import Ledger, Run


@dataclass
class Chain:
    """What stands behind some files.

    Attributes:
        runs: the jobs, from the files' own makers back to the first ones.
        raw: path -> SHA-256 of inputs that no recorded job made, outside the package's own code.
        missing: paths whose content no record explains.
    """

    runs: list[Run] = field(default_factory=list)
    raw: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @classmethod
    def behind(cls, ledger: Ledger, files: Iterable[tuple[str, str]], up_to_inputs: bool = True) -> Chain:
        """Follow (path, SHA-256) pairs back through the runs whose recorded outputs they are.

        Args:
            ledger: the study's records.
            files: what to explain.
            up_to_inputs: follow the makers' inputs too, to the first.
        """
        makers = {item: run for runs in ledger.runs.values() for run in reversed(runs) for item in run.outputs.items()}
        made = {path for path, _ in makers}
        chain, queue, seen = cls(), sorted(set(files)), set[tuple[str, str]]()
        known: set[str] = set()
        while queue:
            item = queue.pop(0)
            if item in seen:
                continue
            seen.add(item)
            run = makers.get(item)
            if run is None:
                chain._unmade(*item, made)
            elif run.id not in known:
                known.add(run.id)
                chain.runs.append(run)
                queue += sorted(run.inputs.items()) if up_to_inputs else []
        return chain

    def _unmade(self, path: str, sha256: str, made: set[str]) -> None:
        if path in made:
            self.missing.append(path)
        elif not path.startswith("src/"):  # a step's own code is named by its closure
            self.raw[path] = sha256


def run_facts(run: Run) -> dict[str, Any]:
    """What an auditor asks of a run, from its record."""
    kept = (
        "start",
        "duration_ms",
        "peak_memory_bytes",
        "commit",
        "dirty",
        "cpu",
        "threads",
        "environment",
        "lock_digest",
    )
    return {
        "rule": run.rule,
        "wildcards": run.wildcards,
        "run_id": run.raw["run_id"],
        "record": run.id,
        "seeds": {name: value for name, value in run.params.items() if "seed" in name},
        "inputs": len(run.inputs),
        "outputs": len(run.outputs),
        "code_sha256": digest(run.code),
        "code_files": len(run.code),
        **{name: run.raw.get(name) for name in kept},
    }
