"""A trace in words, for the terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

FIRST = 5
RunFacts = dict[str, Any]


def describe(found: dict[str, Any]) -> str:
    """The chain of `trace.trace` as lines, from the page down to the inputs."""
    cell, source = found["cell"], found["source"]
    lines = [f"{cell.get('shown', cell['id'])}", *_at("shown at", found["places"] or ["nowhere on the page"])]
    if source["kind"] == "chart":
        lines += _at("chart data", [f"{source['path']}  SHA-256 {source['sha256']}"])
        for mart, one in found["sources"].items():
            lines += _at("drawn from", [f"{one['path'] if one else mart}  query {one['sql'] if one else 'unknown'}"])
        return "\n".join([*lines, *_runs(found["runs"]), *_at("recompute", found["recompute"])])
    row = ", ".join(f"{name} = {value}" for name, value in cell["key"].items() if value is not None)
    lines += _at("cell", [cell["id"], f"column {cell['column']} of table {cell['mart']}, row {row}"])
    lines += _at(
        "exact value", [_value(cell["raw"]), f"format {cell['format']}, shown as {cell['shown']}, tolerance: none"]
    )
    if source["kind"] == "published":
        row = found["published"]
        hand = f"A published number, not computed here: {row['confidence']}, of {row['substrate']}"
        texts = [f"{source['path']}  SHA-256 {source['sha256']}", hand + (f"; {row['note']}" if row["note"] else "")]
        return "\n".join([*lines, *_at("source", texts)])
    if source["kind"] == "measured":
        text = f"{source['path']}  SHA-256 {source['sha256']}"
        return "\n".join([*lines, *_at("source", [text, "Measured by a benchmark beside the study; no job made it."])])
    if source["kind"] == "design":
        declared = f"{source['path']}  SHA-256 {source['sha256']}"
        return "\n".join([*lines, *_at("source", [declared, "A choice of the study or a constant of the method."])])
    return "\n".join([*lines, *_computed(found)])


def _computed(found: dict[str, Any]) -> list[str]:
    source, witness = found["source"], found["witness"]
    verdict = (
        "equal bit by bit" if found["value"]["equal"] else f"DIFFERS: the queries now give {found['value']['raw']}"
    )
    lines = _at("table", [f"{source['path']}  SHA-256 {source['sha256']}", f"recomputed just now: {verdict}"])
    lines += _at("query", [f"{source['sql']}  SHA-256 with all that it needs {source['sql_sha256']}"])
    lines += _at("it needs", [", ".join(q["step"] for q in found["queries"][:-1]) or "no other step"])
    lines += _at("reads", [f"{name}  SHA-256 {sha}" for name, sha in source["tables"].items()])
    rows = witness["table"]
    lines += _at("witness", [f"{witness['rows']:,} score rows; SHA-256 of their ids {witness['ids_sha256']}"])
    lines += _at("", [_row(row) for row in rows.head(FIRST).to_dicts()])
    if rows.height > FIRST:
        lines += _at("", [f"... and {rows.height - FIRST:,} more: --rows lists them all"])
    files = found["score_files"]
    lines += _at(
        "score files", [f"{len(files)} files", *(f"{f['path']}  SHA-256 {f['sha256']}" for f in files[:FIRST])]
    )
    lines += _runs(found["runs"])
    lines += _at(
        "inputs",
        [f"{path}  SHA-256 {sha}" for path, sha in sorted(found["inputs"].items())] or ["none but seeds and settings"],
    )
    if found["missing"]:
        lines += _at("UNEXPLAINED", [f"{path}: no record has this content" for path in found["missing"]])
    return [*lines, *_at("recompute", found["recompute"])]


def _at(name: str, texts: list[str]) -> list[str]:
    return [f"{name if i == 0 else '':12} {text}" for i, text in enumerate(texts)]


def _value(raw: str | None) -> str:
    if raw is None:
        return "null"
    try:
        return f"{float.fromhex(raw)!r} = {raw}" if raw.lstrip("-").startswith("0x") else raw
    except ValueError:
        return raw


def _row(row: dict[str, Any]) -> str:
    setting = f" {row['hp_name']}={row['hp_value']}" if row["hp_name"] else ""
    place = "point" if row["source"].startswith("results/anatomy/") else "seed"
    what = (
        f"{row['sae_id']}  {place} {row['eval_seed']}  {row['metric']}.{row['component']}{setting}  task {row['task']}"
    )
    return f"{what}  {row['value'] if row['status'] == 'ok' else row['status']}  [{row['score_id'][:12]}]"


def _runs(runs: list[RunFacts]) -> list[str]:
    """A line a rule, then the commits, machines and environments of all."""
    lines = []
    for rule, count in Counter(run["rule"] for run in runs).items():
        some = [run for run in runs if run["rule"] == rule]
        first, seconds = some[0], sum(run["duration_ms"] for run in some) / 1000
        seeds = "; ".join(f"{name} {value}" for name, value in first["seeds"].items() if name != "seeds")
        about = " ".join(f"{name}={value}" for name, value in first["wildcards"].items())
        lines.append(
            f"{rule} x {count}{f' (first {about})' if about else ''}, {seconds:.0f} s, run {first['run_id'][:12]}, "
            f"code {first['code_sha256'][:12]} ({first['code_files']} files){f', {seeds}' if seeds else ''}"
        )
    common = {(run["commit"], run["dirty"], run["cpu"], run["environment"]) for run in runs}
    under = [
        f"commit {commit[:12] if commit else 'none'}{' with edits' if dirty else ''}, {cpu}, environment {environment[:12]}"
        for commit, dirty, cpu, environment in sorted(common, key=str)
    ]
    return [*_at("jobs", lines or ["no recorded job"]), *(_at("made at", under) if under else [])]
