"""SAEs of a SAELens release, such as Gemma Scope: read by the release's own loader, at the registered commit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_assay.errors import AssayError
from sae_assay.lms import hub, registry


def fetch(name: str, sae: tuple[str, str], target: str | Path, registry_path: str | Path = registry.REGISTRY) -> None:
    """Write an SAE of a release as a SAELens folder.

    Args:
        name: the registry's name for the repository that holds it.
        sae: release and id, as `SAE.from_pretrained` takes them: `gemma-scope-2b-pt-res-canonical`,
            `layer_12/width_16k/canonical`.

    Raises:
        AssayError: no such release or id, one of another repository, a folder that is not registered, no pinned revision, no
            access, no hub, or a wrong digest.
    """
    source = hub.pinned(name, registry_path)
    folder = _folder(name, source, sae)
    if folder not in source.folders:
        problem = f"{name} has no {folder!r}, where {sae[1]} of {sae[0]} lies"
        raise AssayError(str(registry_path), problem, f"add it to {name}.source.folders")
    from sae_lens import SAE

    with _pinned_downloads(source):
        loaded, _, _ = SAE.from_pretrained_with_cfg_and_sparsity(*sae, device="cpu")
    Path(target).mkdir(parents=True, exist_ok=True)
    loaded.save_model(str(target))


def _folder(name: str, source: registry.HubSource, sae: tuple[str, str]) -> str:
    """Where a release's SAE lies in its repository, by SAELens's own list."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory, get_repo_id_and_folder_name

    known = get_pretrained_saes_directory()
    if sae[0] not in known:
        raise AssayError(sae[0], "is no release that sae_lens knows", "see sae_lens's list of pretrained SAEs")
    if sae[1] not in known[sae[0]].saes_map:
        some = ", ".join(list(known[sae[0]].saes_map)[:5])
        raise AssayError(sae[0], f"has no SAE {sae[1]}", f"use one of its ids, such as {some}")
    repository, folder = get_repo_id_and_folder_name(*sae)
    if repository != source.repository:
        problem = f"is {source.repository}, and {sae[0]} lies in {repository}"
        raise AssayError(name, problem, f"register {repository} and name it as the input")
    return str(folder)


@contextlib.contextmanager
def _pinned_downloads(source: registry.HubSource) -> Iterator[None]:
    """The release loaders' downloads, which take no commit, come from the registered one, with digests checked."""
    from sae_lens.loading import pretrained_sae_loaders as loaders

    def download(repo_id: str, filename: str, subfolder: str | None = None, **ignored: Any) -> str:
        if repo_id != source.repository:
            raise AssayError(repo_id, f"is not {source.repository}, which the study names", "register it as an input")
        return str(hub.download(source, f"{subfolder}/{filename}" if subfolder else filename))

    own = loaders.hf_hub_download
    loaders.hf_hub_download = download
    try:
        yield
    finally:
        loaders.hf_hub_download = own
