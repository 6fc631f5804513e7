"""The study itself, read from one YAML file and checked before any work.

Unknown keys, wrong types and impossible values are errors that name the file, the key and the remedy.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from sae_assay.errors import AssayError
from sae_assay.study.anatomy import OF_KIND, Anatomy
from sae_assay.study.base import Name, Strict, nearest, no_repeats
from sae_assay.study.imports import ImportedScores
from sae_assay.study.library import held_out
from sae_assay.study.metrics import Metrics, Scorecard
from sae_assay.study.seconds import ReportSection
from sae_assay.study.substrates import Run, Substrate


class Seeds(Strict):
    """Evaluation seeds (reseeds). `snapshot` is a subset used for unfinished snapshots; `repeat` is scored twice."""

    evaluation: Annotated[list[int], Field(min_length=1)]
    snapshot: Annotated[list[int], Field(min_length=1)]
    repeat: int | None = None

    @model_validator(mode="after")
    def _check(self) -> Seeds:
        no_repeats(self.evaluation, "seeds.evaluation")
        no_repeats(self.snapshot, "seeds.snapshot")
        foreign = sorted(set(self.snapshot) - set(self.evaluation))
        if foreign:
            raise ValueError(f"seeds.snapshot has {foreign}, which seeds.evaluation lacks")
        if self.repeat is not None and self.repeat not in self.evaluation:
            raise ValueError(f"seeds.repeat is {self.repeat}, which seeds.evaluation lacks")
        return self


_OWN_ON_LM = ("sparse_probing", "tpp", "scr", "reconstruction")  # scored together, in a file that is always there


class Study(Strict):
    """A whole study, as one YAML file declares it."""

    optional: ClassVar = ("imported", "report")

    study: Name
    description: str = ""
    device: Literal["cpu", "auto"] = "cpu"
    numeric_profile: Literal["portable", "native"] = "portable"
    seeds: Seeds
    substrates: dict[Name, Substrate] = {}
    imported: dict[Name, ImportedScores] = {}
    metrics: Metrics
    scorecard: Scorecard
    anatomy: Anatomy | None = None
    report: ReportSection | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, raw: Any) -> Any:
        """Give substrates that are `like` another one what they do not say themselves."""
        sections = raw.get("substrates") if isinstance(raw, dict) else None
        if not isinstance(sections, dict):
            return raw
        filled = {name: _like(name, section, sections) for name, section in sections.items()}
        return {**raw, "substrates": filled}

    @model_validator(mode="after")
    def _check(self) -> Study:
        if not self.substrates and not self.imported:
            raise ValueError("declare `substrates`, or scores that others computed (`imported`)")
        no_repeats([*self.substrates, *self.imported], "substrates and imported")
        for name, substrate in self.substrates.items():
            for metric, hps in self.hyper_parameters.items():
                too_large = [h for h in hps if h > substrate.d_sae]
                if too_large:
                    raise ValueError(
                        f"metrics.{metric} has {too_large}, larger than substrates.{name}.d_sae {substrate.d_sae}"
                    )
            self._check_library(name, substrate)
        for name, primary in self.scorecard.primary.items():
            self.metrics.check_primary(name, primary)
        self._check_anatomy()
        if self.report and not self.metrics.library:
            raise ValueError(
                "report.seconds compares with the real SAEBench: declare a metric of it, or take the key out"
            )
        return self

    def _check_library(self, name: str, substrate: Substrate) -> None:
        """Refuse what would end as a score file without a row."""
        if substrate.lm is None or not self.metrics.library:
            return
        own = [metric for metric in _OWN_ON_LM if getattr(self.metrics, metric) is not None]
        if not own:
            raise ValueError(f"metrics has none of {', '.join(_OWN_ON_LM)} for {name}: declare one beside SAEBench's")
        probing = self.metrics.saebench_sparse_probing
        known = substrate.lm.probe_datasets
        if foreign := [one for one in (probing and probing.datasets) or [] if one not in known]:
            raise ValueError(
                f"metrics.saebench_sparse_probing.datasets has {foreign}, which substrates.{name}.lm.probe_datasets lacks"
                f"{nearest(foreign[0], known)}"
            )
        if self.metrics.saebench_scr and not substrate.lm.scr_crossings:
            raise ValueError(f"metrics.saebench_scr needs substrates.{name}.lm.scr_crossings: pairs of binary sets")
        self._check_rows(f"substrates.{name}.lm.rows_per_dataset", substrate.lm.rows_per_dataset)

    def _check_rows(self, key: str, rows: int) -> None:
        """Refuse sizes that no set can have: each class gives half of a set's rows (a cell of a crossing a quarter and 25),
        a fifth of them to test (lms/library_text.py); the library draws half of a size of each class, and of a biased cell one
        row more than half (envs/saebench/local_sets.py)."""
        for metric, each in (
            ("saebench_sparse_probing", rows // 2),
            ("saebench_tpp", rows // 2),
            ("saebench_scr", rows // 4 + 25),
        ):
            section = getattr(self.metrics, metric)
            if section is None:
                continue
            test = held_out(each)
            for size, n in (("train_rows", each - test), ("test_rows", test)):
                wanted, most = getattr(section, size), 4 * ((n - 1) // 2) + 3 if metric == "saebench_scr" else 2 * n + 1
                if wanted > most:
                    raise ValueError(
                        f"metrics.{metric}.{size} is {wanted}, {key} {rows} leaves at most {most}: lower the one or raise the "
                        "other, or every score would be null"
                    )

    def _check_anatomy(self) -> None:
        """Refuse an anatomy of what the study has not."""
        for name, section in self.anatomy.substrates.items() if self.anatomy else ():
            key = f"anatomy.substrates.{name}"
            substrate = self.substrates.get(name)
            if substrate is None or substrate.kind not in OF_KIND:
                raise ValueError(f"{key} is no world or language model of the study{nearest(name, self.substrates)}")
            made = [*substrate.finished_ids, *substrate.published_ids, *(item.id for item in substrate.local)]
            for sae in section.saes:
                if sae not in made:
                    raise ValueError(f"{key}.saes has {sae}, no SAE of the panel{nearest(sae, made)}")
            foreign = [source for source in section.sources if source not in OF_KIND[substrate.kind]]
            if foreign:
                raise ValueError(
                    f"{key}.sources has {foreign}: a {substrate.kind} has {', '.join(OF_KIND[substrate.kind])}"
                )
            if (substrate.kind == "lm" and "data" in section.sources) != (section.text_share is not None):
                raise ValueError(
                    f"{key}.text_share belongs to the source `data` of a language model: give both, or neither"
                )

    @property
    def hyper_parameters(self) -> dict[str, list[int]]:
        """n or k_probe values of each metric that has them."""
        return self.metrics.hyper_parameters

    @property
    def evaluation_seeds(self) -> list[int]:
        return self.seeds.evaluation

    @property
    def snapshot_seeds(self) -> list[int]:
        return self.seeds.snapshot

    @property
    def families(self) -> dict[str, str]:
        """Substrate -> the one whose section it starts from, for all members of families of several."""
        members = {name: section.like for name, section in self.substrates.items() if section.like}
        return {name: name for name in sorted(set(members.values()))} | members

    def of_kind(self, *kinds: str) -> list[str]:
        """Names of the substrates of these kinds, in the file's order."""
        return [name for name, substrate in self.substrates.items() if substrate.kind in kinds]

    @cached_property
    def training_groups(self) -> list[TrainingGroup]:
        """Runs that one job trains side by side: importing sae_lens costs more than a small SAE (lab/cluster.md)."""
        groups = []
        for name, substrate in self.substrates.items():
            if substrate.streamed:
                sides = {f"seed_{seed}": runs for seed, runs in substrate.runs_by_seed.items()}
                groups += [TrainingGroup(substrate=name, name=side, runs=runs) for side, runs in sides.items()]
                continue
            if substrate.kind == "lm":
                if substrate.runs:
                    groups.append(TrainingGroup(substrate=name, name="all", runs=substrate.runs))
                continue
            for arch in substrate.panel:
                runs = [run for run in substrate.runs if run.arch == arch]
                groups.append(TrainingGroup(substrate=name, name=arch, runs=runs))
        return groups

    @classmethod
    def load(cls, path: str | Path = "config.yaml") -> Study:
        """Read and check a study.

        Args:
            path: a YAML file, or the bare name of one under studies/.

        Raises:
            AssayError: no such file, not YAML, an unknown key, a wrong type or an impossible value.
        """
        file = Path(path)
        if file.suffix not in (".yaml", ".yml"):
            file = Path("studies") / f"{path}.yaml"
        try:
            raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = sorted(p.stem for p in Path("studies").glob("*.yaml"))
            raise AssayError(str(file), "no such study", f"name a YAML file, or one of: {', '.join(known)}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise AssayError(
                str(file), f"not YAML: {' '.join(str(error).split())}", "correct the line it names"
            ) from None
        if not isinstance(raw, dict):
            raise AssayError(str(file), "holds no mapping of keys", "start from config.yaml") from None
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise AssayError(str(file), *_explain(error)) from None


class TrainingGroup(Strict):
    substrate: str
    name: str
    runs: list[Run]


def _like(name: str, section: Any, sections: dict[str, Any]) -> Any:
    """A substrate's section, filled from the one that it is like.

    Raises:
        ValueError: there is no such substrate, it is itself like another, or both would be the same world.
    """
    if not isinstance(section, dict) or section.get("like") is None:
        return section
    pattern = sections.get(section["like"])
    key = f"substrates.{name}.like"
    if not isinstance(pattern, dict) or section["like"] == name:
        raise ValueError(f"{key} is {section['like']!r}, no other substrate of the study")
    if pattern.get("like") is not None:
        raise ValueError(f"{key} is {section['like']!r}, itself like another: name {pattern['like']!r}")
    filled = _merged(pattern, section)
    if filled.get("world") is not None and filled["world"] == pattern.get("world"):
        raise ValueError(f"substrates.{name}.world is that of {section['like']!r}: give it a `seed` of its own")
    return filled


def _merged(pattern: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The pattern with a section's own values in place of its; mappings are merged key by key."""
    both = {
        k: _merged(pattern[k], v) for k, v in own.items() if isinstance(v, dict) and isinstance(pattern.get(k), dict)
    }
    return {**pattern, **own, **both}


def _model_at(location: tuple[Any, ...]) -> type[BaseModel] | None:
    """The section's class that holds the key at a pydantic error location."""
    model: Any = Study
    for part in location:
        fields = getattr(model, "model_fields", {})
        field = fields.get(part) or next((f for f in fields.values() if f.alias == part), None)
        if field is None:
            continue
        model = _inner_model(field.annotation) or model
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := _inner_model(argument):
            return found
    return None


def _explain(error: ValidationError) -> tuple[str, str]:
    """The first problem of a validation error in plain words, and its remedy."""
    problems = error.errors(include_url=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"]) or "the study"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        model = _model_at(first["loc"][:-1])
        known = [f.alias or n for n, f in model.model_fields.items()] if model else []
        return (
            f"unknown key {key}{more}",
            f"known keys here: {', '.join(known)}{nearest(str(first['loc'][-1]), known)}",
        )
    if first["type"] == "missing":
        return f"{key} is missing{more}", "add it; config.yaml shows one"
    message = first["msg"].removeprefix("Value error, ")
    found = first["input"]
    shown = "" if isinstance(found, dict | list) else f" (found {found!r})"
    return f"{key}: {message}{shown}{more}", f"correct {key}"
