"""Every step of a toy substrate: the same rules and files as a real one, without torch (fixture of the workflow's tests)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from sae_assay.saes import toy as saes
from sae_assay.seeds import numpy_generator
from sae_assay.worlds import toy as worlds


def run(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    """Run the step that `params["job"]` names; files as in the rule of the same name."""
    JOBS[params["job"]](inputs, outputs, params)


def world(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    built = worlds.build(params["world"])
    save_file({"features": built.features, "probabilities": built.probabilities}, outputs.weights)
    _write_json(outputs.card, {"kind": "toy", **params["world"]})


def samples(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    toy, sizes = _world(inputs.weights), params["samples"]
    x, _ = toy.sample(sizes["training_rows"], "training")
    save_file({"activations": x}, outputs.training)
    x, magnitudes = toy.sample(sizes["task_rows"], "tasks")
    save_file({"activations": x, "magnitudes": magnitudes}, outputs.task_pool)
    for seed, path in zip(params["evaluation_seeds"], outputs.pools, strict=True):
        x, magnitudes = toy.sample(sizes["pool_rows"], "pool", seed)
        save_file({"activations": x, "magnitudes": magnitudes}, path)


def tasks(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    _write_json(outputs.tasks, {"rows": len(load_file(inputs.task_pool)["activations"])})


def evaluation_sets(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    wanted = json.loads(Path(inputs.tasks).read_text(encoding="utf-8"))["rows"]
    for seed, pool_file, path in zip(params["evaluation_seeds"], inputs.pools, outputs.evaluations, strict=True):
        pool = load_file(pool_file)
        order = numpy_generator("toy", "split", seed).permutation(len(pool["activations"]))
        save_file({name: rows[np.sort(order[:wanted])] for name, rows in pool.items()}, path)


def train(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    x, training = load_file(inputs.training)["activations"], params["training"]
    last = training["samples"] // training["batch_size"]
    places = iter(zip(outputs.cards, outputs.weights, strict=True))
    for one in params["runs"]:
        steps = [*one["snapshot_steps"], last]
        trained = saes.train(x, params["d_sae"], one["l0"], steps, training["batch_size"], one["training_seed"])
        for step, sae in zip(steps, trained, strict=True):
            timed = {"step": step, "tokens": step * training["batch_size"]} if one["snapshot_steps"] else {}
            card = {"arch": one["arch"], "target_l0": one["l0"], "training_seed": one["training_seed"], **timed}
            _write_sae(sae, {**card, "is_final": step == last}, *next(places))


def controls(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    toy = _world(inputs.weights)
    bases = dict(zip(params["options"]["bases"], inputs.base_weights, strict=True))
    for one, card, weights in zip(params["controls"], outputs.cards, outputs.weights, strict=True):
        base = _read_sae(bases[one["base"] or params["options"]["bases"][0]])
        if one["kind"] == "oracle":
            sae = saes.ToySae(toy.features[: params["d_sae"]], base.k)
        elif one["kind"] == "random_init":
            sae = saes.random(params["d_sae"], toy.features.shape[1], base.k, one["id"])
        else:
            raise NotImplementedError(f"a toy substrate has no control {one['kind']}")
        about = {
            "arch": "toy",
            "target_l0": base.k,
            "control": one["kind"],
            "base_sae_id": one["base"],
            "is_final": True,
        }
        _write_sae(sae, about, card, weights)


def score(inputs: Any, outputs: Any, params: dict[str, Any]) -> None:
    import polars as pl  # only scoring pays for it

    from sae_assay.tables import scores

    toy, places = _world(inputs.world_weights), iter(outputs.scores)
    for one, card_file, weights in zip(params["saes"], inputs.cards, inputs.weights, strict=True):
        sae = _read_sae(weights)
        card = json.loads(Path(card_file).read_text(encoding="utf-8"))["metadata"]["sae_assay"]
        for seed, evaluation in zip(params["evaluation_seeds"], inputs.evaluations, strict=True):
            rows = load_file(evaluation)
            truth = saes.ground_truth(sae, toy.features, rows["activations"], rows["magnitudes"])
            found = {("ground_truth", name): value for name, value in truth.items()}
            for metric, base in (("known_validity", truth["mcc"]), ("pure_noise", 0.0)):
                noise = numpy_generator("toy", metric, one["id"], seed).normal(0, params["metrics"][metric]["tau"])
                found[metric, "score"] = base + noise
            head = {
                "study": params["study"],
                "substrate": params["substrate"],
                "sae_id": one["id"],
                "panel": one["panel"],
            }
            tail = {"task": scores.ALL_TASKS, "eval_seed": seed, "status": "ok"}
            table = [{**head, **card, "metric": m, "component": c, "value": v, **tail} for (m, c), v in found.items()]
            scores.write(pl.DataFrame(table, schema=scores.SCHEMA, orient="row"), next(places))


JOBS = {f.__name__: f for f in (world, samples, tasks, evaluation_sets, train, controls, score)}


def _world(path: str) -> worlds.ToyWorld:
    stored = load_file(path)
    return worlds.ToyWorld(stored["features"], stored["probabilities"])


def _write_sae(sae: saes.ToySae, card: dict[str, Any], card_file: str, weights: str) -> None:
    save_file({"W_dec": sae.decoder, "k": np.array([sae.k])}, weights)
    _write_json(card_file, {"architecture": "toy", "metadata": {"sae_assay": card}})


def _read_sae(weights: str) -> saes.ToySae:
    stored = load_file(weights)
    return saes.ToySae(stored["W_dec"], int(stored["k"][0]))


def _write_json(path: str, value: Any) -> None:
    Path(path).write_text(json.dumps(value, sort_keys=True, indent=1) + "\n", encoding="utf-8")
