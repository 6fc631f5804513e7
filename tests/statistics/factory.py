"""Synthetic, structured score tables for tests of statistics, charts and the report: no SAE stands behind them.

`score_table(...)` gives the collected table of a world (5 architectures x 5 target L0, replicates, controls, trajectories)
and of a language model; `write_tables(dir)` writes the tables as the workflow does; `CONFIG` is the statistics step's
parameters; `marts(dir)` runs every statistic on them and returns the folder of marts:

    from tests.statistics.factory import marts
    folder = marts(tmp_path)          # folder / "reseed_noise.parquet", ...

Known by construction: `sparse_probing` follows the truth with little noise, `tpp` follows L0 and is noisy, `scr` is undefined
for some tasks, `known_validity` is MCC plus noise, `pure_noise` is noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sae_assay.tables import anatomy as collected
from sae_assay.tables import scores

ARCHS = ("batchtopk", "jumprelu", "matching_pursuit", "matryoshka", "standard")
L0S = (4, 6, 8, 10, 12)
SEEDS = (42, 123, 456)
STEPS = (1, 3, 10, 30, 100, 300, 976)
QUALITY = {"batchtopk": 0.72, "jumprelu": 0.70, "matching_pursuit": 0.55, "matryoshka": 0.78, "standard": 0.45}
CONTROLS = ("best", "permuted_decoder", "random_init", "random_l0_matched")

CONFIG: dict[str, Any] = {
    "scorecard": {
        "primary": {
            "sparse_probing": {"component": "accuracy", "hp": 5, "mode": None, "truth": "f1"},
            "tpp": {"component": "score", "hp": 10, "mode": "saebench", "truth": "mcc"},
            "scr": {"component": "score", "hp": 10, "mode": "saebench", "truth": "mcc"},
            "sae_probes": {"component": "auc", "hp": 5, "mode": "saebench", "truth": "f1"},
            "known_validity": {"component": "score", "hp": None, "mode": None, "truth": "mcc"},
            "pure_noise": {"component": "score", "hp": None, "mode": None, "truth": "mcc"},
        },
        "thresholds": {"repeatable": 0.9, "discriminating": 0.8, "improving": 0.0, "valid": 0.6, "sane": 0.0},
        "confidence": 0.95,
    },
    "decay_fraction": {"mini": 0.2, "smollm2": 0.2},
    "best_kept": {"mini": 16},
    "families": {"mini": "mini"},
}


def _sae(substrate: str, arch: str | None, l0: float | None, seed: int | None, **more: Any) -> dict[str, Any]:
    name = f"{arch}_l0_{int(l0):02d}_seed_{seed}" if arch and l0 else more["control"]
    blank = {"variant": None, "step": None, "tokens": None, "is_final": True, "control": None, "base_sae_id": None}
    card = {"substrate": substrate, "panel": "panel", "sae_id": name, "arch": arch, "target_l0": l0}
    return {"study": "factory", **card, "training_seed": seed, **blank, **more}


def saes(substrate: str = "mini") -> list[dict[str, Any]]:
    """Cards of the panel, replicates, controls and snapshots of a substrate."""
    if substrate == "smollm2":
        finished = [_sae(substrate, arch, 16.0, 0) for arch in ("batchtopk", "matryoshka")]
        replicated = {card["sae_id"] for card in finished}
    else:
        finished = [_sae(substrate, arch, float(l0), 0) for arch in ARCHS for l0 in L0S]
        finished += [_sae(substrate, arch, 8.0, seed) for arch in ("batchtopk", "matryoshka") for seed in (1, 2)]
        replicated = {f"{arch}_l0_08_seed_{seed}" for arch in ("batchtopk", "matryoshka") for seed in (0, 1, 2)}
    cards = []
    for card in finished:
        if card["sae_id"] not in replicated:
            cards.append(card)
            continue
        last = STEPS[-1]
        cards.append({**card, "step": last, "tokens": last * 1024})
        for step in STEPS[:-1]:
            snapshot = f"{card['sae_id']}.step_{step:07d}"
            more = {"panel": "trajectory", "step": step, "tokens": step * 1024, "is_final": False, "sae_id": snapshot}
            cards.append({**card, **more})
    return cards + (_controls(substrate) if substrate == "mini" else [])


def _controls(substrate: str) -> list[dict[str, Any]]:
    cards = [_sae(substrate, None, None, None, panel="control", control="oracle")]
    for base in ("batchtopk", "standard"):
        base_id = f"{base}_l0_08_seed_0"
        for kind in CONTROLS:
            more = {"panel": "control", "control": kind, "base_sae_id": base_id, "sae_id": f"{kind}.of.{base_id}"}
            cards.append({**_sae(substrate, base, 8.0, 0), **more})
    return cards


def truth(card: dict[str, Any], rng: np.random.Generator) -> dict[str, float]:
    """Made-up ground truth of an SAE; it rises through training and falls away from an architecture's best L0."""
    if card["control"] == "oracle":
        return {"mcc": 1.0, "f1": 0.99, "explained_variance": 0.9, "l0": 8.0, "dead_latents": 0.0}
    quality = QUALITY[card["arch"]] - 0.004 * abs(card["target_l0"] - 9) + rng.normal(0, 0.03)
    progress = 1.0 if card["is_final"] else np.log(card["step"]) / np.log(STEPS[-1])
    mcc = 0.15 + (quality - 0.15) * progress
    factor = {"random_init": 0.2, "random_l0_matched": 0.2, "best": 0.6, "permuted_decoder": 1.0}.get(
        card["control"], 1.0
    )
    f1 = factor * (mcc - 0.05 + rng.normal(0, 0.02))
    f1 = 0.1 if card["control"] == "permuted_decoder" else f1
    ev = 0.5 + 0.02 * card.get("target_l0", 8) * progress
    return {
        "mcc": factor * mcc,
        "f1": f1,
        "explained_variance": ev,
        "l0": card["target_l0"] * 1.02,
        "dead_latents": 3.0,
    }


def _rows(
    card: dict[str, Any], seed: int, noise: np.random.Generator, about: dict[str, float]
) -> Iterator[dict[str, Any]]:
    shared = np.random.default_rng(seed)  # what a seed does to every SAE alike
    shift = dict.fromkeys(("sparse_probing", "tpp", "scr"), 0.0) | {"tpp": shared.normal(0, 0.01)}
    blank = {"hp_name": None, "hp_value": None, "mode": None, "direction": None, "n_train": None, "n_test": None}
    lone = {**blank, "task": "__all__", "task_kind": None, "eval_seed": seed}
    if card["substrate"] == "mini":
        for component, value in about.items():
            moved = value + noise.normal(0, 1e-3) if component == "f1" else value
            yield {**lone, "metric": "ground_truth", "component": component, "value": moved}
        yield {**lone, "metric": "known_validity", "component": "score", "value": about["mcc"] + noise.normal(0, 0.01)}
        yield {**lone, "metric": "pure_noise", "component": "score", "value": noise.normal(0, 0.1)}
    quality = about["f1"]
    for kind in ("in", "out"):
        for number in range(3):
            row = {**lone, "task": f"{kind}_{number}", "task_kind": kind, "n_train": 512, "n_test": 400}
            probing = 0.55 + 0.4 * quality * (kind == "in") + 0.02 * number + noise.normal(0, 0.01)
            for k_probe, gain in ((1, -0.03), (5, 0.0)):
                hp = {"hp_name": "k_probe", "hp_value": k_probe}
                accuracy = min(probing + gain, 1.0)
                yield {**row, **hp, "metric": "sparse_probing", "component": "accuracy", "value": accuracy}
                if card["substrate"] == "smollm2":
                    more = {"metric": "sae_probes", "component": "auc", "mode": "saebench"}
                    yield {**row, **hp, **more, "value": min(probing + gain + 0.02, 1.0)}
            for n in (10, 50):
                for mode in ("saebench", "strict"):
                    hp = {"hp_name": "n", "hp_value": n, "mode": mode}
                    score = 0.05 + 0.01 * card.get("target_l0", 8) * quality if card["arch"] else 0.3
                    score += shift["tpp"] + noise.normal(0, 0.03)
                    yield {**row, **hp, "metric": "tpp", "component": "score", "value": score, "n_test": 26}
                    if kind == "in" and card["substrate"] == "mini":
                        undefined = number == 2 and seed == SEEDS[0]
                        scr = {**row, **hp, "metric": "scr", "component": "score", "task_kind": "in-in", "n_test": 200}
                        if undefined:
                            status = {"status": "undefined_denominator", "reason": "clean - original < 0.001"}
                            yield {**scr, **status, "value": None}
                        else:
                            yield {**scr, "value": 0.3 * quality + noise.normal(0, 0.1)}
    if card["substrate"] == "mini":
        yield from _repaired(lone, quality, noise)


def _repaired(lone: dict[str, Any], quality: float, noise: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Modes that repair one fault: TPP's ties make it follow the truth, its epoch nothing; SCR's cells halve its noise."""
    hp = {"hp_name": "n", "hp_value": 10, "component": "score"}
    for kind in ("in", "out"):
        for number in range(3):
            row = {**lone, **hp, "task": f"{kind}_{number}", "n_train": 512}
            score = {"fix_ties": 0.1 + 0.4 * quality, "fix_epoch": 0.2}
            for mode, mean in score.items():
                tpp = {"metric": "tpp", "task_kind": kind, "n_test": 26, "mode": mode}
                yield {**row, **tpp, "value": mean + noise.normal(0, 0.03)}
            if kind == "in":
                scr = {"metric": "scr", "task_kind": "in-in", "n_test": 200, "mode": "fix_cells"}
                yield {**row, **scr, "value": 0.3 * quality + noise.normal(0, 0.05)}


def score_table(
    seed: int = 0,
    substrates: tuple[str, ...] = ("mini", "smollm2"),
    seeds: tuple[int, ...] = SEEDS,
    source: bool = True,
) -> pl.DataFrame:
    """A collected score table; equal arguments give equal tables.

    Args:
        seed: draws another table.
        substrates: "mini" (a world with controls and truth) and / or "smollm2" (a language model).
        seeds: evaluation seeds.
        source: add the column of the collected table.
    """
    rows = []
    for substrate in substrates:
        for number, card in enumerate(saes(substrate)):
            about = truth(card, np.random.default_rng([seed, number]))
            for eval_seed in seeds:
                noise = np.random.default_rng([seed, number, eval_seed])
                for row in _rows(card, eval_seed, noise, about):
                    full = {**card, "status": "ok", "reason": None, **row}
                    full["source"] = f"results/scores/factory/{substrate}/{card['sae_id']}/{eval_seed}.parquet"
                    rows.append(full)
    schema = scores.TABLE_SCHEMA if source else scores.SCHEMA
    table = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
    return scores.check(table, "factory").sort(scores.KEY)


ANATOMY_SOURCES = ["data", "tasks", "split", "probe", "negatives"]
ANATOMY_COMMON = {"data": 0.03, "tasks": 0.02, "split": 0.01, "probe": 0.0, "negatives": 0.0}
ANATOMY_RELATIVE = {"data": 0.01, "tasks": 0.004, "split": 0.0, "probe": 0.002, "negatives": 0.02}
"""SDs of a simulated score; `probe` moves no common shift, `split` nothing but it."""
ANATOMY_RESAMPLED = (0.025, 0.012)


def recalibrated(table: pl.DataFrame) -> pl.DataFrame:
    """The snapshots of a table a second time, recalibrated: every score moved by a noise of its own."""
    steps = table.filter(pl.col("step").is_not_null()).sort(scores.KEY)
    moved = np.random.default_rng(3).normal(-0.02, 0.01, steps.height)
    return steps.with_columns(
        base_sae_id="sae_id",
        sae_id=pl.col("sae_id").str.replace(r"(\.step_|$)", ".recalibrated$1"),
        panel=pl.lit("trajectory"),
        value=(pl.col("value") + moved).clip(0, 1),
    )


def anatomy(
    blocks: int, saes: int = 3, resamples: int = 4, seed: int = 0, tasks: int = 2, inert: tuple[str, ...] = ()
) -> dict[str, pl.DataFrame]:
    """The tables of an anatomy of one metric, TPP in mode strict on `in` tasks, with effects that add up."""
    rng = np.random.default_rng(seed)
    design = [{"substrate": "mini", "sources": ANATOMY_SOURCES, "blocks": blocks, "resamples": resamples}]
    points = collected.points(design)
    effects: dict[tuple[str, int], np.ndarray] = {}
    for source in ANATOMY_SOURCES:
        sd = (0.0, 0.0) if source in inert else (ANATOMY_COMMON[source], ANATOMY_RELATIVE[source])
        for level in range(2 * blocks):
            effects[source, level] = rng.normal(0, sd[0]) + rng.normal(0, sd[1], saes)
    rows = []
    for point in points.to_dicts():
        value = 0.3 + sum(effects[source, point[source]] for source in ANATOMY_SOURCES)
        if point["resample"] is not None:
            value = value + rng.normal(0, ANATOMY_RESAMPLED[0]) + rng.normal(0, ANATOMY_RESAMPLED[1], saes)
        for i in range(saes):
            for task in range(tasks):
                offset = 0.1 * (task - (tasks - 1) / 2)
                rows.append(_point(f"batchtopk_l0_{i:02d}_seed_0", point["eval_seed"], f"in_{task}", value[i] + offset))
    schema = scores.TABLE_SCHEMA
    table = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
    return {"anatomy": scores.check(table, "simulated").sort(scores.KEY), "points": points}


def _point(sae: str, point: int, task: str, value: float | None, **more: Any) -> dict[str, Any]:
    about = {"study": "s", "substrate": "mini", "panel": "panel", "sae_id": sae, "is_final": True, "source": "x"}
    cell = {"metric": "tpp", "component": "score", "hp_name": "n", "hp_value": 10, "mode": "strict"}
    return {
        **about,
        **cell,
        "task": task,
        "task_kind": "in",
        "eval_seed": point,
        "value": value,
        "status": "ok",
        **more,
    }


def write_tables(folder: Path, table: pl.DataFrame | None = None, repeats: pl.DataFrame | None = None) -> Path:
    """Write scores, saes, tasks, coverage and repeats below `folder`, as the table step does; returns the folder."""
    from sae_assay.tables import collect

    folder.mkdir(parents=True, exist_ok=True)
    table = score_table() if table is None else table
    repeats = table.clear() if repeats is None else repeats
    for name, content in collect.tables(table, repeats, planned=None).items():
        scores.write_pinned(content, folder / f"{name}.parquet")
    return folder


def marts(folder: Path, table: pl.DataFrame | None = None, config: dict[str, Any] | None = None) -> Path:
    """Run every statistic on a table (the default one unless given), its snapshots recalibrated too, and on an anatomy.

    Returns the folder of marts.
    """
    from sae_assay.statistics import runner

    out = folder / "statistics"
    table = score_table() if table is None else table
    written = write_tables(folder / "table", pl.concat([table, recalibrated(table)]))
    for name, content in anatomy(12).items():
        scores.write_pinned(content, written / f"{name}.parquet")
    runner.run_all(written, out, config or CONFIG)
    return out
