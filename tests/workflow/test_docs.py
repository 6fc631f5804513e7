"""Every command that the documentation shows is run: here on the tiny study, or by .ci/run."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from tests.project import Project

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What .ci/run runs from nothing: installation, the main command, the tests.
IN_CI = {"make report", "make test", "uv sync"}


def commands() -> list[str]:
    """Lines of all fenced bash blocks, each once, in order."""
    blocks = [block for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    return list(dict.fromkeys(lines))


def test_the_documentation_shows_commands() -> None:
    assert len(commands()) >= 10


def test_ci_runs_the_commands_that_install() -> None:
    script = (ROOT / ".ci/run").read_text() + (ROOT / "Makefile").read_text()
    for command in IN_CI:
        assert command in script or command.replace("uv ", "$(UV) ") in script, command


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for line in commands() if line not in IN_CI])
def test_documented_command_runs(command: str, clone: Project) -> None:
    words = shlex.split(command)
    assert words[:2] == ["uv", "run"], f"{command}: say in IN_CI who runs it"
    done = clone.run(
        sys.executable, "-m", {"sae-assay": "sae_assay.cli"}.get(words[2], words[2]), *words[3:], check=False
    )
    allowed = {0, 1} if words[2] == "sae-assay" else {0}
    assert done.returncode in allowed, done.stdout[-3000:]
