"""Fetches files of a registered hub repository at its pinned revision, with the ordinary client, which keeps its own cache."""

from __future__ import annotations

import shutil
from pathlib import Path

from sae_assay.errors import AssayError
from sae_assay.lms import registry


def fetch(name: str, folder: str, target: str | Path, registry_path: str | Path = registry.REGISTRY) -> list[Path]:
    """Copy the files of one folder of a registered repository to `target`.

    Args:
        name: the input's name in the registry.
        folder: one of its folders; "" is the repository's root.

    Returns:
        The files that there are; optional ones may be missing.

    Raises:
        AssayError: no such folder, no pinned revision, no hub, a missing file or a wrong digest.
    """
    source = registry.entry(name, registry_path).hub
    if folder not in source.folders:
        raise AssayError(str(registry_path), f"{name} has no {folder!r}", f"use one of: {', '.join(source.folders)}")
    if source.revision is None:
        remedy = f"look up the commit of {source.repository}, write it under {name}.source.revision, and run again"
        raise AssayError(str(registry_path), f"{name} has no pinned revision ({source.unknown})", remedy)
    Path(target).mkdir(parents=True, exist_ok=True)
    paths = source.in_folder(folder)
    found = [_one(source, path, Path(target) / file, file in source.optional) for file, path in paths.items()]
    return [file for file in found if file is not None]


def _one(source: registry.HubSource, path: str, target: Path, optional: bool) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    where = f"{source.repository}/{path}"
    try:
        cached = hf_hub_download(source.repository, path, revision=source.revision)
    except LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError: neither cached nor reachable
        raise _unreachable(source, where, error) from None
    except EntryNotFoundError:
        if optional:
            return None
        raise AssayError(where, f"no such file at {source.revision}", "correct data/registry.yaml") from None
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(source, where, error) from None
    if path in source.sha256:
        registry.verify(cached, source.sha256[path], "do not use this file: it is not the registered one")
    shutil.copyfile(cached, target)
    return target


def _unreachable(source: registry.HubSource, where: str, error: Exception) -> AssayError:
    said = " ".join(str(error).split())[:200]
    return AssayError(
        where,
        f"could not be fetched ({said})",
        f"connect to the hub and run again; or run `hf download {source.repository} --revision {source.revision}` where there "
        "is a network and point HF_HOME to that cache; or let the study do without it: a world regenerated from its "
        "configuration (`world`), SAEs trained in the pipeline (`panel`)",
    )
