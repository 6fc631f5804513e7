"""Text as the real SAEBench reads it: every row once, a fifth of every class held out, crossings with both labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sae_assay.lms import library_text
from sae_assay.lms.text import LabelledText
from sae_assay.lms.texts import Drawn
from sae_assay.lms.tokens import Windows

NO_TOKENS = Windows(np.zeros((0, 1), np.int64), np.zeros(0, np.int64))


def drawn(name: str, classes: list[str], per_class: int) -> Drawn:
    labels = [c for c in range(len(classes)) for _ in range(per_class)]
    prompts = [f"{name} prompt {i} of class {c}" for i, c in enumerate(labels)]
    return Drawn(LabelledText(name, prompts, labels, classes), list(range(len(labels))), NO_TOKENS)


def written(one: Drawn, path: Path, seed: int | None = None) -> dict:
    purpose = ["study", "lm", "split", *([] if seed is None else [seed])]
    library_text.write_set(one, path, purpose, shuffled=seed is not None)
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_row_is_in_one_part_and_a_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    one = drawn("sport", ["a", "b", "c"], 25)
    found = written(one, tmp_path / "sport.json")
    train, test = found["train"], found["test"]
    assert sorted(train["text"] + test["text"]) == sorted(one.prompts)
    assert [test["label"].count(c) for c in range(3)] == [5, 5, 5]
    assert all(text.endswith(f"class {label}") for text, label in zip(train["text"], train["label"], strict=True))
    assert found["classes"] == ["a", "b", "c"]


def test_only_a_seed_moves_the_split(tmp_path: Path) -> None:
    one = drawn("sport", ["a", "b"], 50)
    fixed = written(one, tmp_path / "a.json")
    assert written(one, tmp_path / "b.json") == fixed
    moved = [written(one, tmp_path / f"{seed}.json", seed) for seed in (1, 2)]
    assert len({frozenset(part["test"]["text"]) for part in [fixed, *moved]}) == 3


def test_without_a_seed_rows_stay_in_the_files_order_and_with_one_they_do_not(tmp_path: Path) -> None:
    one = drawn("sport", ["a", "b"], 50)
    place = {text: i for i, text in enumerate(one.prompts)}
    order = [place[text] for text in written(one, tmp_path / "a.json")["train"]["text"]]
    assert order == sorted(order)
    order = [place[text] for text in written(one, tmp_path / "b.json", 7)["train"]["text"]]
    assert order != sorted(order)


def test_a_crossing_has_both_labels_and_both_pairs_of_classes(tmp_path: Path) -> None:
    cells = ["no & x", "no & y", "yes & x", "yes & y"]
    found = written(drawn("t__s", cells, 10), tmp_path / "t.json")
    assert found["classes"] == [["no", "yes"], ["x", "y"]]
    for part in ("train", "test"):
        for label, t, s in zip(*(found[part][name] for name in ("label", "target", "spurious")), strict=True):
            assert label == 2 * t + s
    assert found["test"]["label"].count(3) == 2


@pytest.mark.parametrize("sizes", [(3, 40), (40, 3)])
def test_prompts_stand_once_in_the_text(tmp_path: Path, sizes: tuple[int, int]) -> None:
    sets = [drawn(name, ["a", "b"], size) for name, size in zip("xy", sizes, strict=True)]
    library_text.write_text([*sets, sets[0]], tmp_path / "text.json")
    found = json.loads((tmp_path / "text.json").read_text(encoding="utf-8"))
    assert found == [*sets[0].prompts, *sets[1].prompts]
