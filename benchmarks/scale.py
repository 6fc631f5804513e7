"""What an evaluation costs as its sizes grow: CPU seconds, peak memory and bytes of every stage, and fitted exponents.

    uv run python benchmarks/scale.py [--json] [--sizes features latents] [--toy]
    uv run python benchmarks/scale.py --read FIRST.json SECOND.json     fit what runs with --json measured; measure nothing

One size moves at a time, the others stay at the base (`scale_stages.Sizes`): features of the world, latents of the SAE,
width of a row, rows of a pool, tasks, evaluation seeds. Each point runs the workflow's own functions in three fresh
processes, as the workflow does: rows and tasks, evaluation set (both once for all SAEs), scoring. Seconds are user and
system time on one thread; points run in a mixed order.

Worlds are not made orthogonal and SAEs are stand-ins (noisy copies of features), so no score is shown. Two costs have
runs of their own: orthogonalising a dictionary (per step; a world takes 100), and the matching of directions that have
nothing in common, for which the stand-ins are too easy a case.

The table has a row per stage and a column per size. `1.02 ± 0.03` is the exponent of a power law and its standard error;
`a + 1.9 ± 0.1` one beside a fixed cost; `flat` is growth that cannot be told from none; `< 0.8` bends down at the upper
end, where something fills up (rows of a task, say). Below stand costs at two large targets, EXTRAPOLATED: the base's
cost times each size's ratio under its fit, with the interval (95 %) that the fits give and the assumptions do not.
Everything takes some six minutes of CPU; progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scale_fit import Fit
    from scale_stages import Sizes

SWEEPS: dict[str, list[int]] = {
    "features": [1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072],
    "latents": [256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768],
    "d_in": [64, 128, 256, 512, 1024, 2048],
    "rows": [20_000, 40_000, 80_000, 160_000, 320_000],
    "tasks": [19, 38, 57, 76, 114],
    "seeds": [1, 2, 3, 4],
}
ORTHOGONALISED, STEPS = [512, 1024, 2048, 4096, 8192], 3
MATCHED = [512, 1024, 2048, 4096, 8192]
A_TASK = ("tpp", "scr")
"""Families whose usable tasks change with the sizes: their seconds count a task as well."""
FAR = 2**20
TARGETS = {
    "SAE of 1M latents, d_in 2,304": {"latents": 2**20, "d_in": 2304},
    "world of 1M features, d_in 768": {"features": 2**20, "d_in": 768},
}
TOY_BASE = {"features": 512, "latents": 128, "d_in": 32, "rows": 20_000, "tasks": 19}
TOY = {"latents": [64, 128, 256, 512]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SWEEPS, default=list(SWEEPS), help="which of them move")
    parser.add_argument(
        "--toy", action="store_true", help="small sizes, to see that it runs; its exponents mean nothing"
    )
    parser.add_argument("--read", nargs="+", metavar="JSON", help="earlier runs; of a point's seconds the least counts")
    parser.add_argument("--json", action="store_true", help="points, fits and extrapolations as JSON")
    parser.add_argument("--profile", default="portable", choices=["portable", "native"], help="arithmetic of the jobs")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.inside:
        from harness import restart

        restart(chosen.profile)
    runs = [json.loads(Path(path).read_text(encoding="utf-8")) for path in chosen.read or ()]
    sweeps = TOY if chosen.toy else {name: SWEEPS[name] for name in chosen.sizes}
    found = analysed(joined(runs) if runs else measure(sweeps, chosen.toy))
    print(json.dumps(found, indent=1) if chosen.json else report(found))


def measure(sweeps: dict[str, list[int]], toy: bool) -> dict[str, Any]:
    """The base, measured points and costs that have runs of their own."""
    import scale_stages as stages

    base = stages.Sizes(**TOY_BASE) if toy else stages.Sizes()
    points = dict.fromkeys([base, *(replace(base, **{name: n}) for name, sizes in sweeps.items() for n in sizes)])
    costs: dict[Sizes, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        stages.say("building worlds")
        built = stages.alone(stages.build_worlds, list(points), Path(folder))["seconds"]
        prepared: dict[Sizes, dict[str, float]] = {}
        for point in _mixed(list(points)):
            without_sae = replace(point, latents=base.latents)
            if without_sae not in prepared:
                world = {"seconds: world built": built[f"{point.features} {point.d_in}"]}
                prepared[without_sae] = world | _costs(without_sae, Path(folder), stages.draw, stages.prepare)
            costs[point] = prepared[without_sae] | _costs(point, Path(folder), stages.score)
    measured = [{"sizes": asdict(point), "costs": costs[point]} for point in points]
    return {"base": asdict(base), "points": measured, "apart": _apart(base, toy)}


def _mixed(points: list[Sizes]) -> list[Sizes]:
    """The points in an order without a trend, so that a machine that gets busier makes noise and no slope."""
    from sae_assay.seeds import numpy_generator

    return [points[i] for i in numpy_generator("benchmark", "scale", "order").permutation(len(points))]


def _costs(point: Sizes, folder: Path, *jobs: Callable[..., dict[str, Any]]) -> dict[str, float]:
    """Everything that jobs measured at one point, named `kind: what`."""
    import scale_stages as stages

    costs: dict[str, float] = {}
    for job in jobs:
        stages.say(f"{job.__name__}: " + ", ".join(f"{name} {size}" for name, size in asdict(point).items()))
        found = stages.alone(job, point, folder)
        for kind in ("seconds", "bytes", "counts"):
            costs |= {f"{kind}: {name}": value for name, value in found.get(kind, {}).items()}
        costs[f"peak MiB: {job.__name__}"] = found["peak_mib"]
    return costs


def _apart(base: Sizes, toy: bool) -> dict[str, Any]:
    """Costs with runs of their own, by the number of directions, and their fits."""
    import scale_stages as stages

    stages.say("orthogonalising and matching random directions")
    orthogonalised, matched = ([64, 128, 256, 512],) * 2 if toy else (ORTHOGONALISED, MATCHED)
    seconds = stages.alone(stages.orthogonalise, orthogonalised, base.d_in, STEPS)["seconds"]
    runs = [stages.alone(stages.match_random, n, base.d_in) for n in matched]
    return {
        "seconds: orthogonalisation, a step": _run(orthogonalised, [seconds[str(n)] for n in orthogonalised]),
        "seconds: matching, random": _run(matched, [run["seconds"]["matching"] for run in runs]),
        "peak MiB: matching, random": _run(matched, [run["peak_mib"] for run in runs]),
    }


def _run(sizes: list[int], costs: list[float]) -> dict[str, Any]:
    return {"sizes": sizes, "costs": costs}


# Fits ---------------------------------------------------------------------------------------------------------------
def joined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One run from several of the same sizes: the least of every cost, since a busy machine only adds."""
    first = runs[0]
    sizes = [[point["sizes"] for point in run["points"]] for run in runs]
    if any(found != sizes[0] for found in sizes):
        raise SystemExit("these runs have other sizes: join runs of the same command")
    points = [
        {"sizes": same[0]["sizes"], "costs": {c: min(point["costs"][c] for point in same) for c in same[0]["costs"]}}
        for same in zip(*(run["points"] for run in runs), strict=True)
    ]
    apart = {
        cost: _run(run["sizes"], [min(same) for same in zip(*(r["apart"][cost]["costs"] for r in runs), strict=True)])
        for cost, run in first["apart"].items()
    }
    return {"base": first["base"], "points": points, "apart": apart}


def analysed(measured: dict[str, Any]) -> dict[str, Any]:
    """The measured points with fits by cost and size, and extrapolations."""
    from scale_fit import extrapolated, fit

    base, found = measured["base"], measured["points"]
    for point in found:
        costs = point["costs"]
        for family in A_TASK:  # 0, which no law fits, where no task is usable
            count = costs[f"counts: {family}"]
            costs[f"seconds a task: {family}"] = costs[f"seconds: {family}"] / count if count else 0.0
    moving = {name: _line(found, base, name) for name in base}
    moving = {name: line for name, line in moving.items() if len(line) > 1}
    costs = next(point["costs"] for point in found if point["sizes"] == base)
    fits = {
        cost: {name: fit([n for n, _ in line], [at[cost] for _, at in line]) for name, line in moving.items()}
        for cost in costs
    }
    apart = {}
    for cost, run in measured["apart"].items():
        law, last = fit(run["sizes"], run["costs"]), float(run["sizes"][-1])
        far = extrapolated(law.at(last), {"n": last}, {"n": float(FAR)}, {"n": law})
        apart[cost] = run | {"fit": _plain(law), "extrapolated": far}
    return {
        **measured,
        "fits": {cost: {name: _plain(law) for name, law in laws.items()} for cost, laws in fits.items()},
        "apart": apart,
        "extrapolated": {name: _extrapolated(base, costs, target, fits) for name, target in TARGETS.items()},
    }


def _line(points: list[dict[str, Any]], base: dict[str, int], name: str) -> list[tuple[int, dict[str, float]]]:
    """Costs at the points that differ from the base in one size alone, by that size."""
    others = [key for key in base if key != name]
    line = [(p["sizes"][name], p["costs"]) for p in points if all(p["sizes"][key] == base[key] for key in others)]
    return sorted(line, key=lambda pair: pair[0])


def _extrapolated(
    base: dict[str, int], measured: dict[str, float], target: dict[str, int], fits: dict[str, dict[str, Fit]]
) -> dict[str, Any]:
    """Each cost that changes at the target, and its interval; none where a size of the target was not moved."""
    from scale_fit import extrapolated

    found = {}
    for cost, laws in fits.items():
        kinds = [laws[name].kind if name in laws else "unfit" for name in target]
        if not cost.startswith("counts") and "unfit" not in kinds and set(kinds) != {"flat"}:
            sizes = {name: float(base[name]) for name in target}
            found[cost] = extrapolated(measured[cost], sizes, {n: float(v) for n, v in target.items()}, laws)
    return found


def _plain(law: Fit) -> dict[str, Any]:
    return {name: value for name, value in asdict(law).items() if name != "covariance"}


# The table ----------------------------------------------------------------------------------------------------------
def report(found: dict[str, Any]) -> str:
    """The base, a table of exponents, the costs apart, and extrapolations, as text."""
    sizes = list(next(iter(found["fits"].values())))
    base = found["points"][0]["costs"]
    rows = [["cost", "at the base", *sizes]]
    rows += [[cost, f"{base[cost]:.4g}", *(_law(laws[size]) for size in sizes)] for cost, laws in found["fits"].items()]
    lines = ["base: " + ", ".join(f"{name} {size}" for name, size in found["base"].items()), "", *_table(rows), ""]
    rows = [["cost apart", "sizes", "costs", "exponent", f"EXTRAPOLATED to {FAR:,} (95 % of the fit)"]]
    for cost, run in found["apart"].items():
        costs = " ".join(f"{value:.3g}" for value in run["costs"])
        mid, low, high = run["extrapolated"]
        far = f"{mid:.3g} ({low:.3g} to {high:.3g})"
        rows.append([cost, " ".join(map(str, run["sizes"])), costs, _law(run["fit"]), far])
    lines += _table(rows)
    for target, costs in found["extrapolated"].items():
        rows = [["EXTRAPOLATED: " + target, "estimate", "95 % of the fits"]]
        rows += [[cost, f"{mid:.3g}", f"{low:.3g} to {high:.3g}"] for cost, (mid, low, high) in costs.items()]
        lines += ["", *_table(rows)]
    return "\n".join(lines)


def _law(law: dict[str, Any]) -> str:
    exponent = f"{law['exponent']:.2f} ± {law['error']:.2f}"
    return {"power": exponent, "fixed": "a + " + exponent, "bends": "< " + exponent}.get(law["kind"], law["kind"])


def _table(rows: Iterable[list[str]]) -> list[str]:
    """A Markdown table."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "|" + "---|" * (head.count("|") - 1), *body]


if __name__ == "__main__":
    main()
