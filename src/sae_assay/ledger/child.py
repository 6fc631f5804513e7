"""Runs one step in a process of its own, whose environment was fixed before it started.

`python -m sae_assay.ledger.child SPEC` reads the job from SPEC (JSON) and writes beside it, as SPEC.report, what the step
read and which libraries it used. Project files that Python opens for reading are seen by an audit hook; files that a
compiled library opens by itself (safetensors, DuckDB, polars) are not.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_assay.errors import AssayError
from sae_assay.ledger.files import hash_file

# Folders and files whose content can change a result and which a rule must therefore declare.
DECLARABLE = ("data", "results", "studies", "config.yaml", "tolerances.yaml")
PACKAGE = "src/sae_assay"
RUNNER = ("src/sae_assay/ledger/", "src/sae_assay/steps/run.py")


class Files:
    """Rule-like access to paths: `files.name`, `files[0]`, iteration; a name that covers several paths gives a list."""

    def __init__(self, paths: list[str], names: dict[str, str | list[str]]) -> None:
        self._paths = paths
        self._names = names

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_names"][name]
        except KeyError:
            known = ", ".join(self.__dict__.get("_names", {})) or "none"
            raise AttributeError(f"the rule names no file {name!r}; named: {known}") from None

    def get(self, name: str, default: Any = None) -> Any:
        return self._names.get(name, default)

    def keys(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, item: Any) -> Any:
        return self._names[item] if isinstance(item, str) else self._paths[item]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


class Watch:
    """An audit hook that collects the project's files that Python opens for reading while it is active."""

    def __init__(self, root: Path) -> None:
        self._root = str(root) + os.sep
        self._active = True
        self.opened: set[str] = set()
        sys.addaudithook(self._hook)

    def stop(self) -> None:
        """Stop collecting (Python cannot remove a hook)."""
        self._active = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active or event != "open":
            return
        path, mode, flags = arguments
        writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        if not isinstance(path, str | bytes | os.PathLike) or writes or (flags or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - keeps links as they are
        if full.startswith(self._root):
            self.opened.add(full.removeprefix(self._root).replace(os.sep, "/"))


def main(spec_path: str) -> int:
    """Run the step of a spec; 0 done, 3 an error that a user can act on, 1 any other error (its traceback is shown)."""
    spec = json.loads(Path(spec_path).read_text(encoding="utf-8"))
    root = Path.cwd()
    before = digests_of_package(root)
    watch = Watch(root)
    report: dict[str, Any] = {}
    try:
        step = importlib.import_module(f"sae_assay.steps.{spec['step']}")
        inputs, outputs = (Files(spec[side]["paths"], spec[side]["names"]) for side in ("inputs", "outputs"))
        step.run(inputs, outputs, spec["settings"])
        watch.stop()
        _refuse_undeclared(watch.opened, spec)
        code = 0
    except AssayError as error:
        report["error"], code = str(error), 3
    except MemoryError as error:
        report["error"] = (
            f"{spec['label']}: out of memory ({error}). What to do: lower --cores, or use a larger machine."
        )
        code = 3
    except OSError as error:
        if error.errno not in (28, 122):  # disk full, quota exceeded
            raise
        report["error"] = (
            f"{error.filename or spec['label']}: the disk is full. What to do: free space; finished jobs are kept."
        )
        code = 3
    except Exception as error:
        traceback.print_exc()
        report["error"], code = f"{type(error).__name__}: {error}", 1
    watch.stop()
    report["code"] = closure(root, watch.opened, before)
    report["libraries"] = libraries()
    Path(f"{spec_path}.report").write_text(json.dumps(report), encoding="utf-8")
    return code


def digests_of_package(root: Path) -> dict[str, str]:
    """SHA-256 of the package's files before the step runs: an edit made meanwhile must not be taken for what ran."""
    files = [p for p in (root / PACKAGE).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return {p.relative_to(root).as_posix(): hash_file(p).sha256 for p in sorted(files)}


def closure(root: Path, opened: set[str], digests: dict[str, str]) -> dict[str, str]:
    """Package files that the step imported or read, by SHA-256; the runner itself is no part of them."""
    modules = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    prefix = str(root) + os.sep
    imported = {file.removeprefix(prefix).replace(os.sep, "/") for file in modules if file.startswith(prefix)}
    used = sorted(file for file in imported | opened if file in digests and not file.startswith(RUNNER))
    return {file: digests[file] for file in used}


def libraries() -> dict[str, Any]:
    """What was loaded that decides the last bits: the BLAS, the device."""
    found: dict[str, Any] = {"device": "cpu"}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        blas = numpy.__config__.show(mode="dicts")["Build Dependencies"]["blas"]
        found["blas"] = f"{blas.get('name')} {blas.get('version')}"
    if torch is not None:
        found["torch_cpu"] = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_initialized():
            found["device"], found["cuda"] = torch.cuda.get_device_name(), torch.version.cuda
            found["deterministic"] = torch.are_deterministic_algorithms_enabled()
    return found


def _refuse_undeclared(opened: set[str], spec: dict[str, Any]) -> None:
    declared = {*spec["inputs"]["paths"], *spec["outputs"]["paths"], *spec["outputs"]["final"]}
    scratch = {os.path.dirname(path) + "/" for path in spec["outputs"]["paths"]}  # noqa: PTH120
    for path in sorted(opened - declared):
        # A name relative to an open folder (shutil.rmtree) reaches the hook without that folder: it is no file here.
        if path.startswith(tuple(scratch)) or not Path(path).is_file():
            continue
        if path.split("/")[0] in DECLARABLE and not path.endswith(".py"):
            raise AssayError(
                path, f"was read by {spec['label']}, whose rule does not declare it", "add it to the rule's input"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
