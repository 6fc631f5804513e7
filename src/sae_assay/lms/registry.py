"""The registry of outside inputs, `data/registry.yaml`: version, source, SHA-256 and licence of each, checked on load."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sae_assay.errors import AssayError

REGISTRY = "data/registry.yaml"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]
_CHUNK = 1 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """A file of a package index: the package's name, its version, the file's name, digest and size in bytes."""

    kind: Literal["pypi"]
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+!-]*$")]
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*\.whl$")]
    sha256: Sha256
    size: Annotated[int, Field(gt=0)]


class HubSource(_Strict):
    """Files of a repository on the Hugging Face hub.

    Attributes:
        repository: `owner/name`.
        revision: the pinned commit; None where nobody has looked it up yet: then nothing is fetched.
        folders: the known ones that hold the files below; "" is the repository's root.
        files: names in each folder; `optional` ones may be missing.
        sha256: known digests by path in the repository; a file without one is held to the pinned commit alone.
        unknown: why a revision or digests are missing.
        repository_kind: the hub's word for it.
        gated: how to get access, where the hub asks for a licence to be accepted first.
    """

    kind: Literal["hub"]
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    folders: Annotated[list[str], Field(min_length=1)]
    files: Annotated[list[Text], Field(min_length=1)]
    optional: list[Text] = []
    sha256: dict[str, Sha256] = {}
    unknown: Text | None = None
    repository_kind: Literal["model", "dataset"] = "model"
    gated: Text | None = None

    @property
    def paths(self) -> list[str]:
        """Every path in the repository."""
        return [path for folder in self.folders for path in self.in_folder(folder).values()]

    def in_folder(self, folder: str) -> dict[str, str]:
        """Every file of a folder, and its path in the repository."""
        return {file: f"{folder}/{file}".lstrip("/") for file in (*self.files, *self.optional)}

    @model_validator(mode="after")
    def _check(self) -> HubSource:
        if foreign := sorted(set(self.sha256) - set(self.paths)):
            raise ValueError(f"sha256 names {foreign}, none of its files")
        if self.unknown is None and (self.revision is None or set(self.paths) - set(self.sha256)):
            raise ValueError("a revision or digests are missing: say why under `unknown`")
        return self


class Content(_Strict):
    """What is used of the source: a file in it, or a folder (no size; the digest is `tree_digest`)."""

    path: Text
    sha256: Sha256
    size: Annotated[int, Field(gt=0)] | None = None

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if path.startswith("/") or "\\" in path or ".." in parts:
            raise ValueError("must lie inside the source: no leading /, no .., no backslash")
        return path


class Entry(_Strict):
    """One outside input."""

    title: Text
    used_for: Text
    source: Annotated[Source | HubSource, Field(discriminator="kind")]
    obtained: Literal["fetched", "installed"]
    content: Content | None = None
    licence: Text | None
    licence_note: Text | None = None

    @model_validator(mode="after")
    def _check(self) -> Entry:
        if (self.content is None) == (self.source.kind == "pypi"):
            raise ValueError("content is what is used of a wheel: a pypi source needs it, a hub source has none")
        if self.licence is None and (self.source.kind == "pypi" or self.licence_note is None):
            raise ValueError("a licence that could not be looked up needs a licence_note that says so; a wheel has one")
        return self

    @property
    def wheel(self) -> tuple[Source, Content]:
        """Package and content of an input that an index serves; AssayError for one of the hub."""
        if not isinstance(self.source, Source) or self.content is None:
            raise AssayError(
                self.title, "comes from the hub, not from a package index", "name an input that is a wheel"
            )
        return self.source, self.content

    @property
    def hub(self) -> HubSource:
        """Repository of an input of the hub; AssayError for a wheel."""
        if not isinstance(self.source, HubSource):
            raise AssayError(self.title, "comes from a package index, not from the hub", "name an input of the hub")
        return self.source


def load(path: str | Path = REGISTRY) -> dict[str, Entry]:
    """Read and check the registry.

    Returns:
        Entries by the name that studies use for them.

    Raises:
        AssayError: no such file, not YAML, a missing licence or digest, an unknown key, an impossible value.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AssayError(
            str(path), "no such registry of inputs", "restore it: git checkout data/registry.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = f"not YAML: {' '.join(str(error).split())}"
        raise AssayError(str(path), problem, "correct the line it names") from None
    if not isinstance(raw, dict):
        raise AssayError(str(path), "holds no mapping of inputs", "give each input a name and its fields")
    return {name: _entry(path, name, fields) for name, fields in raw.items()}


def _entry(path: str | Path, name: str, fields: object) -> Entry:
    try:
        return Entry.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([name, *(str(part) for part in first["loc"])])
        message = {"missing": "is missing", "extra_forbidden": "is unknown"}.get(first["type"], first["msg"])
        raise AssayError(str(path), f"{key}: {message}", f"every input has {', '.join(Entry.model_fields)}") from None


def entry(name: str, path: str | Path = REGISTRY) -> Entry:
    """One input by name; AssayError names those that there are."""
    entries = load(path)
    if name not in entries:
        raise AssayError(str(path), f"no input {name}", f"register it, or use one of: {', '.join(entries)}")
    return entries[name]


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def tree_digest(folder: str | Path) -> str:
    """SHA-256 over one line `digest  relative/path` per file of a folder, sorted by path."""
    digest = hashlib.sha256()
    files = {f.relative_to(folder).as_posix(): f for f in Path(folder).rglob("*") if f.is_file()}
    for relative in sorted(files):
        digest.update(f"{file_digest(files[relative])}  {relative}\n".encode())
    return digest.hexdigest()


def verify(path: str | Path, wanted: str, remedy: str) -> None:
    """Hold a file or folder to its registered digest; AssayError names it, what was expected and what was found."""
    found = tree_digest(path) if Path(path).is_dir() else file_digest(path)
    if found != wanted:
        raise AssayError(str(path), f"its SHA-256 is {found}, the registry expects {wanted}", remedy)


def installed_folder(name: str, path: str | Path = REGISTRY) -> Path:
    """The verified folder of an input that an installed package brings; the package is found, not imported.

    Raises:
        AssayError: the package is not installed, or its files are not the registered ones.
    """
    found = entry(name, path)
    source, content = found.wheel
    package, *rest = PurePosixPath(content.path).parts
    spec = importlib.util.find_spec(package)
    locked = f"install the locked environment: uv sync (it pins {source.package} {source.version})"
    if spec is None or not spec.submodule_search_locations:
        raise AssayError(name, f"the package {source.package} is not installed", locked)
    folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
    if not folder.is_dir():
        raise AssayError(str(folder), "no such folder", locked)
    verify(folder, content.sha256, locked)
    return folder
