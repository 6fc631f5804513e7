"""SAEBench's RAVEL on a given Gemma- or Llama-family model and local RAVEL data.

The library's own `run_eval_single_sae` runs. What is put in its place: the tokenizer (it asks a hub for one by the model's
name), and how it takes hold of a layer: it knows Gemma-2 and GPT-NeoX alone, and stops where a layer returns no tuple,
as those of today's transformers.

The job's `config`: fields of the library's RAVELEvalConfig (not model_name, random_seed and artifact_dir, which follow from
the job). Its `data`: `ravel`, a folder with RAVEL's four files per entity class (`ravel_CLASS_attribute_to_prompts.json`,
`..._prompt_to_split.json`, `..._entity_attributes.json`, `..._entity_to_split.json`).
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import loading
import torch
from run import BadInputError, row
from sae_bench.evals.ravel import main as library
from sae_bench.evals.ravel.eval_config import RAVELEvalConfig
from sae_bench.evals.ravel.instance import RAVELFilteredDataset, RAVELInstance, get_instance_name
from sae_bench.sae_bench_utils import activation_collection

COMPONENTS = {
    "disentanglement_score": "disentangle_score",
    "cause_score": "cause_score",
    "isolation_score": "isolation_score",
}
"""Each component's name in the library's results."""
FAMILIES = ("Gemma", "Llama")
FILES = ("attribute_to_prompts", "prompt_to_split", "entity_attributes", "entity_to_split")
MODEL_FREE = True  # takes transformers' own model, not the bridge
NO_DATA = "needs the RAVEL data (metrics.ravel.data names its folder): adamkarvonen/ravel_prompts on the hub"


class TooFewPairsError(Exception):
    """The pairs of prompts fill no batch."""


class Layer:
    """A decoder layer whose hooks see a tuple, whatever the layer returns."""

    def __init__(self, layer: torch.nn.Module) -> None:
        self.layer = layer

    def register_forward_hook(self, hook: Callable[..., Any]) -> Any:
        """As torch's; the hook's answer is given back in the layer's own form."""

        def adapted(module: Any, inputs: Any, output: Any) -> Any:
            return hook(module, inputs, output) if isinstance(output, tuple) else hook(module, inputs, (output,))[0]

        return self.layer.register_forward_hook(adapted)


def unmet(job: dict[str, Any], architecture: str, tokenizer: Any) -> str | None:
    """Why RAVEL cannot judge this model here, or None."""
    if not architecture.startswith(FAMILIES):
        return f"needs a model of the families {' or '.join(FAMILIES)}; this one is a {architecture}"
    if tokenizer.encode("a")[:1] != [tokenizer.bos_token_id]:
        return (
            "needs a tokenizer that begins every text with a BOS token: without one SAEBench 0.6.0 takes the entity's last "
            "token to be the one after it"
        )
    return None if job["data"].get("ravel") else NO_DATA


def eval_config(job: dict[str, Any], artifacts: Path) -> RAVELEvalConfig:
    """The library's settings for this job."""
    own = {"model_name": job["model"]["name"], "random_seed": job["seed"], "llm_dtype": "float32", "llm_batch_size": 32}
    return RAVELEvalConfig(**own | job["config"], artifact_dir=str(artifacts))


def check_data(folder: Path, selection: dict[str, list[str]]) -> None:
    """Refuse data that the library would trip over.

    Raises:
        BadInputError: a file is missing or no JSON, an attribute is unknown or alone, a prompt has no place for the entity.
    """
    remedy = "fetch the RAVEL data again, or correct metrics.ravel.entities"
    for entity_class, attributes in selection.items():
        prompts, _, entities, _ = (_json(folder / f"ravel_{entity_class}_{name}.json", remedy) for name in FILES)
        where = str(folder / f"ravel_{entity_class}_{FILES[0]}.json")
        if len(set(attributes)) < 2:
            raise BadInputError(where, f"{entity_class} is judged by {attributes} alone", "name two attributes or more")
        for attribute in attributes:
            if not prompts.get(attribute):
                raise BadInputError(where, f"has no prompts for {attribute}", f"{remedy}: {', '.join(prompts)}")
            if wrong := [p for p in prompts[attribute] if p.count("%") != 1 or p.count("%s") != 1]:
                raise BadInputError(where, f"a prompt without one %s for the entity: {wrong[0]!r}", remedy)
            if without := [name for name, labels in entities.items() if attribute not in labels]:
                raise BadInputError(where, f"{without[0]} has no {attribute}", remedy)


def _json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(str(path), f"cannot be read ({error})", remedy) from None
    if not isinstance(found, dict):
        raise BadInputError(str(path), "holds no JSON object", remedy)
    return found


@contextmanager
def in_place(hf: Any, tokenizer: Any) -> Iterator[None]:
    """The library with this model's layers and tokenizer.

    Raises:
        TooFewPairsError: no batch to train the mask on, or to hold out; the library would score an untrained mask.
    """
    given = type("Given", (), {"from_pretrained": staticmethod(lambda *_, **__: tokenizer)})
    loaders = library.create_dataloaders

    def checked(
        cause_base: list,
        cause_source: list,
        iso_base: list,
        iso_source: list,
        _: Any,
        config: Any,
        train_test_split: float,
    ) -> Any:
        batch, pairs = config.llm_batch_size, len(cause_base) + len(iso_base)
        held_in = int(pairs * train_test_split)
        if min(held_in, pairs - held_in) < batch:
            raise TooFewPairsError(f"{pairs} pairs of prompts fill no batch of {batch} to train on, or to hold out")
        return loaders(cause_base, cause_source, iso_base, iso_source, hf, config, train_test_split)

    with (
        patch.object(library, "AutoTokenizer", given),
        patch.object(library, "create_dataloaders", checked),
        patch.object(activation_collection, "get_module", lambda _, number: Layer(hf.model.layers[number])),
    ):
        yield


def load_hf(job: dict[str, Any]) -> tuple[Any, Any]:
    """transformers' model and its tokenizer; Gemma attends as the library has it, without a fused kernel."""
    hf, tokenizer = loading.load_hf(job["model"], job["device"])
    if type(hf).__name__.startswith("Gemma"):
        hf.set_attn_implementation("eager")
    return hf, tokenizer


def fill(job: dict[str, Any], model: Any, tokenizer: Any) -> None:
    """Find what the model knows once for all SAEs of a seed: prompts that it completes rightly, most known entities."""
    hf, tokenizer = load_hf(job)
    if unmet(job, type(hf).__name__, tokenizer) is None:
        _fill(job, hf, tokenizer)


def _fill(job: dict[str, Any], hf: Any, tokenizer: Any) -> None:
    cache, source = _cache(job), Path(job["data"]["ravel"])
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        config = eval_config(job, Path(folder))
        check_data(source, config.entity_attribute_selection)
        shutil.copytree(source, Path(folder) / "base")
        random.seed(job["seed"])
        torch.manual_seed(job["seed"])
        for entity_class in config.entity_attribute_selection:
            with in_place(hf, tokenizer), torch.no_grad():
                _known(config, entity_class, hf, tokenizer)
            name = _known_file(config, entity_class)
            (Path(folder) / name).replace(cache / name)


def _known(config: RAVELEvalConfig, entity_class: str, hf: Any, tokenizer: Any) -> None:
    full = RAVELInstance.create_from_files(
        config=config,
        entity_type=entity_class,
        tokenizer=tokenizer,
        data_dir=config.artifact_dir,
        model=hf,
        model_name=config.model_name,
        attribute_types=config.entity_attribute_selection[entity_class],
        downsample=config.full_dataset_downsample,
    )
    full.create_and_save_filtered_dataset(config.artifact_dir, config.top_n_entities)


def _known_file(config: RAVELEvalConfig, entity_class: str) -> str:
    return get_instance_name(entity_class, config.model_name, config.full_dataset_downsample, config.top_n_entities)


def _cache(job: dict[str, Any]) -> Path:
    folder = Path(job["cache"]) / "ravel"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(job: dict[str, Any], model: Any, tokenizer: Any, sae: Any) -> list[dict[str, Any]]:
    """Rows of the three components: of every attribute, of every entity class, and of all."""
    hf, tokenizer = load_hf(job)
    if why := unmet(job, type(hf).__name__, tokenizer):
        return _nothing("not_applicable", why)
    hf.requires_grad_(False)  # the mask alone is trained
    config = eval_config(job, _cache(job))
    if not all((_cache(job) / _known_file(config, c)).exists() for c in config.entity_attribute_selection):
        _fill(job, hf, tokenizer)
    if why := _unknown(config):
        return _nothing("too_few_rows", why)
    try:
        with in_place(hf, tokenizer):
            averages, single = library.run_eval_single_sae(config, sae, hf, job["device"], config.artifact_dir)
    except TooFewPairsError as error:
        return _nothing("too_few_rows", str(error))
    return list(_rows(config, averages, single))


def _unknown(config: RAVELEvalConfig) -> str | None:
    """Why there are no pairs: the model completes an attribute's prompts rightly for fewer than two labels."""
    for entity_class, attributes in config.entity_attribute_selection.items():
        known = RAVELFilteredDataset.load(str(Path(config.artifact_dir) / _known_file(config, entity_class)))
        for attribute in attributes:
            labels = {prompt.attribute_label for prompt in known.get_prompts_by_attribute(attribute)}
            if len(labels) < 2:
                return f"the model rightly completes {entity_class}'s {attribute} for {len(labels)} labels: too few for a pair"
    return None


def _nothing(status: str, reason: str) -> list[dict[str, Any]]:
    return [row(component, None, status=status, reason=reason) for component in COMPONENTS]


def _rows(config: RAVELEvalConfig, averages: dict[str, Any], single: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from _scores("__all__", averages)
    for entity_class, attributes in config.entity_attribute_selection.items():
        yield from _scores(entity_class, averages[f"{entity_class}_results"])
        for attribute in attributes:
            task = f"{entity_class}_{attribute}"
            yield from _scores(task, single[f"{entity_class}_results"][task])


def _scores(task: str, found: dict[str, float]) -> Iterator[dict[str, Any]]:
    for component, name in COMPONENTS.items():
        value = found[name]
        if value == value:
            yield row(component, value, task=task)
        else:
            yield row(component, None, task=task, status="too_few_rows", reason="no pair of this kind is held out")
