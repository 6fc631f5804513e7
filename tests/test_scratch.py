"""The folder of unfinished work: its name, what replaces it, and what survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from sae_assay import scratch

JOB = ("study", "substrate", "shards")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "input"
    file.write_bytes(b"tokens")
    return file


def test_equal_work_is_found_again_and_other_work_begins_anew(source: Path) -> None:
    first = scratch.folder(JOB, {"n": 1}, [source], "cpu")
    (first / "shard").write_bytes(b"whole")
    assert scratch.folder(JOB, {"n": 1}, [source], "cpu") == first and (first / "shard").exists()
    elsewhere = scratch.folder(("study", "other", "shards"), {"n": 1}, [source], "cpu")
    assert first.exists() and elsewhere.parent != first.parent
    for settings, content, device in (
        ({"n": 2}, b"tokens", "cpu"),
        ({"n": 1}, b"others", "cpu"),
        ({"n": 1}, b"tokens", "cuda"),
    ):
        source.write_bytes(content)
        now = scratch.folder(JOB, settings, [source], device)
        assert now.name != first.name
        assert [path.name for path in now.parent.iterdir()] == [now.name]  # what could not be gone on with is removed


def test_a_module_in_use_that_changes_begins_anew(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scratch.folder(JOB, {}, [source], "cpu")
    known = scratch._modules()
    assert {"scratch.py", "__init__.py"} <= set(known)
    monkeypatch.setattr(scratch, "_modules", lambda: known | {"scratch.py": "0" * 64})
    assert scratch.folder(JOB, {}, [source], "cpu") != first


def test_a_file_that_was_handed_over_is_still_here(source: Path) -> None:
    target = source.with_name("output")
    target.write_bytes(b"left by a killed job")
    scratch.hand_over(source, target)
    assert target.read_bytes() == source.read_bytes() == b"tokens"
    source.unlink()
    assert target.read_bytes() == b"tokens"
