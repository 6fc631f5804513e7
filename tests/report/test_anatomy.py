"""The anatomy's sentences: the largest source, and which others its interval does not keep apart."""

from __future__ import annotations

import polars as pl

from sae_assay.report import anatomy, page

SHARES = {  # source -> share and its interval
    "data": (0.5, 0.3, 0.7),
    "tasks": (0.2, 0.1, 0.35),
    "split": (0.2, 0.1, 0.25),
    "probe": (0.0, 0.0, 0.0),
    "negatives": (0.1, 0.05, 0.15),
}


def said(marts: dict[str, pl.DataFrame], design: dict, shares: dict) -> str:
    columns = ("share", "share_low", "share_high")
    rows = marts["noise_anatomy"].with_columns(
        pl.col("source").replace_strict({s: v[i] for s, v in shares.items()}, default=None, return_dtype=pl.Float64).alias(c)
        for i, c in enumerate(columns)
    )  # fmt: skip
    changed = marts | {"noise_anatomy": rows}
    (line,) = anatomy.sentences(changed, page.make_cells(changed, design))
    relative, common = line.striptags().split("; ")
    assert relative.split("relative noise: ")[1] == common.split("common shift: ")[1].rstrip(".")
    return relative.split("relative noise: ")[1]


def test_sources_whose_intervals_overlap_the_largest_ones_are_named(marts: dict, design: dict) -> None:
    words = said(marts, design, SHARES).replace("\u202f", " ")
    assert words == "rows or text, 50 % (30 % to 70 %), not told apart from tasks"


def test_a_source_apart_from_all_others_stands_alone(marts: dict, design: dict) -> None:
    assert "apart" not in said(marts, design, SHARES | {"tasks": (0.2, 0.1, 0.29)})


def test_without_intervals_only_an_inert_source_is_told_apart(marts: dict, design: dict) -> None:
    words = said(marts, design, {source: (share, None, None) for source, (share, *_) in SHARES.items()})
    assert words.endswith("not told apart from tasks, split and scoring’s negatives")
