"""The environment of the real SAEBench, and the mark of tests that need it."""

from __future__ import annotations

from pathlib import Path

import pytest

ENV = Path(__file__).parents[2] / "envs/saebench"
PYTHON = ENV / ".venv/bin/python"
INSTALLED = pytest.mark.skipif(not PYTHON.exists(), reason="envs/saebench is not installed: run `uv sync` in it")
