"""What an evaluation costs as its sizes grow: CPU seconds, peak memory and bytes of every stage, and fitted exponents.

    uv run python benchmarks/scale.py [--json] [--sizes features latents] [--toy]

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
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scale_fit import Fit
    from scale_stages import Sizes

ROOT = Path(__file__).parents[1]
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
    parser.add_argument("--json", action="store_true", help="points, fits and extrapolations as JSON")
    parser.add_argument("--profile", default="portable", choices=["portable", "native"], help="arithmetic of the jobs")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.inside:  # the libraries read their variables when they load
        sys.path.insert(0, str(ROOT / "src"))
        from sae_assay.ledger.environment import process_environment

        paths = os.pathsep.join([str(ROOT / "src"), *sys.path[1:]])
        variables = process_environment(chosen.profile, 1) | {"PYTHONPATH": paths}
        os.execvpe(sys.executable, [sys.executable, *sys.argv, "--inside"], variables)
    found = measure(TOY if chosen.toy else {name: SWEEPS[name] for name in chosen.sizes}, chosen.toy)
    print(json.dumps(found, indent=1) if chosen.json else report(found))


def measure(sweeps: dict[str, list[int]], toy: bool) -> dict[str, Any]:
    """Measured points, fits by cost and size, and extrapolations."""
    import scale_stages as stages

    base = stages.Sizes(**TOY_BASE) if toy else stages.Sizes()
    points = {base: {}} | {replace(base, **{name: size}): {} for name, sizes in sweeps.items() for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        stages.say("building worlds")
        built = stages.alone(stages.build_worlds, list(points), Path(folder))["seconds"]
        prepared: dict[Sizes, dict[str, float]] = {}
        for point in _mixed(list(points)):
            without_sae = replace(point, latents=base.latents)
            if without_sae not in prepared:
                world = {"seconds: world built": built[f"{point.features} {point.d_in}"]}
                prepared[without_sae] = world | _costs(without_sae, Path(folder), stages.draw, stages.prepare)
            points[point] = prepared[without_sae] | _costs(point, Path(folder), stages.score)
    fits = fitted(base, points, sweeps)
    apart = _apart(base, toy)
    return {
        "base": asdict(base),
        "points": [{"sizes": asdict(point), "costs": costs} for point, costs in points.items()],
        "fits": {cost: {size: _plain(law) for size, law in laws.items()} for cost, laws in fits.items()},
        "apart": apart,
        "extrapolated": {name: _extrapolated(base, points[base], target, fits) for name, target in TARGETS.items()},
    }


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


def fitted(
    base: Sizes, points: dict[Sizes, dict[str, float]], sweeps: dict[str, list[int]]
) -> dict[str, dict[str, Fit]]:
    """The law of every cost in every size that moved."""
    from scale_fit import fit

    laws: dict[str, dict[str, Fit]] = {}
    for cost in points[base]:
        for name, sizes in sweeps.items():
            costs = [points[replace(base, **{name: size})][cost] for size in sizes]
            laws.setdefault(cost, {})[name] = fit(sizes, costs)
    return laws


def _apart(base: Sizes, toy: bool) -> dict[str, Any]:
    """Costs with runs of their own, by the number of directions, and their fits."""
    import scale_stages as stages
    from scale_fit import fit

    stages.say("orthogonalising and matching random directions")
    orthogonalised, matched = ([64, 128, 256, 512],) * 2 if toy else (ORTHOGONALISED, MATCHED)
    seconds = stages.alone(stages.orthogonalise, orthogonalised, base.d_in, STEPS)["seconds"]
    runs = [stages.alone(stages.match_random, n, base.d_in) for n in matched]
    measured = {
        "seconds: orthogonalisation, a step": (orthogonalised, [seconds[str(n)] for n in orthogonalised]),
        "seconds: matching, random": (matched, [run["seconds"]["matching"] for run in runs]),
        "peak MiB: matching, random": (matched, [run["peak_mib"] for run in runs]),
    }
    return {cost: {"sizes": x, "costs": y, "fit": _plain(fit(x, y))} for cost, (x, y) in measured.items()}


def _extrapolated(
    base: Sizes, measured: dict[str, float], target: dict[str, int], fits: dict[str, dict[str, Fit]]
) -> dict[str, Any]:
    """Each cost at the target and its interval; none where a size of the target was not moved or not fitted."""
    from scale_fit import extrapolated

    found = {}
    for cost, laws in fits.items():
        if measured[cost] > 0 and all(name in laws and laws[name].kind != "unfit" for name in target):
            sizes = {name: asdict(base)[name] for name in target}
            found[cost] = extrapolated(measured[cost], sizes, dict(target), laws)
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
    rows = [["cost apart", "sizes", "costs", "exponent"]]
    for cost, run in found["apart"].items():
        costs = " ".join(f"{value:.3g}" for value in run["costs"])
        rows.append([cost, " ".join(map(str, run["sizes"])), costs, _law(run["fit"])])
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
