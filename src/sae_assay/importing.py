"""The command `sae-assay import-saebench`: reads others' result files, says what is in them, and declares a study of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer


def import_files(paths: Sequence[str], study: str, substrate: str, options: dict[str, Any]) -> dict[str, Any]:
    """Read the files and write studies/STUDY.yaml.

    Args:
        paths: files and folders of the project.
        options: `training_tokens` and `seeds_from_folders` (study/imports.py).

    Returns:
        `study` (its path), `rows`, `saes`, and `files`: what became of each.

    Raises:
        AssayError: no file can be imported, or the study is there already or would be impossible.
    """
    from tqdm import tqdm

    from sae_assay.study import from_files
    from sae_assay.tables import imports, saebench

    def bar(files: list[Any]) -> Any:
        return tqdm(files, desc="result files", disable=None)

    found = imports.read(paths, (study, substrate), saebench.Options(**options), bar)
    table = imports.table(found)
    section = {"paths": list(paths), **{key: value for key, value in options.items() if value}}
    path = from_files.write(study, substrate, section, table)
    account = [source.entry() for source in found]
    return {"study": path.as_posix(), "rows": table.height, "saes": table["sae_id"].n_unique(), "files": account}


def import_saebench(
    paths: Annotated[list[Path], typer.Argument(help="SAEBench's result files, or folders that hold them.")],
    study: Annotated[str, typer.Option("--study", help="The new study: studies/NAME.yaml is written.")],
    substrate: Annotated[str, typer.Option("--substrate", help="What the SAEs were scored on, such as gemma-2-2b.")],
    training_tokens: Annotated[
        int | None, typer.Option("--training-tokens", help="Snapshots that have seen so many are finished SAEs.")
    ] = None,
    seeds_from_folders: Annotated[
        bool,
        typer.Option("--seeds-from-folders", help="A file without a seed takes it from a folder seed_42 above it."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Make a study of scores that others computed; then `snakemake --config study=NAME` audits them like our own.

    Covers core, sparse_probing, sae-probes, tpp, scr, absorption, ravel and autointerp. A file is imported whole or skipped,
    and the problem printed. Exit 0: all imported. 1: some were skipped. 2: none could be, or the study is there already.

    Example: sae-assay import-saebench data/imported/panels --study panels --substrate gemma-2-2b --training-tokens 1500000000
    """
    options = {"training_tokens": training_tokens, "seeds_from_folders": seeds_from_folders}
    done = import_files([path.as_posix() for path in paths], study, substrate, options)
    lines = [f"skipped {one['file']}: {one['problem']}" for one in done["files"] if one["status"] == "skipped"]
    imported = len(done["files"]) - len(lines)
    lines += [
        f"{imported} files with {done['rows']} scores of {done['saes']} SAEs: uv run snakemake --config study={study}"
    ]
    typer.echo(json.dumps(done, sort_keys=True) if as_json else "\n".join(lines))
    raise typer.Exit(0 if imported == len(done["files"]) else 1)
