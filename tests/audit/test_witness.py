"""Rows are followed through queries as a reader would follow them, and a witness alone gives the number again, bit by bit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from tests.statistics import factory

from sae_assay.audit import lineage, witness
from sae_assay.audit.follow import Follower
from sae_assay.errors import AssayError
from sae_assay.report import queries
from sae_assay.statistics import contracts, runner
from sae_assay.tables import scores

ROOT = Path(__file__).resolve().parents[2]

# t: k v = a1 b2 a3 c4;  u: k w = a10 b20
FOLLOWED: dict[str, tuple[str, list[tuple[Any, list[int]]]]] = {
    "a filter": ("SELECT v FROM t WHERE k = 'a'", [(1, [0]), (3, [2])]),
    "a group": ("SELECT sum(v) FROM t GROUP BY k ORDER BY k", [(4, [0, 2]), (2, [1]), (4, [3])]),
    "a whole table": ("SELECT max(v) FROM t WHERE v < 4", [(3, [0, 1, 2])]),
    "an inner join": ("SELECT v + w FROM t JOIN u USING (k) ORDER BY v", [(11, [0]), (22, [1]), (13, [2])]),
    "an outer join": ("SELECT w FROM t LEFT JOIN u USING (k) ORDER BY v", [(10, [0]), (20, [1]), (10, [2]), (None, [3])]),
    "a window": (
        "SELECT v - min(v) OVER (PARTITION BY k) FROM t ORDER BY v", [(0, [0, 2]), (0, [1]), (2, [0, 2]), (0, [3])]
    ),
    "a named window": (
        "SELECT lag(v) OVER w FROM t WINDOW w AS (PARTITION BY k ORDER BY v) ORDER BY v",
        [(None, [0, 2]), (None, [1]), (1, [0, 2]), (None, [3])],
    ),
    "two windows": (
        "SELECT count(*) OVER (PARTITION BY k) + 10 * count(*) OVER () FROM t WHERE v < 4 ORDER BY v",
        [(32, [0, 1, 2]), (31, [0, 1, 2]), (32, [0, 1, 2])],
    ),
    "one of equal rows": ("SELECT DISTINCT k FROM t ORDER BY k", [("a", [0]), ("b", [1]), ("c", [3])]),
    "one of equal rows of a join": (
        "SELECT DISTINCT t.k FROM t JOIN u USING (k) ORDER BY t.k", [("a", [0]), ("b", [1])]
    ),
    "the rows that serve anyway": (
        "WITH kinds AS (SELECT DISTINCT k FROM t), last AS (SELECT k, v FROM t WHERE v = 3)"
        " SELECT v FROM last JOIN kinds USING (k)", [(3, [2])],
    ),
    "a union": ("SELECT v FROM t WHERE v = 1 UNION ALL SELECT w FROM u ORDER BY 1", [(1, [0]), (10, []), (20, [])]),
    "a set union": ("SELECT k FROM t UNION SELECT k FROM u ORDER BY k", [("a", [0]), ("b", [1]), ("c", [3])]),
    "a semi-join": ("SELECT * FROM u SEMI JOIN t USING (k) ORDER BY w", [("a", [0]), ("b", [1])]),
    "a list, spread": (
        "WITH lists AS (SELECT k, list(v ORDER BY v) AS vs FROM t GROUP BY k) SELECT unnest(vs) FROM lists WHERE k = 'a'",
        [(1, [0, 2]), (3, [0, 2])],
    ),
    "a subquery as source": ("SELECT s FROM (SELECT k, sum(v) AS s FROM t GROUP BY k) WHERE k = 'a'", [(4, [0, 2])]),
    "a scalar subquery": ("SELECT w + (SELECT max(v) FROM t WHERE k = 'a') FROM u WHERE k = 'b'", [(23, [0, 2])]),
    "IN": ("SELECT w FROM u WHERE k IN (SELECT k FROM t WHERE v > 1) ORDER BY w", [(10, [1, 2, 3]), (20, [1, 2, 3])]),
    "EXISTS": ("SELECT w FROM u WHERE EXISTS (SELECT 1 FROM t WHERE v = 4) ORDER BY w", [(10, [3]), (20, [3])]),
    "constants": ("SELECT x FROM (VALUES (7)) AS c (x) CROSS JOIN u WHERE k = 'a'", [(7, [])]),
    "grouping sets": ("SELECT sum(v) AS s FROM t GROUP BY GROUPING SETS ((k), ()) ORDER BY s, k",
                      [(2, [1]), (4, [0, 2]), (4, [3]), (10, [0, 1, 2, 3])]),
    "having": ("SELECT k FROM t GROUP BY k HAVING count(*) > 1", [("a", [0, 2])]),
    "a name that is a table's": ("WITH u AS (SELECT v FROM t WHERE v = 2) SELECT v FROM u", [(2, [1])]),
}  # fmt: skip


@pytest.mark.parametrize("construct", FOLLOWED)
def test_a_row_is_followed_to_the_rows_it_was_made_of(construct: str) -> None:
    sql, expected = FOLLOWED[construct]
    with duckdb.connect(config={"threads": 1}) as db:
        db.execute("CREATE TABLE t AS SELECT * FROM (VALUES ('a', 1), ('b', 2), ('a', 3), ('c', 4)) AS t (k, v)")
        db.execute("CREATE TABLE u AS SELECT * FROM (VALUES ('a', 10), ('b', 20)) AS u (k, w)")
        plain = db.sql(sql).fetchall()
        follower = Follower(db)
        for table in ("t", "u"):
            follower.leaves(table)
        follower.step("answer", sql)
        assert db.sql("SELECT * FROM answer").fetchall() == plain
    assert [row[0] for row in plain] == [value for value, _ in expected]
    assert [follower.used("answer", i, "t", 4).tolist() for i in range(len(plain))] == [rows for _, rows in expected]


REFUSED = {
    "SELECT v FROM t LIMIT 1": "LIMIT",
    "SELECT DISTINCT ON (k) v FROM t": "DISTINCT ON",
    "SELECT v FROM t EXCEPT SELECT w FROM u": "EXCEPT",
    "SELECT v FROM t INTERSECT SELECT w FROM u": "INTERSECT",
    "SELECT v FROM t ANTI JOIN u USING (k)": "ANTI JOIN",
    "SELECT v FROM t ASOF JOIN u USING (k, v)": "ASOF",
    "SELECT v FROM t QUALIFY row_number() OVER (ORDER BY v) = 1": "QUALIFY",
    "WITH RECURSIVE r AS (SELECT 1 AS v UNION ALL SELECT v + 1 FROM r WHERE v < 3) SELECT v FROM r": "WITH RECURSIVE",
    "SELECT v FROM read_parquet('x')": "READ_PARQUET",
    "SELECT v FROM t, LATERAL (SELECT t.v + 1 AS x)": "LATERAL",
    "SELECT v FROM t TABLESAMPLE 10 PERCENT": "TABLESAMPLE",
    "SELECT sum(count(*)) OVER () FROM t GROUP BY k": "window function beside GROUP BY",
    "SELECT rank() OVER (ORDER BY v) AS r FROM t UNION ALL SELECT 1": "window function inside UNION",
    "SELECT v FROM t WHERE v = (SELECT max(w) FROM u WHERE u.k = t.k)": "subquery may name columns outside",
    "SELECT cell_id + 1 FROM t": "computed from cell_id",
    "SELECT cell_id AS name FROM t WHERE name > 3": "computed from name",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(sql: str) -> None:
    with duckdb.connect() as db:
        db.execute("CREATE TABLE t (k VARCHAR, v INT, cell_id INT)")
        db.execute("CREATE TABLE u (k VARCHAR, v INT, w INT)")
        follower = Follower(db)
        for table in ("t", "u"):
            follower.leaves(table)
        with pytest.raises(AssayError, match=REFUSED[sql]):
            follower.step("answer", sql)


Study = tuple[dict[str, Path], pl.DataFrame, witness.Witnesses]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Tables of a synthetic study with a second scoring and recalibrated snapshots, its score rows, and all marts' witnesses."""
    table = factory.score_table()
    again = table.filter(pl.col("eval_seed") == 42, pl.col("sae_id") == "batchtopk_l0_08_seed_0")
    every = pl.concat([table, factory.recalibrated(table)])
    folder = factory.write_tables(tmp_path_factory.mktemp("witness"), every, again)
    for name, content in factory.anatomy(4).items():
        scores.write_pinned(content, folder / f"{name}.parquet")
    tables = {name: folder / f"{name}.parquet" for name in (*runner.TABLES, *runner.ANATOMY_TABLES)}
    return tables, pl.read_parquet(tables["scores"]), witness.Witnesses(tables, factory.CONFIG)


def _exact(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(v.hex() if isinstance(v, float) else v for v in row) for row in frame.rows()]


def test_rewritten_queries_give_the_same_bits(study: Study) -> None:
    tables, _, seen = study
    plain = runner.compute(tables, factory.CONFIG)
    assert set(seen.marts) == set(runner.MARTS)
    for name, mart in seen.marts.items():
        assert _exact(contracts.conform(mart, name)) == _exact(plain[name]), name


def test_a_noise_is_made_of_its_panel_and_controls(study: Study) -> None:
    """Known by construction: 29 trained SAEs, 9 controls, 3 `in` tasks, 3 evaluation seeds."""
    _, table, seen = study
    key = {"substrate": "mini", "metric": "sparse_probing", "component": "accuracy", "hp_name": "k_probe", "hp_value": 5,
           "mode": None, "task_kind": "in"}  # fmt: skip
    scored = table.filter(
        pl.col("panel") != "trajectory", substrate="mini", metric="sparse_probing", hp_value=5, task_kind="in"
    )
    assert scored.height == (29 + 9) * 3 * 3
    expected = sorted(scores.score_id(row) for row in scored.to_dicts())
    assert seen.ids("reseed_noise", key) == expected
    trained = scored.filter(panel="panel")
    assert seen.ids("generalisability", key) == sorted(scores.score_id(row) for row in trained.to_dicts())
    record = seen.record("generalisability", key)
    assert record["rows"] == 29 * 3 * 3
    assert record["ids_sha256"] == hashlib.sha256("\n".join(seen.ids("generalisability", key)).encode()).hexdigest()


def test_a_repeat_is_told_from_the_score_that_it_repeats(study: Study) -> None:
    _, _, seen = study
    key = {"substrate": "mini", "metric": "pure_noise", "component": "score", "task_kind": "__all__"}
    ids = seen.ids("seed_behaviour", key)
    assert len(ids) == 29 * 3 + 1
    (repeat,) = [name for name in ids if name.startswith(witness.REPEAT)]
    assert repeat.removeprefix(witness.REPEAT) in ids


@pytest.mark.parametrize("mart", runner.MARTS)
def test_the_witness_alone_gives_the_number_again(study: Study, mart: str) -> None:
    tables, table, seen = study
    rows = seen.marts[mart].sample(min(6, seen.marts[mart].height), seed=3).to_dicts()
    counts = []
    for row in rows:
        key = {name: row[name] for name in contracts.contract(mart)["grain"]}
        used = seen.rows(mart, key)
        counts.append(len(used["scores"]) + len(used["anatomy"]))
        again = witness.replay(tables, factory.CONFIG, mart, key, used)
        exact = [{n: v.hex() if isinstance(v, float) else v for n, v in one.items()} for one in (row, again)]
        assert exact[0] == exact[1]
    assert 0 < max(counts) < table.height / 2 or mart == "coverage"


def test_a_witness_lacking_a_row_gives_another_number(study: Study) -> None:
    tables, _, seen = study
    row = seen.marts["reseed_noise"].filter(substrate="mini", metric="pure_noise").to_dicts()[0]
    key = {name: row[name] for name in contracts.contract("reseed_noise")["grain"]}
    used = seen.rows("reseed_noise", key)
    less = witness.replay(tables, factory.CONFIG, "reseed_noise", key, {**used, "scores": used["scores"][1:]})
    assert less["sigma_e"] != row["sigma_e"]


def test_a_row_that_is_not_there_is_refused(study: Study) -> None:
    with pytest.raises(AssayError, match="has no row"):
        study[2].rows("reseed_noise", {"substrate": "mini", "metric": "raven"})


def test_the_report_and_the_audit_agree_on_what_a_query_reads() -> None:
    for step in runner.PLAN:
        if step not in queries.PYTHON_STEPS:
            assert queries.reads(step) == lineage.reads(step, runner.sql(step)), step
    assert queries.needs("coverage") == ("coverage",)
    assert queries.needs("reseed_noise")[-1] == "reseed_noise"
    assert queries.tables("coverage") == ("scores", "coverage")
    assert set(queries.tables("scorecard")) == {"scores", "repeats", "saes"}


def test_the_digest_of_a_query_covers_the_steps_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {mart: (queries.sql_sha256(mart), witness.query_sha256(mart)) for mart in ("reseed_noise", "coverage")}
    texts = {"stg_scores": runner.sql("stg_scores").replace("FROM scores", "FROM scores WHERE eval_seed <> 42")}
    original = runner.sql
    monkeypatch.setattr(runner, "sql", lambda name: texts.get(name) or original(name))
    queries.sql_sha256.cache_clear()
    try:
        after = {mart: (queries.sql_sha256(mart), witness.query_sha256(mart)) for mart in before}
    finally:
        queries.sql_sha256.cache_clear()
    assert after["coverage"] == before["coverage"]
    assert all(new != old for new, old in zip(after["reseed_noise"], before["reseed_noise"], strict=True))


@pytest.mark.slow
def test_the_default_study_is_followed(tmp_path: Path) -> None:
    """The real tables: equal bits in every mart, and witnesses that give their numbers again."""
    from sae_assay.plan import Plan
    from sae_assay.study import Study as Design

    tables = {name: ROOT / "results/table/default" / f"{name}.parquet" for name in runner.TABLES}
    if not tables["scores"].exists():
        pytest.skip("needs the recorded results (`dvc pull`)")
    config = Plan(Design.load(ROOT / "config.yaml")).choices()
    seen = witness.Witnesses(tables, config)
    for name, mart in seen.marts.items():
        assert _exact(mart) == _exact(witness.plain(tables, config, name)), name
        for row in mart.sample(min(2, mart.height), seed=1).to_dicts():
            key = {column: row[column] for column in contracts.contract(name)["grain"]}
            assert witness.replay(tables, config, name, key, seen.rows(name, key)) == row, (name, key)
