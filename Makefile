# The commands of this project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export DVC_NO_ANALYTICS := 1
export PYTHONHASHSEED := 0

CORES ?= 2
# uv from PATH, or from a private environment that this file makes.
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)

.PHONY: help install report test test-slow check format compare-recorded benchmark benchmark-validity clean

help:                    ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.tools/bin/uv:
	python3 -m venv .tools
	.tools/bin/pip install --quiet uv

install: $(filter .tools/bin/uv,$(UV))   ## uv and the locked environment
	$(UV) sync --frozen --quiet --compile-bytecode

report: install          ## run the default study and name the report (some 15 minutes on two cores; what is there and current is kept)
	$(UV) run --frozen snakemake --cores $(CORES)
	@$(UV) run --frozen sae-assay findings

test: install            ## the tests that take minutes at most
	$(UV) run --frozen pytest -n $(CORES) -m "not slow and not saebench"

test-slow: install       ## the tests that import sae_lens, run workflows, or call the real sae_bench
	$(UV) sync --frozen --quiet --project envs/saebench
	$(UV) sync --frozen --quiet --project envs/rocrate
	$(UV) run --frozen pytest -n $(CORES) --dist loadfile -m "slow or saebench"

check: install           ## format, lint, types, tests
	$(UV) run --frozen ruff format --check src tests benchmarks envs
	$(UV) run --frozen ruff check src tests benchmarks envs
	$(UV) run --frozen mypy
	$(MAKE) test

format: install          ## let ruff format and mend
	$(UV) run --frozen ruff format src tests benchmarks envs
	$(UV) run --frozen ruff check --fix src tests benchmarks envs

compare-recorded: install ## did this machine reproduce the recorded scores?
	$(UV) run --frozen sae-assay compare-recorded

benchmark: install       ## time and memory of the whole run, stage by stage
	$(UV) run --frozen python benchmarks/whole_run.py

benchmark-validity: install ## CPU time and equality against the reference's code: make benchmark-validity PEER=folder
	$(UV) run --frozen python benchmarks/validity.py --peer $(PEER)
