"""Files of the hub: fetched at the pinned commit, checked where a digest is known, and a clear word where there is no hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.lms.test_registry import HUB

from sae_assay.errors import AssayError
from sae_assay.lms import hub

REVISION = "0" * 40


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the hub; each request is checked to name the pinned commit."""
    from huggingface_hub import errors

    folder = tmp_path / "served"
    folder.mkdir()

    class Missing(errors.EntryNotFoundError):
        def __init__(self) -> None:
            Exception.__init__(self, "404")

    def download(repository: str, path: str, revision: str) -> str:
        assert (repository, revision) == ("a/b", REVISION)
        if not (folder / path).exists():
            raise Missing
        return str(folder / path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return folder


def register(tmp_path: Path, **changes: Any) -> Path:
    source = HUB | {"revision": REVISION, "folders": ["", "x"], "files": ["a"], "optional": ["b"]} | changes
    entry = {"title": "t", "used_for": "u", "source": source, "obtained": "fetched", "licence": "MIT"}
    path = tmp_path / "registry.yaml"
    path.write_text(yaml.safe_dump({"it": entry}))
    return path


def test_files_of_a_folder_are_copied_and_optional_ones_may_be_missing(served: Path, tmp_path: Path) -> None:
    (served / "x").mkdir()
    (served / "a").write_text("root")
    (served / "x/a").write_text("of x")
    (served / "x/b").write_text("more")
    assert hub.fetch("it", "", tmp_path / "root", register(tmp_path)) == [tmp_path / "root/a"]
    assert (tmp_path / "root/a").read_text() == "root"
    hub.fetch("it", "x", tmp_path / "x", register(tmp_path))
    assert sorted(f.read_text() for f in (tmp_path / "x").iterdir()) == ["more", "of x"]


def test_a_missing_file_and_an_unknown_folder_are_named(served: Path, tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="a/b/x/a: no such file at 0000"):
        hub.fetch("it", "x", tmp_path / "t", register(tmp_path))
    with pytest.raises(AssayError, match="it has no 'y'"):
        hub.fetch("it", "y", tmp_path / "t", register(tmp_path))


def test_a_known_digest_is_checked(served: Path, tmp_path: Path) -> None:
    (served / "a").write_text("text")
    right = hashlib.sha256(b"text").hexdigest()
    hub.fetch("it", "", tmp_path / "t", register(tmp_path, sha256={"a": right}))
    with pytest.raises(AssayError, match="SHA-256"):
        hub.fetch("it", "", tmp_path / "t", register(tmp_path, sha256={"a": "0" * 64}))


def test_nothing_is_fetched_without_a_pinned_commit(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=r"no pinned revision \(no hub\).*look up the commit of a/b"):
        hub.fetch("it", "", tmp_path / "t", register(tmp_path, revision=None))


def test_a_gated_repository_explains_licence_and_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub.errors import GatedRepoError

    def refuse(*request: Any, **options: Any) -> str:
        raise GatedRepoError("403", response=httpx.Response(403, request=httpx.Request("GET", "https://hub")))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(AssayError, match=r"a/b/a: is gated.*licence at https://huggingface.co/a/b.*HF_TOKEN"):
        hub.fetch("it", "", tmp_path / "t", register(tmp_path))


def test_a_data_set_is_asked_for_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    (tmp_path / "a").write_text("x")

    def download(repository: str, path: str, **options: Any) -> str:
        asked.append(options)
        return str(tmp_path / "a")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    hub.fetch("it", "", tmp_path / "t", register(tmp_path, repository_kind="dataset", optional=[]))
    assert asked == [{"revision": REVISION, "repo_type": "dataset"}]


def test_without_a_hub_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AssayError, match=r"a/b/a: could not be fetched .*HF_HOME.*`world`.*`panel`"):
        hub.fetch("it", "", tmp_path / "t", register(tmp_path))
