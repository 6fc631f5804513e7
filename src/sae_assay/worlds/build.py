"""A synthetic world, built by `sae_lens.synthetic` from its configuration, and its two files.

world.safetensors holds the arrays (`ARRAYS`); world.json the configuration, the shape and the hierarchy as a flat list
of nodes in feature order, so that tasks are built without sae_lens. Only `build` and `restore` import sae_lens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tqdm import tqdm

from sae_assay.errors import AssayError
from sae_assay.study.worlds import WorldConfig

if TYPE_CHECKING:
    from sae_lens.synthetic import Hierarchy, SyntheticModel, SyntheticModelConfig

# [num_features, hidden_dim], [hidden_dim], then [num_features] each; unit-norm directions, probabilities in 0 .. 1.
ARRAYS = ("feature_vectors", "bias", "firing_probabilities", "magnitude_means", "magnitude_stds")
# Only with a correlation: [num_features, rank] and [num_features].
CORRELATION = ("correlation_factor", "correlation_diag")
_REMEDY = "delete the file and run the workflow again; it rebuilds what is missing"


def library_config(world: WorldConfig) -> SyntheticModelConfig:
    """The configuration of `sae_lens.synthetic.SyntheticModel` for a world of a study."""
    from sae_lens import synthetic as s

    h, o, c = world.hierarchy, world.orthogonalization, world.correlation
    return s.SyntheticModelConfig(
        num_features=world.num_features,
        hidden_dim=world.hidden_dim,
        firing_probability=s.ZipfianFiringProbabilityConfig(**world.zipf.model_dump()),
        hierarchy=h
        and s.HierarchyConfig(
            total_root_nodes=h.roots,
            branching_factor=h.branching,
            max_depth=h.depth,
            mutually_exclusive_portion=h.mutually_exclusive_portion,
            compensate_probabilities=h.compensate_probabilities,
            scale_children_by_parent=h.scale_children_by_parent,
        ),
        orthogonalization=o and s.OrthogonalizationConfig(num_steps=o.steps, lr=o.lr),
        correlation=c and s.LowRankCorrelationConfig(rank=c.rank, correlation_scale=c.scale),
        mean_firing_magnitudes=s.LinearMagnitudeConfig(**world.mean_magnitude.model_dump()),
        std_firing_magnitudes=s.FoldedNormalMagnitudeConfig(**world.std_magnitude.model_dump()),
        bias=world.bias_norm or False,
        seed=world.seed,
    )


def build(world: WorldConfig, where: str) -> SyntheticModel:
    """Build a world; equal configurations give equal worlds.

    Args:
        world: the configuration, whose `seed` is the world seed.
        where: the world's name, for errors.

    Raises:
        AssayError: the library refuses the configuration.
    """
    from sae_lens.synthetic import SyntheticModel, feature_dictionary

    library_bar = feature_dictionary.tqdm
    feature_dictionary.tqdm = _bar
    try:
        return SyntheticModel(library_config(world))
    except (ValueError, RuntimeError) as error:
        raise AssayError(
            f"world {where}", " ".join(str(error).split()), "correct substrates.*.world in the study"
        ) from None
    finally:
        feature_dictionary.tqdm = library_bar


def _bar(*args: Any, **options: Any) -> Any:
    """The library's progress bar, but quiet where nobody looks."""
    return tqdm(*args, **{**options, "disable": None})


def nodes_of(hierarchy: Hierarchy) -> list[dict[str, Any]]:
    """A hierarchy as a flat list: each node's feature, parent, root, depth (roots 0), and whether its children exclude
    each other; ordered by feature."""
    found = []

    def visit(node: Any, parent: int | None, root: int, depth: int) -> None:
        found.append(
            {
                "feature": node.feature_index,
                "parent": parent,
                "root": root,
                "depth": depth,
                "exclusive_children": bool(node.mutually_exclusive_children),
            }
        )
        for child in node.children:
            visit(child, node.feature_index, root, depth + 1)

    for root in hierarchy.roots:
        visit(root, None, root.feature_index, 0)
    return sorted(found, key=lambda node: node["feature"])


def save_world(model: SyntheticModel, world: WorldConfig, arrays_path: str | Path, json_path: str | Path) -> None:
    """Write world.safetensors and world.json; equal worlds give equal bytes."""
    generator = model.activation_generator
    tensors = {
        "feature_vectors": model.feature_dict.feature_vectors,
        "bias": model.feature_dict.bias,
        "firing_probabilities": generator.firing_probabilities,
        "magnitude_means": generator.mean_firing_magnitudes,
        "magnitude_stds": generator.std_firing_magnitudes,
    }
    if model.correlation_matrix is not None:
        tensors |= dict(zip(CORRELATION, model.correlation_matrix, strict=True))
    write_world(
        {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()},
        world,
        nodes_of(model.hierarchy) if model.hierarchy else None,
        arrays_path,
        json_path,
    )


def write_world(
    arrays: dict[str, NDArray[np.float32]],
    world: WorldConfig,
    nodes: list[dict[str, Any]] | None,
    arrays_path: str | Path,
    json_path: str | Path,
) -> None:
    """Write a world's files from plain arrays."""
    Path(arrays_path).write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    content = {
        "num_features": world.num_features,
        "hidden_dim": world.hidden_dim,
        "config": world.model_dump(mode="json"),
        "hierarchy": nodes,
    }
    Path(json_path).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_arrays(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """The arrays of world.safetensors (`ARRAYS`, and `CORRELATION` where the world has one).

    Raises:
        AssayError: missing, truncated or not a world.
    """
    try:
        arrays = load_file(str(path))
    except FileNotFoundError:
        raise AssayError(str(path), "no such world", _REMEDY) from None
    except SafetensorError as error:
        raise AssayError(str(path), f"not a whole world ({error})", _REMEDY) from None
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise AssayError(str(path), f"lacks {', '.join(missing)}", _REMEDY)
    return arrays


def read_json(path: str | Path) -> dict[str, Any]:
    """world.json: `num_features`, `hidden_dim`, `config`, `hierarchy` (nodes as `nodes_of` gives them, or null).

    Raises:
        AssayError: missing or not JSON.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return {key: content[key] for key in ("num_features", "hidden_dim", "config", "hierarchy")}
    except FileNotFoundError:
        raise AssayError(str(path), "no such world", _REMEDY) from None
    except (ValueError, KeyError, TypeError) as error:
        raise AssayError(str(path), f"not a world ({error})", _REMEDY) from None


def restore(arrays_path: str | Path, json_path: str | Path) -> SyntheticModel:
    """The `SyntheticModel` of a world's files: it samples what the built one samples."""
    import torch
    from sae_lens.synthetic import (
        FeatureDictionary,
        Hierarchy,
        LowRankCorrelationMatrix,
        SyntheticModel,
    )

    content = read_json(json_path)
    world = WorldConfig.model_validate(content["config"])
    arrays = {name: torch.from_numpy(array) for name, array in read_arrays(arrays_path).items()}
    dictionary = FeatureDictionary(
        world.num_features, world.hidden_dim, bias=world.bias_norm or False, initializer=None
    )
    dictionary.feature_vectors.data, dictionary.bias.data = arrays["feature_vectors"], arrays["bias"]
    roots = _nested(content["hierarchy"], world) if content["hierarchy"] else None
    model = SyntheticModel(
        library_config(world),
        feature_dict=dictionary,
        hierarchy=Hierarchy.from_dict({"roots": roots}) if roots else None,
        correlation_matrix=LowRankCorrelationMatrix(*(arrays[n] for n in CORRELATION)) if world.correlation else None,
    )
    generator = model.activation_generator
    generator.firing_probabilities = arrays["firing_probabilities"]
    generator.mean_firing_magnitudes = arrays["magnitude_means"]
    generator.std_firing_magnitudes = arrays["magnitude_stds"]
    return model


def _nested(nodes: list[dict[str, Any]], world: WorldConfig) -> list[dict[str, Any]]:
    """The library's nested form of a flat hierarchy."""
    has_children = {node["parent"] for node in nodes}
    scaled = bool(world.hierarchy and world.hierarchy.scale_children_by_parent)
    trees: dict[int, dict[str, Any]] = {
        node["feature"]: {
            "feature_index": node["feature"],
            "mutually_exclusive_children": node["exclusive_children"],
            "scale_children_by_parent": scaled and node["feature"] in has_children,
            "children": [],
        }
        for node in nodes
    }
    for node in nodes:
        if node["parent"] is not None:
            trees[node["parent"]]["children"].append(trees[node["feature"]])
    return [trees[node["feature"]] for node in nodes if node["parent"] is None]
