"""The labelled text sets of the sae-probes package, read one file at a time without importing the package.

The package's own reader takes all of its 44 MB at import. Prompts that occur twice in a set are kept once: the sets hold
up to 60 % repeats (`142_cancer_cat_Thyroid_Cancer`), which would put the same text on both sides of a split.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sae_assay import seeds
from sae_assay.errors import AssayError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

_SUFFIX = ".csv.zst"


@dataclass(frozen=True)
class LabelledText:
    """Prompts of one set and their labels, an index into `classes`.

    Attributes:
        name: the file's name without its suffix, such as `96_spam_is`.
        classes: the labels' own names, in the order in which sae-probes numbers them (sorted).
    """

    name: str
    prompts: list[str]
    labels: list[int]
    classes: list[str]


def names(folder: str | Path) -> list[str]:
    """Every set in the data folder of sae-probes, sorted."""
    found = sorted(path.name.removesuffix(_SUFFIX) for path in (Path(folder) / "cleaned_data").glob(f"*{_SUFFIX}"))
    if not found:
        raise AssayError(str(folder), "holds no text sets", "install the locked environment: uv sync")
    return found


def resolve(wanted: str, known: Sequence[str]) -> str:
    """The set that a study means: its full name (`96_spam_is`), the name without number, or its one match by a part.

    Raises:
        AssayError: none or several match; names candidates.
    """
    exact = [name for name in known if wanted in (name, name.partition("_")[2])]
    partial = [name for name in known if _plain(wanted) in _plain(name)]
    for found in (exact, partial):
        if len(found) == 1:
            return found[0]
    close = exact or partial or difflib.get_close_matches(wanted, known, n=5, cutoff=0.4) or list(known[:5])
    problem = f"{wanted} names {len(exact or partial) or 'no'} text sets"
    raise AssayError("lm.probe_datasets", problem, f"write one in full, such as {', '.join(close[:6])}")


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def read(folder: str | Path, name: str) -> LabelledText:
    """Read a set in the file's order, first occurrences only.

    Raises:
        AssayError: no such file, unreadable, or without the columns prompt and target.
    """
    path = Path(folder) / "cleaned_data" / f"{name}{_SUFFIX}"
    try:
        table = pl.read_csv(path, infer_schema=False, columns=["prompt", "target"])
    except FileNotFoundError:
        raise AssayError(str(path), "no such text set", "install the locked environment: uv sync") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        problem = f"cannot be read: {str(error).splitlines()[0]}"
        raise AssayError(str(path), problem, "install the locked environment: uv sync") from None
    table = table.drop_nulls().filter(pl.col("prompt").str.strip_chars() != "")
    table = table.unique("prompt", keep="first", maintain_order=True)
    classes = sorted(table["target"].unique().to_list())
    labels = table["target"].replace_strict(classes, list(range(len(classes))), return_dtype=pl.Int64).to_list()
    return LabelledText(name, table["prompt"].to_list(), labels, classes)


def crossed(folder: str | Path, target: str, spurious: str) -> LabelledText:
    """Prompts that two binary sets both label, with a label per cell: 2 * (target's label) + (spurious set's label).

    Raises:
        AssayError: a set is not binary, or a cell has no prompt.
    """
    first, second = read(folder, target), read(folder, spurious)
    name = f"{target}__{spurious}"
    if len(first.classes) != 2 or len(second.classes) != 2:
        raise AssayError("lm.scr_crossings", f"{name} crosses sets that are not binary", "choose binary sets")
    other = dict(zip(second.prompts, second.labels, strict=True))
    cells = {p: 2 * c + other[p] for p, c in zip(first.prompts, first.labels, strict=True) if p in other}
    if len(set(cells.values())) < 4:
        raise AssayError(
            "lm.scr_crossings", f"{name} has prompts in fewer than four cells", "choose sets that share text"
        )
    classes = [f"{a} & {b}" for a in first.classes for b in second.classes]
    return LabelledText(name, list(cells), list(cells.values()), classes)


def balanced(text: LabelledText, per_class: int, purpose: Sequence[str | int], usable: AbstractSet[int]) -> list[int]:
    """Draw equally many rows of every class, in the file's order.

    Args:
        per_class: rows wanted of each class.
        purpose: names the random stream.
        usable: rows that may be drawn.

    Returns:
        Rows; classes are cut alike to the smallest one if it has fewer than `per_class`.
    """
    labels = np.asarray(text.labels)
    allowed = np.array(sorted(usable), dtype=int)
    rows = [allowed[labels[allowed] == c] for c in range(len(text.classes))]
    size = min([per_class, *(len(r) for r in rows)])
    rng = seeds.numpy_generator(*purpose, text.name)
    return sorted(int(row) for r in rows for row in rng.permutation(r)[:size])


def pool(
    folder: str | Path, count: int, excluded: AbstractSet[str], purpose: Sequence[str | int], longest: int
) -> list[str]:
    """Prompts for training, equally many from every set as far as they go, none of them twice or excluded.

    Args:
        count: prompts wanted in all.
        excluded: prompts that evaluation uses, whatever set they stand in.
        purpose: names the random stream.
        longest: characters kept of a prompt, from its beginning.

    Returns:
        Prompts in random order; fewer than `count` if the sets hold no more.
    """
    rng = seeds.numpy_generator(*purpose)
    shuffled = []
    for name in names(folder):
        fresh = [prompt for prompt in _prompts(folder, name) if prompt not in excluded]
        shuffled.append([fresh[i] for i in rng.permutation(len(fresh))[:count]])
    chosen: dict[str, None] = {}
    for turn in range(max((len(prompts) for prompts in shuffled), default=0)):
        for prompts in shuffled:
            if turn < len(prompts):
                chosen.setdefault(prompts[turn][:longest])
        if len(chosen) >= count:
            break
    found = list(chosen)
    return [found[i] for i in rng.permutation(len(found))][:count]


def _prompts(folder: str | Path, name: str) -> list[str]:
    path = Path(folder) / "cleaned_data" / f"{name}{_SUFFIX}"
    table = pl.read_csv(path, infer_schema=False)
    if "prompt" not in table.columns:  # a few sets of numbers have none
        return []
    prompts = table.filter(pl.col("prompt").str.strip_chars() != "")["prompt"]  # drops nulls too
    return prompts.unique(maintain_order=True).to_list()
