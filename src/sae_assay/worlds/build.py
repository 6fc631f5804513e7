"""A synthetic world, built by `sae_lens.synthetic` from its configuration, and its two files.

world.safetensors holds the arrays (`ARRAYS`); world.json the configuration, the shape and the hierarchy as a flat list
of nodes in feature order, so that rows are drawn and tasks built without sae_lens. Only `build` and `load_published` import it.
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
    from sae_lens.synthetic import FeatureDictionary, Hierarchy, SyntheticModel, SyntheticModelConfig

# [num_features, hidden_dim], [hidden_dim], then [num_features] each; unit-norm directions, probabilities in 0 .. 1.
ARRAYS = ("feature_vectors", "bias", "firing_probabilities", "magnitude_means", "magnitude_stds")
# Only with a correlation: [num_features, rank] and [num_features].
CORRELATION = ("correlation_factor", "correlation_diag")
PUBLISHED_REMEDY = "fetch or save it again; published_world wants a folder that sae_lens's SyntheticModel.save wrote"
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


def build(world: WorldConfig, where: str, device: str = "cpu") -> SyntheticModel:
    """Build a world; equal configurations give equal worlds on equal devices.

    Args:
        world: the configuration, whose `seed` is the world seed.
        where: the world's name, for errors.
        device: where features are made orthogonal: for 16,384 of them a GPU takes seconds, a CPU core most of an hour. All
            draws are the CPU's, so that a GPU's world differs by rounding alone.

    Raises:
        AssayError: the library refuses the configuration.
    """
    from sae_lens.synthetic import SyntheticModel, feature_dictionary

    library_bar = feature_dictionary.tqdm
    feature_dictionary.tqdm = _bar
    try:
        config = library_config(world)
        return SyntheticModel(config, feature_dict=None if device == "cpu" else _dictionary(config, device))
    except (ValueError, RuntimeError) as error:
        raise AssayError(
            f"world {where}", " ".join(str(error).split()), "correct substrates.*.world in the study"
        ) from None
    finally:
        feature_dictionary.tqdm = library_bar


def _dictionary(config: SyntheticModelConfig, device: str) -> FeatureDictionary:
    """The features that SyntheticModel itself would make, drawn on the CPU and made orthogonal on a device."""
    from sae_lens.synthetic import FeatureDictionary, orthogonal_initializer

    def initialise(dictionary: FeatureDictionary) -> None:
        if (o := config.orthogonalization) is None:
            return
        dictionary.to(device)
        orthogonal_initializer(o.num_steps, o.lr, show_progress=True, chunk_size=o.chunk_size)(dictionary)
        dictionary.to("cpu")

    sizes = (config.num_features, config.hidden_dim)
    return FeatureDictionary(*sizes, bias=config.bias, initializer=initialise, seed=config.seed)


def load_published(folder: str | Path) -> SyntheticModel:
    """A world from the folder that `SyntheticModel.save` wrote: its configuration, arrays and hierarchy.

    The library leaves the spread of magnitudes to the configuration and its seed, and it samples a correlated world by
    its configuration's firing probabilities, whatever the file says: so do we, or the rows would be another world's.

    Raises:
        AssayError: a file is missing, truncated or of another layout.
    """
    import torch
    from sae_lens.synthetic import SyntheticModel

    try:
        model = SyntheticModel.load_from_disk(folder)
    except FileNotFoundError as error:
        raise AssayError(str(folder), f"lacks a file: {error}", PUBLISHED_REMEDY) from None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        problem = f"no world that SyntheticModel.save wrote ({' '.join(str(error).split())})"
        raise AssayError(str(folder), problem, PUBLISHED_REMEDY) from None
    generator, shape = model.activation_generator, (model.cfg.num_features, model.cfg.hidden_dim)
    if model.feature_dict.feature_vectors.shape != shape:
        problem = f"feature_vectors has shape {list(model.feature_dict.feature_vectors.shape)}, its configuration says {list(shape)}"
        raise AssayError(str(folder), problem, PUBLISHED_REMEDY)
    if generator.correlation_thresholds is not None:
        generator.firing_probabilities = torch.special.ndtr(-generator.correlation_thresholds.double()).float()
    return model


def save_published(
    model: SyntheticModel, origin: dict[str, Any], arrays_path: str | Path, json_path: str | Path
) -> None:
    """Write the files of a world that was loaded: as `save_world`, its card's `config` being `origin` and the library's."""
    arrays = arrays_of(model)
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise AssayError(str(origin), f"{', '.join(bad)}: values that are not finite", PUBLISHED_REMEDY)
    nodes = nodes_of(model.hierarchy) if model.hierarchy else None
    write_world(arrays, origin | {"library": model.cfg.to_dict()}, nodes, arrays_path, json_path)


def _bar(*args: Any, **options: Any) -> Any:
    """The library's progress bar, but quiet where nobody looks."""
    return tqdm(*args, **{**options, "disable": None})


def nodes_of(hierarchy: Hierarchy) -> list[dict[str, Any]]:
    """A hierarchy as a flat list: each node's feature, parent, root, depth (roots 0), whether its children exclude each
    other and whether it scales their magnitudes by its own; ordered by feature."""
    found = []

    def visit(node: Any, parent: int | None, root: int, depth: int) -> None:
        if node.feature_index is None:
            raise AssayError("hierarchy", "a node without a feature", "use a world whose every node is a feature")
        found.append(
            {
                "feature": node.feature_index,
                "parent": parent,
                "root": root,
                "depth": depth,
                "exclusive_children": bool(node.mutually_exclusive_children),
                "scales_children": bool(node.scale_children_by_parent),
            }
        )
        for child in node.children:
            visit(child, node.feature_index, root, depth + 1)

    for root in hierarchy.roots:
        visit(root, None, root.feature_index, 0)
    return sorted(found, key=lambda node: node["feature"])


def arrays_of(model: SyntheticModel) -> dict[str, NDArray[np.float32]]:
    """The arrays of world.safetensors, from the library's model."""
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
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def save_world(model: SyntheticModel, world: WorldConfig, arrays_path: str | Path, json_path: str | Path) -> None:
    """Write world.safetensors and world.json; equal worlds give equal bytes."""
    nodes = nodes_of(model.hierarchy) if model.hierarchy else None
    write_world(arrays_of(model), world.model_dump(mode="json"), nodes, arrays_path, json_path)


def write_world(
    arrays: dict[str, NDArray[np.float32]],
    config: dict[str, Any],
    nodes: list[dict[str, Any]] | None,
    arrays_path: str | Path,
    json_path: str | Path,
) -> None:
    """Write a world's files from plain arrays, its configuration and its hierarchy."""
    Path(arrays_path).write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    num_features, hidden_dim = arrays["feature_vectors"].shape
    content = {"num_features": num_features, "hidden_dim": hidden_dim, "config": config, "hierarchy": nodes}
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
