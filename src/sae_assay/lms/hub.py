"""Fetches files of a registered hub repository at its pinned revision, with the ordinary client, which keeps its own cache."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae_assay.errors import AssayError
from sae_assay.lms import registry

DATASET = "dataset"


def fetch(name: str, folder: str, target: str | Path, registry_path: str | Path = registry.REGISTRY) -> list[Path]:
    """Copy the files of one folder of a registered repository to `target`.

    Args:
        name: the input's name in the registry.
        folder: one of its folders; "" is the repository's root.

    Returns:
        The files that there are; optional ones may be missing.

    Raises:
        AssayError: no such folder, no pinned revision, no access, no hub, a missing file or a wrong digest.
    """
    source = pinned(name, registry_path)
    if folder not in source.folders:
        raise AssayError(str(registry_path), f"{name} has no {folder!r}", f"use one of: {', '.join(source.folders)}")
    Path(target).mkdir(parents=True, exist_ok=True)
    found = []
    for file, path in source.in_folder(folder).items():
        cached_file = _one(source, path, optional=file in source.optional)
        if cached_file is not None:
            shutil.copyfile(cached_file, Path(target) / file)
            found.append(Path(target) / file)
    return found


def cached(name: str, registry_path: str | Path = registry.REGISTRY) -> dict[str, Path | None]:
    """Every file of a registered repository by its path there, in the client's cache; None for an optional one it lacks.

    Raises:
        AssayError: as `fetch`.
    """
    source = pinned(name, registry_path)
    optional = {
        path for folder in source.folders for file, path in source.in_folder(folder).items() if file in source.optional
    }
    return {path: _one(source, path, path in optional) for path in source.paths}


def pinned(name: str, registry_path: str | Path = registry.REGISTRY) -> registry.HubSource:
    """A registered repository whose commit is known; AssayError for another."""
    source = registry.entry(name, registry_path).hub
    if source.revision is None:
        remedy = f"look up the commit of {source.repository}, write it under {name}.source.revision, and run again"
        raise AssayError(str(registry_path), f"{name} has no pinned revision ({source.unknown})", remedy)
    return source


def fetch_pinned(repository: str, revision: str, paths: Sequence[str]) -> dict[str, Path]:
    """Files of a repository at a commit, in the client's cache; errors as in `fetch`."""
    unknown = "named by a manifest, which has the digests"
    source = registry.HubSource(
        kind="hub", repository=repository, revision=revision, folders=[""], files=list(paths), unknown=unknown
    )
    found = {path: _one(source, path, optional=False) for path in paths}
    return {path: file for path, file in found.items() if file is not None}


def download(source: registry.HubSource, path: str) -> Path:
    """One file of a registered repository, checked where its digest is known; errors as in `fetch`."""
    found = _one(source, path, optional=False)
    assert found is not None
    return found


def _one(source: registry.HubSource, path: str, optional: bool) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    where = f"{source.repository}/{path}"
    kind: dict[str, Any] = {} if source.repository_kind == "model" else {"repo_type": source.repository_kind}
    try:
        found = hf_hub_download(source.repository, path, revision=source.revision, **kind)
    except LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError: neither cached nor reachable
        raise _unreachable(source, where, error) from None
    except EntryNotFoundError:
        if optional:
            return None
        raise AssayError(where, f"no such file at {source.revision}", "correct data/registry.yaml") from None
    except GatedRepoError:
        raise _gated(source, where) from None
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(source, where, error) from None
    if path in source.sha256:
        registry.verify(found, source.sha256[path], "do not use this file: it is not the registered one")
    return Path(found)


def _gated(source: registry.HubSource, where: str) -> AssayError:
    page = f"https://huggingface.co/{source.repository}"
    remedy = f"accept the licence at {page} with your account, make a token that may read it, and run again with HF_TOKEN set to it"
    return AssayError(where, "is gated, and this account or token has no access", remedy)


def _unreachable(source: registry.HubSource, where: str, error: Exception) -> AssayError:
    said = " ".join(str(error).split())[:200]
    gate = f"{source.gated} " if source.gated else ""
    kind = "" if source.repository_kind == "model" else f"--repo-type {source.repository_kind} "
    return AssayError(
        where,
        f"could not be fetched ({said})",
        f"{gate}connect to the hub and run again; or run `hf download {kind}{source.repository} --revision {source.revision}` "
        "where there is a network and point HF_HOME to that cache; or let the study do without it: a world regenerated from "
        "its configuration (`world`), SAEs trained in the pipeline (`panel`)",
    )
