"""The real SAEBench in an environment of its own: a job in, score rows out (envs/saebench/run.py has the contract).

sae-bench 0.6.0 pins numpy below 2 and cannot live in the main lock. A subprocess runs it as its authors pin it, so that a
later version can stand trial beside it in a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assay.errors import AssayError
from sae_assay.lms.text import resolve
from sae_assay.metrics.records import Record, record
from sae_assay.study import judged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sae_assay.modes import Mode

STAMP = ".sae-assay-lock"
UNFIT = "unfit.json"
TEXT_ALONE = ("core",)  # metrics whose SAEs share nothing but their text
_SHOWN = 1500  # characters of a traceback that an error repeats


@dataclass(frozen=True)
class Environment:
    """A folder with pyproject.toml, uv.lock and run.py."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ".venv" / "bin" / "python"

    def sync(self) -> str | None:
        """Install the locked environment unless it is there.

        Returns:
            Why it does not fit this machine (no Python that it accepts), or None.

        Raises:
            AssayError: uv is missing, or cannot install it.
        """
        lock, command = self.folder / "uv.lock", f"uv sync --frozen --project {self.folder}"
        if not lock.is_file():
            raise AssayError(str(lock), "no such lock", "name a folder with pyproject.toml, uv.lock and run.py")
        stamp, digest = self.folder / ".venv" / STAMP, hashlib.sha256(lock.read_bytes()).hexdigest()
        if self.python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
            return None
        uv = shutil.which("uv") or shutil.which("uv", path=".tools/bin")
        if uv is None:
            raise AssayError(str(self.folder), "is not installed, and there is no uv to do it", f"run `{command}`")
        done = _run([uv, "sync", "--frozen", "--quiet", "--project", str(self.folder)])
        if done.returncode == 0:
            stamp.write_text(digest, encoding="utf-8")
            return None
        said = " ".join(done.stderr.split())
        if _run([uv, "python", "find", "--project", str(self.folder)]).returncode:
            return f"no Python here fits {self.folder}: {said[:300]}"
        raise AssayError(
            str(self.folder), f"cannot be installed ({said[:300]})", f"run `{command}` where there is a network"
        )

    def answers(self, jobs: Sequence[dict[str, Any]], folder: Path) -> list[list[dict[str, Any]]]:
        """The rows of some jobs, done by one process.

        Args:
            jobs: as run.py takes them, without `out`.
            folder: for job files and answers.

        Raises:
            AssayError: what was given does not fit (the environment's own sentence), or the library failed.
        """
        files, outs = [], []
        for i, job in enumerate(jobs):
            files.append(folder / f"job_{i}.json")
            outs.append(folder / f"rows_{i}.json")
            files[i].write_text(json.dumps({**job, "out": str(outs[i])}), encoding="utf-8")
        done = _run([str(self.python.absolute()), str(self.folder / "run.py"), *map(str, files)])
        print(done.stderr[-20 * _SHOWN :])  # to the job's log
        return [self._answer(job, out, done) for job, out in zip(jobs, outs, strict=True)]

    def _answer(self, job: dict[str, Any], out: Path, done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
        if not out.exists():
            problem = f"{job['metric']} ended with code {done.returncode}: {done.stderr[-_SHOWN:].strip()}"
            raise AssayError(str(self.folder), problem, "read the job's log; report it if the input is sound")
        found = json.loads(out.read_text(encoding="utf-8"))
        if error := found.get("error"):
            raise AssayError(error["where"], error["problem"], error["remedy"])
        print(json.dumps({name: found[name] for name in ("versions", "cpu_seconds") if name in found}))
        return list(found["rows"])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command without what ties this process to its own environment."""
    own = ("PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")
    variables = {key: value for key, value in os.environ.items() if key not in own}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def config(metric: str, section: Mapping[str, Any], names: Mapping[str, list[str]], text: str) -> dict[str, Any]:
    """A study's section by SAEBench's own names.

    Args:
        names: the substrate's sets: `binary`, `crossed`, `many`.
        text: the name of the text that core reads.
    """
    if metric in ("ravel", "autointerp"):
        return judged.config(metric, dict(section))
    sizes = {key: section[key] for key in ("train_rows", "test_rows") if key in section}
    common = {"llm_batch_size": section["llm_batch_size"]}
    reading = common | {"context_length": section["context"]}
    if metric == "saebench_sparse_probing":
        rows = {"probe_train_set_size": sizes["train_rows"], "probe_test_set_size": sizes["test_rows"]}
        chosen = [resolve(name, names["binary"]) for name in section.get("datasets", names["binary"])]
        return reading | rows | {"dataset_names": chosen, "k_values": section["k_probe"]}
    if metric in ("saebench_tpp", "saebench_scr"):
        rows = {"train_set_size": sizes["train_rows"], "test_set_size": sizes["test_rows"]}
        sets = names["many" if metric == "saebench_tpp" else "crossed"]
        return reading | rows | {"dataset_names": sets, "n_values": section["n"]}
    if metric == "core":
        return {
            "dataset": text,
            "context_size": section["context"],
            "batch_size_prompts": section["prompts_per_batch"],
            "n_eval_reconstruction_batches": section["reconstruction_batches"],
            "n_eval_sparsity_variance_batches": section["sparsity_batches"],
        }
    return common | {
        "words": section["words"],
        "min_feats_for_eval": section["min_letters"],
        "min_GT_probe_f1": section["min_probe_f1"],
        "prompt_token_pos": section["prompt_token_pos"],
        "max_k_value": section["k_max"],
    }


def records(metric: str, rows: Sequence[Mapping[str, Any]], mode: Mode, section: Mapping[str, Any]) -> list[Record]:
    """Records from an answer's rows."""
    sizes = {"n_train": section.get("train_rows"), "n_test": section.get("test_rows")}
    return [
        record(
            metric,
            row["component"],
            row["value"],
            task=row["task"],
            hp=None if row["hp_name"] is None else (row["hp_name"], row["hp_value"]),
            mode=mode,
            direction=row.get("direction"),
            status=row["status"],
            reason=row["reason"],
            **sizes,
        )
        for row in rows
    ]


def unfit(metric: str, components: Sequence[str], section: Mapping[str, Any], reason: str, mode: Mode) -> list[Record]:
    """Rows of a metric that cannot run on this machine."""
    name = next((key for key in ("n", "k_probe") if key in section), None)
    hps = [(name, value) for value in section[name]] if name else [None]
    return [
        record(metric, part, None, hp=hp, mode=mode, status="not_applicable", reason=reason)
        for hp in hps
        for part in components
    ]


def pack(folder: Path, target: str | Path) -> None:
    """A folder as a tar file; equal content gives equal bytes."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as file:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            file.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=plain)


def unpack(source: str | Path, folder: Path) -> None:
    """The reverse of `pack`; AssayError where the file is damaged."""
    try:
        with tarfile.open(source) as file:
            file.extractall(folder, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise AssayError(str(source), f"is no whole cache ({error})", "delete it and run the workflow again") from error
