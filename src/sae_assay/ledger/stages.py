"""Which families of artifacts DVC stores."""

from __future__ import annotations

# Families in the bundled remote: folder, and the study's sections that decide them (for `dvc status`; Snakemake asks the
# rules).
STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "worlds": ("data/worlds", ("device", "numeric_profile", "substrates")),
    "saes": ("data/saes", ("device", "numeric_profile", "substrates")),
    "trajectories": ("data/trajectories", ("device", "numeric_profile", "substrates")),
    "scores": ("results/scores", ("device", "numeric_profile", "substrates", "seeds", "metrics")),
    "anatomy": ("results/anatomy", ("device", "numeric_profile", "substrates", "metrics", "scorecard", "anatomy")),
    "table": ("results/table", ("substrates", "seeds", "metrics", "anatomy")),
    "statistics": ("results/statistics", ("seeds", "metrics", "scorecard")),
    "charts": ("results/charts", ("scorecard",)),
    "report": ("results/report", ("description", "scorecard")),
}
