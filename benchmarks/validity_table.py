"""What `benchmarks/validity.py` adds up and prints."""

from __future__ import annotations

from typing import Any

METRICS = ("ground_truth", "sparse_probing", "sae_probes", "tpp", "scr")
PANEL_SAES, PANEL_SEEDS = 35, 5
STUDY_ROWS = 10_000  # steps/evaluation_set.py's SAMPLE_ROWS


def summary(found: dict[str, Any], prepared: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Seconds per line, side and SAE, and their ratios.

    Args:
        found: per side (`peer`, `ours`) and SAE the seconds of each stage.
        prepared: seconds of our stages per evaluation seed.
        data: the reference's `data_generation` seconds.
    """
    archs = list(found["ours"])
    peer = {arch: _peer_lines(found["peer"][arch]) for arch in archs}
    per_seed = {
        "ground_truth": prepared["sampling"],
        "probes": prepared["probes"],
        "rows": prepared["rows"] + prepared["files"],
    }
    shares = {line: seconds / len(archs) for line, seconds in per_seed.items()}
    ours = {arch: _our_lines(found["ours"][arch], shares) for arch in archs}
    lines = {line: {"peer": _sum(peer, line), "ours": _sum(ours, line)} for line in _lines(peer, ours)}
    total = {side: sum(row[side] for row in lines.values()) for side in ("peer", "ours")}
    rest = {side: total[side] - lines["ground_truth"][side] for side in total}
    encode = sum(found["ours"][arch]["encode"] for arch in archs)
    return {
        "ratio_total": total["peer"] / total["ours"],
        "ratio_without_ground_truth": rest["peer"] / rest["ours"],
        "ratio_without_our_sampling": total["peer"] / (total["ours"] - prepared["sampling"]),
        "ratio_with_data": (total["peer"] + data["data_generation"]) / (total["ours"] + prepared["data_generation"]),
        "seconds": total,
        "by_line": {line: {**row, "ratio": _ratio(row)} for line, row in lines.items()},
        "by_architecture": {
            arch: {"peer": (p := sum(peer[arch].values())), "ours": (o := sum(ours[arch].values())), "ratio": p / o}
            for arch in archs
        },
        "our_encode_seconds": encode,
        "our_encode_share": encode / total["ours"],
        "our_encode_share_without_sampling": encode / (total["ours"] - prepared["sampling"]),
        "stages": {"peer": found["peer"], "ours": found["ours"], "ours_per_seed": prepared},
        "data_generation": {
            "peer": data["data_generation"],
            "ours": prepared["data_generation"],
            "peak_mib": data["peak_mib"],
        },
        "peak_mib": {side: max(stages["peak_mib"] for stages in found[side].values()) for side in found},
        "projection": _projection(found["ours"], total, per_seed),
        "as_studied": _as_studied(found["ours"], total, prepared["sampling"]),
    }


def _peer_lines(stages: dict[str, float]) -> dict[str, float]:
    lines = {stage: stages[stage] for stage in METRICS}
    return {**lines, "encode": stages["pool_encode"], "files": stages["rest"]}


def _our_lines(stages: dict[str, float], shares: dict[str, float]) -> dict[str, float]:
    """Stages as lines of the table: what encodes and matches for ground truth belongs to it; per seed, its share."""
    lines = {stage: stages[stage] for stage in METRICS}
    lines["ground_truth"] = _ground_truth(stages) + shares["ground_truth"]
    return {
        **lines,
        "encode": stages["encode"] - _of_sample(stages),
        "probes": shares["probes"],
        "files": stages["files"] + stages["draws"] + shares["rows"],
    }


def _of_sample(stages: dict[str, float]) -> float:
    """Seconds of the encode pass on the sample of ground truth."""
    return stages["encode"] * stages["sample"] / stages["rows"]


def _ground_truth(stages: dict[str, float]) -> float:
    """Seconds of an SAE's ground truth, the sampling of its rows left out."""
    return stages["ground_truth"] + stages["matching"] + _of_sample(stages)


def _lines(peer: dict[str, dict[str, float]], ours: dict[str, dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(line for side in (peer, ours) for row in side.values() for line in row))


def _sum(side: dict[str, dict[str, float]], line: str) -> float:
    return sum(row.get(line, 0.0) for row in side.values())


def _ratio(row: dict[str, float]) -> float | None:
    return row["peer"] / row["ours"] if row["peer"] and row["ours"] else None


def _projection(ours: dict[str, Any], total: dict[str, float], per_seed: dict[str, float]) -> dict[str, Any]:
    """The panel's seconds if every SAE and seed costs what these cost on the mean. Not measured.

    The reference draws the rows of ground truth from one fixed seed, so that one sample serves every evaluation seed; yet it
    computes an SAE's ground truth anew at each. `ratio` does so on both sides, `kept` only on the reference's: an SAE's
    ground truth, the same at every seed, kept between them, which the pipeline does not do.
    """
    saes, scorings = len(ours), PANEL_SAES * PANEL_SEEDS
    truth = sum(map(_ground_truth, ours.values())) / saes
    each = (total["ours"] - sum(per_seed.values())) / saes - truth
    shared = per_seed["ground_truth"] + PANEL_SEEDS * (per_seed["probes"] + per_seed["rows"])
    peer, found = total["peer"] / saes * scorings, scorings * (truth + each) + shared
    return {
        "what": f"projection, not measured: {PANEL_SAES} SAEs x {PANEL_SEEDS} evaluation seeds at these SAEs' mean cost",
        "peer": peer,
        "ours": found,
        "ratio": peer / found,
        "kept": peer / (PANEL_SAES * truth + scorings * each + shared),
    }


def _as_studied(ours: dict[str, Any], total: dict[str, float], sampling: float) -> dict[str, Any]:
    """The ratio if ground truth is measured on as many rows as a study measures it on here, rows of the pool itself."""
    spared = sampling
    for stages in ours.values():
        spared += (_of_sample(stages) + stages["ground_truth"]) * (1 - STUDY_ROWS / stages["sample"])
    what = f"estimate, not like for like: ground truth on {STUDY_ROWS:,} rows of the pool, as the pipeline's studies have it"
    return {"what": what, "ours": total["ours"] - spared, "ratio": total["peer"] / (total["ours"] - spared)}


TITLES = {
    "ground_truth": "ground truth, its sampling and encoding",
    "sparse_probing": "sparse probing, fits",
    "sae_probes": "sae-probes (L2), fits",
    "tpp": "TPP",
    "scr": "SCR",
    "encode": "encoding the tasks' rows",
    "probes": "probes of TPP and SCR (peer: within TPP, SCR)",
    "files": "files, splits, draws",
}


DIFFERENCES = {
    "cells": "same draws (probing: the reference's latents and C, its fits run to their optimum)",
    "as_run": "probing, the reference's latents and C, its fits as its solver leaves them",
    "own_choices": "probing, our own choice of latents and C",
}


def show(result: dict[str, Any]) -> str:
    """The table."""
    rows = [f"{'CPU seconds, all SAEs':48} {'peer':>9} {'ours':>8} {'ratio':>7}"]
    for line, row in result["by_line"].items():
        rows.append(_row(TITLES[line], row["peer"], row["ours"], row["ratio"]))
    rows.append(_row("total", **result["seconds"], ratio=result["ratio_total"]))
    for arch, row in result["by_architecture"].items():
        rows.append(_row(f"  {arch}", row["peer"], row["ours"], row["ratio"]))
    if result["reused"]:
        rows.append(f"the reference's seconds and scores are an earlier run's for: {', '.join(result['reused'])}")
    rows.append(f"without ground truth: {result['ratio_without_ground_truth']:.1f} x")
    rows.append(f"without our sampling of its rows: {result['ratio_without_our_sampling']:.1f} x")
    share, rest = result["our_encode_share"], result["our_encode_share_without_sampling"]
    rows.append(f"encode pass: {share:.0%} of our seconds, {rest:.0%} of those without sampling")
    data, peak = result["data_generation"], result["peak_mib"]
    rows.append(
        f"not in these, one seed's pool and tasks: peer {data['peer']:.0f} s, ours {data['ours']:.1f} s; "
        f"with them {result['ratio_with_data']:.1f} x"
    )
    rows.append(f"peak memory of the peer's: {data['peak_mib']} MiB")
    rows.append(f"peak memory of a scoring process: peer {peak['peer']} MiB, ours {peak['ours']} MiB")
    projected = result["projection"]
    rows.append(
        f"{projected['what']}: {projected['peer']:,.0f} / {projected['ours']:,.0f} s = {projected['ratio']:.1f} x"
    )
    rows.append(f"  if our ground truth, the same at every seed, were kept between seeds: {projected['kept']:.1f} x")
    studied = result["as_studied"]
    rows.append(f"{studied['what']}: {studied['ratio']:.1f} x")
    for part, what in DIFFERENCES.items():
        rows.append(f"largest difference, {what}:")
        rows += [f"  {metric:16} {_difference(cells)}" for metric, cells in result[part].items()]
    return "\n".join(rows)


def _difference(cells: dict[str, Any]) -> str:
    counts = f"{cells['different']} of {cells['compared']} cells differ, {cells['above_1e-3']} by more than 0.001"
    return f"{cells['max']:.2g}; {counts}; of a mean over tasks {cells['mean_scores']:.2g}"


def _row(title: str, peer: float, ours: float, ratio: float | None) -> str:
    return f"{title:48} {peer:9.1f} {ours:8.1f} {'' if ratio is None else f'{ratio:7.1f}'}"
