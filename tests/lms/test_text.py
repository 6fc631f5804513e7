"""Text and token windows: order, balance, disjointness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard
from tests.lms import stand_in

from sae_assay.errors import AssayError
from sae_assay.lms import text, tokens
from sae_assay.lms.gguf import GgufFile


def write_set(folder: Path, name: str, prompts: list[str], targets: list[str]) -> None:
    (folder / "cleaned_data").mkdir(exist_ok=True)
    body = pl.DataFrame({"prompt": prompts, "target": targets}).write_csv().encode()
    (folder / "cleaned_data" / f"{name}.csv.zst").write_bytes(zstandard.ZstdCompressor().compress(body))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(tmp_path, "2_b_x", ["b", "a", "b", " ", "c", "d", "e"], ["no", "yes", "yes", "no", "no", "yes", "no"])
    write_set(tmp_path, "1_a", [f"text {i}" for i in range(40)], [str(i % 4) for i in range(40)])
    return tmp_path


def test_repeats_and_blanks_go_and_order_stays(folder: Path) -> None:
    found = text.read(folder, "2_b_x")
    assert found.prompts == ["b", "a", "c", "d", "e"]
    assert found.classes == ["no", "yes"] and found.labels == [0, 1, 0, 1, 0]


def test_a_draw_is_balanced_ordered_and_belongs_to_its_name(folder: Path) -> None:
    found = text.read(folder, "1_a")
    usable = set(range(40)) - {0, 4}
    rows = text.balanced(found, 5, ("s", 1), usable)
    assert rows == sorted(rows) and set(rows) <= usable
    assert np.bincount([found.labels[row] for row in rows]).tolist() == [5, 5, 5, 5]
    assert rows == text.balanced(found, 5, ("s", 1), usable) != text.balanced(found, 5, ("s", 2), usable)
    assert len(text.balanced(found, 100, ("s", 1), usable)) == 4 * 8  # cut to the smallest class


def test_the_pool_leaves_evaluation_prompts_out_and_repeats_none(folder: Path) -> None:
    excluded = {"a", "text 3"}
    found = text.pool(folder, 1000, excluded, ("s",), 100)
    assert len(found) == len(set(found)) == 4 + 39
    assert not excluded & set(found)
    few = text.pool(folder, 8, excluded, ("s",), 100)
    assert len(few) == 8 and sum(p.startswith("text") for p in few) == 4  # alike from both sets
    assert few == text.pool(folder, 8, excluded, ("s",), 100)


def test_a_set_is_found_by_its_full_name_or_its_one_match() -> None:
    known = ["96_spam_is", "142_cancer_cat_Thyroid", "143_cancer_cat_Lung", "134_context_type_Belief_states"]
    assert text.resolve("96_spam_is", known) == text.resolve("spam", known) == "96_spam_is"
    assert text.resolve("belief-states", known) == "134_context_type_Belief_states"
    with pytest.raises(AssayError, match=r"cancer names 2 text sets.*142_cancer_cat_Thyroid"):
        text.resolve("cancer", known)
    with pytest.raises(AssayError, match=r"names no text sets"):
        text.resolve("qqq", known)


def test_windows_keep_the_asked_end(tmp_path: Path) -> None:
    stand_in.write_gguf(tmp_path / "m.gguf")
    tokenizer = GgufFile(tmp_path / "m.gguf").tokenizer()
    first = tokens.windows(tokenizer, ["abcdef", "x"], 3, "beginning")
    last = tokens.windows(tokenizer, ["abcdef", "x"], 3, "end")

    def read(found: tokens.Windows, row: int) -> list[str]:
        return [tokenizer.id_to_token(int(t)) for t in found.tokens[row, : found.lengths[row]]]

    assert read(first, 0) == ["ab", "c", "d"] and read(last, 0) == ["d", "e", "f"]
    assert read(first, 1) == ["x"] and first.lengths.tolist() == [3, 1]


def test_batches_hold_every_row_once_in_order_of_length() -> None:
    lengths = np.array([5, 2, 9, 2, 7])
    found = [rows.tolist() for rows in tokens.batches(lengths, 2)]
    assert found == [[1, 3], [0, 4], [2]]


def test_a_crossing_labels_what_both_sets_label(tmp_path: Path) -> None:
    write_set(tmp_path, "1_t", ["a", "b", "c", "d", "e"], ["no", "no", "yes", "yes", "yes"])
    write_set(tmp_path, "2_s", ["d", "c", "b", "a", "z"], ["1", "0", "1", "0", "1"])
    found = text.crossed(tmp_path, "1_t", "2_s")
    assert dict(zip(found.prompts, found.labels, strict=True)) == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert found.classes == ["no & 0", "no & 1", "yes & 0", "yes & 1"]
    write_set(tmp_path, "3_u", ["a", "b"], ["0", "1"])
    with pytest.raises(AssayError, match=r"fewer than four cells"):
        text.crossed(tmp_path, "1_t", "3_u")
