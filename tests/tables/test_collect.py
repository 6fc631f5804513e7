"""Score files become the study's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.statistics import factory

from sae_assay.errors import AssayError
from sae_assay.steps import table as step
from sae_assay.tables import collect, scores


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return factory.score_table(substrates=("smollm2",), source=False)


def write_files(folder: Path, rows: pl.DataFrame) -> list[Path]:
    paths = []
    for (sae, seed), part in rows.group_by("sae_id", "eval_seed", maintain_order=True):
        path = folder / str(sae) / f"{seed}.parquet"
        path.parent.mkdir(exist_ok=True)
        scores.write(part, path)
        paths.append(path)
    return paths


def planned(rows: pl.DataFrame, *more: str) -> list[dict[str, Any]]:
    saes = [*sorted(set(rows["sae_id"])), *more]
    return [
        {"substrate": "smollm2", "saes": saes, "metrics": sorted(set(rows["metric"])), "seeds": list(factory.SEEDS)}
    ]


def test_files_become_one_table_that_names_them(tmp_path: Path, rows: pl.DataFrame) -> None:
    paths = write_files(tmp_path, rows)
    tables = collect.collect(reversed(paths), planned(rows))
    assert tables["scores"].drop("source").equals(rows)
    assert set(tables["scores"]["source"]) == {str(p) for p in paths}
    assert tables["repeats"].height == 0
    assert tables["saes"].height == 14
    assert tables["tasks"].filter(metric="tpp").height == 6
    assert tables["coverage"].height == 14 * 3 * 3
    assert (tables["coverage"]["n_ok"] == tables["coverage"]["n_rows"]).all()


def test_repeats_are_kept_apart(tmp_path: Path, rows: pl.DataFrame) -> None:
    paths = write_files(tmp_path, rows)
    again = paths[0].with_name("repeat_42.parquet")
    again.write_bytes(paths[0].read_bytes())
    tables = collect.collect([*paths, again])
    assert tables["scores"].height == rows.height
    assert tables["repeats"].drop("source").equals(scores.read(paths[0]))


def test_planned_and_never_scored_cells_are_counted(tmp_path: Path, rows: pl.DataFrame) -> None:
    cells = collect.collect(write_files(tmp_path, rows), planned(rows, "standard_l0_16_seed_0"))["coverage"]
    missing = cells.filter(n_rows=0)
    assert set(missing["sae_id"]) == {"standard_l0_16_seed_0"}
    assert missing.height == 3 * 3


def test_what_contradicts_is_an_error(tmp_path: Path, rows: pl.DataFrame) -> None:
    paths = write_files(tmp_path, rows)
    with pytest.raises(AssayError, match="never planned"):
        collect.collect(paths, [{**planned(rows)[0], "metrics": ["tpp"]}])
    with pytest.raises(AssayError, match="no score file"):
        collect.collect([])
    scores.write(scores.read(paths[0]).with_columns(target_l0=17.0), paths[0])
    with pytest.raises(AssayError, match=r"described in two ways \(column target_l0\)"):
        collect.collect(paths)
    scores.write(scores.read(paths[1]), paths[0])
    with pytest.raises(AssayError, match="twice"):
        collect.collect(paths)


def test_the_step_writes_what_it_is_asked_for(tmp_path: Path, rows: pl.DataFrame) -> None:
    class Files(list[str]):
        def __getattr__(self, name: str) -> str:
            return str(tmp_path / f"{name}.parquet")

    step.run(Files(map(str, write_files(tmp_path, rows))), Files(), {"planned": planned(rows)})
    assert scores.read(tmp_path / "scores.parquet").height == rows.height
    assert {p.stem for p in tmp_path.glob("*.parquet")} == {"scores", "repeats", "saes", "tasks", "coverage"}
