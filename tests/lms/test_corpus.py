"""A training text on disk: documents of small .jsonl.zst files, cut, kept after a kill, read in an order of their own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from tests.lms import stand_in
from tests.lms.test_registry import HUB

from sae_assay import scratch
from sae_assay.errors import AssayError
from sae_assay.lms import activations, corpus, stream
from sae_assay.lms.corpus import LENGTHS, TOKENS, Corpus, Place
from sae_assay.lms.stream import Position, TokenRows
from sae_assay.lms.tokens import Windows
from sae_assay.steps import lm_corpus, lm_shards
from sae_assay.worlds import sample

REVISION = "0" * 40


class Letters:
    """A tokenizer whose tokens are a text's letters: a is 1, b is 2."""

    def __init__(self, bos: int | None = None) -> None:
        self.bos = bos

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = False) -> list[Any]:
        return [SimpleNamespace(ids=[ord(letter) - ord("a") + 1 for letter in text]) for text in texts]


def write(path: Path, documents: Sequence[Any]) -> Path:
    """A file of documents in two zstd frames, as tools that write in parallel leave them."""
    lines = [d if isinstance(d, bytes) else json.dumps({"meta": {}, "text": d}).encode() + b"\n" for d in documents]
    half, codec = len(lines) // 2, pa.Codec("zstd")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(codec.compress(b"".join(part), asbytes=True) for part in (lines[:half], lines[half:])))
    return path


def given(*paths: Path) -> list[Callable[[], Path]]:
    return [lambda path=path: path for path in paths]  # type: ignore[misc]


def found(folder: Path) -> list[list[int]]:
    """The windows that a folder holds, in the documents' order."""
    tokens, lengths = np.load(folder / TOKENS), np.load(folder / LENGTHS)
    assert tokens.dtype == lengths.dtype == np.int32
    return [part.tolist() for part in np.split(tokens, np.cumsum(lengths)[:-1])]


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    """Two files of 30 documents of 0 to 12 letters."""
    rng = np.random.default_rng(5)
    every = ["".join(rng.choice(list("abcdef"), rng.integers(0, 13))) for _ in range(60)]
    return [write(tmp_path / "a.jsonl.zst", every[:30]), write(tmp_path / "b.jsonl.zst", every[30:])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


def test_documents_are_cut_into_windows_that_begin_with_the_models_first_token(tmp_path: Path, folder: Path) -> None:
    path = write(tmp_path / "a.jsonl.zst", ["abcdefg", "", "a", "ab", "line"])
    place = corpus.build(given(path), Letters(bos=9), 4, 100, folder)  # type: ignore[arg-type]
    line = [12, 9, 14, 5]
    expected = [[9, 1, 2, 3], [9, 4, 5, 6], [9, 7], [9, 1], [9, 1, 2], [9, *line[:3]], [9, line[3]]]
    assert found(folder) == expected
    assert place == Place((5,), 7, 21) and place.counted == 7 + 1 + 2 + 4


def test_without_a_first_token_a_window_of_one_token_is_left_out(tmp_path: Path, folder: Path) -> None:
    path = write(tmp_path / "a.jsonl.zst", ["abcdefg", "a", "abcd"])
    place = corpus.build(given(path), Letters(), 3, 100, folder)  # type: ignore[arg-type]
    assert found(folder) == [[1, 2, 3], [4, 5, 6], [1, 2, 3]]
    assert place.documents == (3,) and place.counted == 6


def test_documents_are_taken_in_order_until_their_tokens_are_enough(texts: list[Path], folder: Path) -> None:
    documents = [list(corpus.lines(path)) for path in texts]
    sizes = np.cumsum([len(text) for text in itertools.chain(*documents)])
    last = next(i for i in range(40, 60) if sizes[i] > sizes[i - 1])
    place = corpus.build(given(*texts), Letters(bos=9), 5, int(sizes[last - 1]) + 1, folder)  # type: ignore[arg-type]
    assert place.documents == (30, last - 29) and place.counted == sizes[last]
    letters = [token for window in found(folder) for token in window[1:]]
    assert letters == [ord(letter) - 96 for letter in "".join([*documents[0], *documents[1][: last - 29]])]


def test_a_file_that_is_not_needed_is_not_fetched(texts: list[Path], folder: Path) -> None:
    asked: list[Path] = []

    def fetched(path: Path) -> Callable[[], Path]:
        return lambda: asked.append(path) or path  # type: ignore[func-returns-value]

    corpus.build([fetched(path) for path in texts], Letters(bos=9), 5, 20, folder)  # type: ignore[arg-type]
    assert asked == texts[:1]


def test_a_text_that_ends_too_early_is_taken_whole(texts: list[Path], folder: Path) -> None:
    place = corpus.build(given(*texts), Letters(bos=9), 5, 10**6, folder)  # type: ignore[arg-type]
    assert place.documents == (30, 30)
    assert place.counted == sum(len(text) for path in texts for text in corpus.lines(path))


def test_how_many_are_tokenised_together_changes_nothing(
    texts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for together in (1, 7, 1000):
        monkeypatch.setattr(corpus, "TOGETHER", together)
        (folder := tmp_path / f"of_{together}").mkdir()
        corpus.build(given(*texts), Letters(bos=9), 5, 250, folder)  # type: ignore[arg-type]
        made.append([scratch.digest(folder / name) for name in (TOKENS, LENGTHS)])
    assert made[0] == made[1] == made[2]


def _left_over(folder: Path) -> None:
    with (folder / TOKENS).open("ab") as file:
        file.write(b"windows that no line of the journal names")


def _torn(folder: Path) -> None:
    journal = folder / scratch.JOURNAL
    journal.write_text(journal.read_text()[:-10])


def _lost(folder: Path) -> None:
    (folder / LENGTHS).unlink()


@pytest.mark.parametrize(("damage", "again"), [(_left_over, 14), (_torn, 7), (_lost, 0)])
@pytest.mark.parametrize("killed_in", [0, 1])
def test_a_restart_goes_on_behind_the_last_documents_to_the_same_bytes(
    texts: list[Path],
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    again: int,
    killed_in: int,
) -> None:
    monkeypatch.setattr(corpus, "TOGETHER", 7)
    (whole := tmp_path / "whole").mkdir()
    corpus.build(given(*texts), Letters(bos=9), 5, 300, whole)  # type: ignore[arg-type]
    asked: list[int] = []
    lines, cut = corpus.lines, corpus.cut

    def kill(tokenizer: Any, documents: Sequence[str], context: int) -> Any:
        if (folder / scratch.JOURNAL).read_text().count("\n") == 2 + 5 * killed_in:
            raise KeyboardInterrupt
        return cut(tokenizer, documents, context)

    monkeypatch.setattr(corpus, "cut", kill)
    with pytest.raises(KeyboardInterrupt):
        corpus.build(given(*texts), Letters(bos=9), 5, 300, folder)  # type: ignore[arg-type]
    damage(folder)
    monkeypatch.setattr(corpus, "cut", cut)
    monkeypatch.setattr(corpus, "lines", lambda path, start=0: asked.append(start) or lines(path, start))
    corpus.build(given(*texts), Letters(bos=9), 5, 300, folder)  # type: ignore[arg-type]
    assert asked[0] == again
    assert [scratch.digest(folder / name) for name in (TOKENS, LENGTHS)] == [
        scratch.digest(whole / name) for name in (TOKENS, LENGTHS)
    ]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b'{"text": "ab"\n', r"a\.jsonl\.zst, line 3: is no JSON"),
        (b"\xff\xfe\n", r"line 3: is no JSON"),
        (b'{"body": "ab"}\n', r"line 3: has no `text`.*fetch the file again, or take it out of data/registry.yaml"),
        (b'{"text": null}\n', r"line 3: has no `text`"),
        (b'["ab"]\n', r"line 3: has no `text`"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: bytes, said: str) -> None:
    path = write(tmp_path / "a.jsonl.zst", ["ab", "cd", bad, "ef"])
    with pytest.raises(AssayError, match=said):
        list(corpus.lines(path))


def test_a_file_that_is_cut_off_or_something_else_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.zst", [str(i) for i in range(5000)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AssayError, match=r"a\.jsonl\.zst: cannot be read"):
        list(corpus.lines(path))
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(AssayError, match=r"a\.jsonl\.zst: cannot be read"):
        list(corpus.lines(path))


# Reading -------------------------------------------------------------------------------------------------------------------
def made(folder: Path, windows: int = 40) -> tuple[Path, Path]:
    """Random windows of the stand-in's tokens, written as a text leaves them."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(2, 9, windows).astype(np.int32)
    np.save(folder / LENGTHS, lengths)
    np.save(folder / TOKENS, rng.integers(0, stand_in.CONFIG.vocabulary, lengths.sum()).astype(np.int32))
    return folder / TOKENS, folder / LENGTHS


def test_windows_are_read_once_each_in_an_order_that_their_purpose_names(folder: Path) -> None:
    files, windows = made(folder), found(made(folder)[0].parent)
    text = Corpus(*files, 8, ("t",))
    everything = text.take(range(len(text)))
    read = [row[:n].tolist() for row, n in zip(everything.tokens, everything.lengths, strict=True)]
    assert read != windows and sorted(read) == sorted(windows)
    assert (
        everything.tokens.shape == (40, 8) and not everything.tokens[np.arange(8) >= everything.lengths[:, None]].any()
    )
    part = Corpus(*files, 8, ("t",)).take(np.array([7, 3]))
    np.testing.assert_array_equal(part.tokens, everything.tokens[[7, 3]])
    other = Corpus(*files, 8, ("u",)).take(range(40))
    assert not np.array_equal(other.tokens, everything.tokens)


def test_a_model_reads_a_corpus_as_it_reads_windows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK_TOKENS", 24)
    text = Corpus(*made(folder), 8, ("t",))
    rows, _ = TokenRows(stand_in.model(), text, 1, 8.0).take(50, Position())
    hidden, _, _ = activations.residuals(stand_in.model(), text.take(range(40)), 1, "all")
    torch.testing.assert_close(rows, hidden[hidden.norm(dim=1) <= 8.0][:50])


def test_foreign_token_ids_and_files_of_two_texts_are_refused(folder: Path) -> None:
    tokens, lengths = made(folder)
    Corpus(tokens, lengths, 8, ("t",)).check(stand_in.CONFIG.vocabulary)
    with pytest.raises(AssayError, match=r"token ids 0 to 39, the model knows 0 to 38"):
        Corpus(tokens, lengths, 8, ("t",)).check(39)
    np.save(lengths, np.load(lengths)[:-1])
    with pytest.raises(AssayError, match="is not the text that"):
        Corpus(tokens, lengths, 8, ("t",))
    lengths.write_bytes(b"x")
    with pytest.raises(AssayError, match="no whole file"):
        Corpus(tokens, lengths, 8, ("t",))


# The step ------------------------------------------------------------------------------------------------------------------
class Step:
    """The step on files that a folder serves in place of the hub."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.served, self.home = tmp_path / "served", tmp_path
        monkeypatch.chdir(tmp_path)

        def download(repository: str, path: str, revision: str, repo_type: str) -> str:
            assert (repository, revision, repo_type) == ("a/b", REVISION, "dataset")
            return str(self.served / path)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        stand_in.write_gguf(tmp_path / "model.gguf")

    def __call__(self, training_tokens: int, **changes: Any) -> dict[str, Any]:
        files = {"folders": ["train"], "files": ["00.jsonl.zst", "01.jsonl.zst"], "repository_kind": "dataset"}
        source = HUB | {"revision": REVISION} | files | changes
        entry = {"title": "t", "used_for": "u", "source": source, "obtained": "fetched", "licence": "MIT"}
        Path("registry.yaml").write_text(yaml.safe_dump({"it": entry}))
        inputs = SimpleNamespace(registry="registry.yaml", model="model.gguf")
        lm = {"training_text": "it", "training_context": 16, "context": 4, "training_tokens": training_tokens}
        outputs = SimpleNamespace(corpus=[TOKENS, LENGTHS, "documents.json"])
        lm_corpus.run(inputs, outputs, {"study": "s", "substrate": "b", "lm": lm})
        return json.loads(Path("documents.json").read_text())


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Step:
    found = Step(tmp_path, monkeypatch)
    rng = np.random.default_rng(0)
    for name in ("00", "01"):
        documents = ["".join(rng.choice(list("abcdefgh"), rng.integers(1, 60))) for _ in range(100)]
        write(found.served / f"train/{name}.jsonl.zst", documents)
    return found


def test_the_step_says_which_documents_it_took(step: Step) -> None:
    about = step(3000)
    assert (about["input"], about["repository"], about["revision"], about["context"]) == ("it", "a/b", REVISION, 16)
    first, second = about["files"]
    assert first["documents"] == 100 and 0 < second["documents"] < 100
    assert first["sha256"] == scratch.digest(step.served / "train/00.jsonl.zst")
    lengths = np.load(LENGTHS)
    assert (len(lengths), int(lengths.sum())) == (about["windows"], about["tokens"])
    assert lengths.max() == 16 and 3240 <= int((lengths - 1).sum()) < 3240 + 60
    assert not list(Path(".sae-assay/scratch").rglob(TOKENS))
    one = [file["documents"] for file in step(500)["files"]]
    assert len(one) == 1 and one[0] < 100


def test_a_text_with_too_few_tokens_is_said_so(step: Step) -> None:
    said = r"lm\.training_tokens: is 100000, .* it has \d+ tokens in 2 files, .* train/01\.jsonl\.zst.*lower it and .*registry"
    with pytest.raises(AssayError, match=said):
        step(100_000)


def test_a_text_without_a_commit_or_of_other_files_is_refused(step: Step) -> None:
    with pytest.raises(AssayError, match="it has no pinned revision"):
        step(100, revision=None)
    with pytest.raises(AssayError, match=r"it has train/a\.parquet, no \.jsonl\.zst file"):
        step(100, files=["a.parquet"])


def test_the_stream_takes_its_calibration_rows_from_the_other_text(folder: Path) -> None:
    tokens, lengths = made(folder)
    sample.save_rows(folder / "training.safetensors", np.empty((0, 3), np.float32), np.ones((2, 3), np.float32))
    inputs = SimpleNamespace(
        corpus=[str(tokens), str(lengths), "documents.json"], training=folder / "training.safetensors"
    )
    params = {"study": "s", "substrate": "b", "lm": {"context": 4, "training_context": 8}}
    text, calibration = lm_shards.training_text(inputs, params)
    assert torch.equal(calibration, torch.ones(2, 3))
    np.testing.assert_array_equal(
        text.take([5]).tokens, Corpus(tokens, lengths, 8, ("s", "b", "corpus")).take([5]).tokens
    )
    plain = Windows(np.ones((2, 3), np.int64), np.full(2, 3))
    stream.save_text(folder / "training.safetensors", plain, torch.ones(1, 3))
    inputs.corpus = []
    assert isinstance(lm_shards.training_text(inputs, params)[0], Windows)
