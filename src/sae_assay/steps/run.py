"""The `script:` of every rule: hands Snakemake's job to the ledger's runner, which calls `sae_assay.steps.<step>.run`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path("src").resolve()))

from sae_assay.errors import AssayError
from sae_assay.ledger.job import Job
from sae_assay.ledger.runner import names_of, run_job

job = Job.of_script(snakemake)  # type: ignore[name-defined] # noqa: F821
names = {side: names_of(getattr(snakemake, side[:-1])) for side in ("inputs", "outputs")}  # type: ignore[name-defined] # noqa: F821
try:
    outcome = run_job(job, names, Path(str(snakemake.log)))  # type: ignore[name-defined] # noqa: F821
except AssayError as error:
    sys.exit(f"sae-assay: {error}")
if outcome == "skipped":
    # One write: print's newline is a second one, between which another job's line may come.
    sys.stderr.write(f"sae-assay: {job.label}: nothing that it depends on has changed, outputs kept\n")
