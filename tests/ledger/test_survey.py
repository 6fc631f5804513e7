"""What is current, on a made-up graph: world -> pool -> score -> table."""

from __future__ import annotations

import pytest

from sae_assay.ledger import records, survey
from sae_assay.ledger.files import Hasher, hash_file
from sae_assay.ledger.job import Job, job_key
from sae_assay.ledger.records import Ledger, Run

GRAPH = {"world": [], "pool": ["world"], "score": ["pool"], "table": ["score"]}


class Bench:
    """Files a.txt of a graph, their records, and jobs that can be changed."""

    def __init__(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(survey, "lock_digest", lambda group: "lock")
        (tmp_path / "code.py").write_text("pass")
        self.jobs, self.ledger = {}, Ledger("none")
        for rule, needs in GRAPH.items():
            (tmp_path / rule).write_text(rule * 3)
            inputs = {name: hash_file(name).sha256 for name in needs}
            job = Job(rule, {}, rule, "light", tuple(needs), (rule,), {"study": "none", "n": [1, 2]})
            self.jobs[job.key] = job
            run = Run(rule, {}, rule, inputs, {rule: hash_file(rule).sha256}, {"code.py": hash_file("code.py").sha256},
                      {"study": "none", "n": [1, 2]}, "lock", "light", {"id": rule})  # fmt: skip
            self.ledger.runs[run.key] = [run]

    def survey(self, targets=("score", "table")):
        return survey.Survey(self.ledger, lambda run: self.jobs[run.key], Hasher(store=None), targets)

    def reasons(self, rule):
        return [str(why) for why in self.survey().verdict(job_key(rule, {}))[1]]

    def settled(self):
        found = self.survey()
        return [rule for rule in GRAPH if found.settled(job_key(rule, {}))]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


def test_untouched_is_current(bench):
    assert bench.settled() == list(GRAPH)
    assert bench.survey().level("table") == 4


def test_a_missing_intermediate_whose_record_is_current_disturbs_nobody(bench, tmp_path):
    (tmp_path / "world").unlink()
    (tmp_path / "pool").unlink()
    assert bench.settled() == list(GRAPH)
    assert not bench.survey().undisturbed("pool")


def test_a_missing_intermediate_whose_record_is_stale_makes_its_readers_stale(bench, tmp_path):
    (tmp_path / "pool").unlink()
    key = job_key("world", {})
    (tmp_path / "world").unlink()
    bench.jobs[key] = Job("world", {}, "world", "light", (), ("world",), {"study": "none", "n": [1]})
    assert bench.reasons("world") == ["settings n was [1,2], is [1]"]
    assert bench.reasons("score") == ["input pool is missing, and would be made anew"]
    assert bench.settled() == []


def test_a_missing_target_leaves_its_readers_unsettled_but_current(bench, tmp_path):
    (tmp_path / "score").unlink()
    assert bench.reasons("table") == []
    assert bench.settled() == ["world", "pool", "score"]


def test_a_flipped_byte_is_seen_in_the_file_and_in_its_readers(bench, tmp_path):
    (tmp_path / "score").write_text("scorescoresKore")
    assert bench.reasons("score") == ["output score has other bytes than recorded"]
    assert bench.reasons("table") == ["input score changed"]


def test_code_a_rule_that_is_gone_and_a_list_of_outputs(bench, tmp_path):
    (tmp_path / "code.py").write_text("pass # edited")
    assert bench.reasons("pool") == ["code code.py changed"]
    bench.jobs[job_key("table", {})] = None
    assert "no such job" in bench.reasons("table")[0]
    bench.jobs[job_key("score", {})] = Job(
        "score", {}, "score", "light", ("pool",), ("score", "more"), {"study": "none", "n": [1, 2]}
    )
    assert "output list more was added" in bench.reasons("score")


def test_the_older_record_stands_where_it_alone_fits_the_files(bench, tmp_path):
    key = job_key("table", {})
    old = bench.ledger.runs[key][0]
    other = Run(**{**old.__dict__, "outputs": {"table": "0" * 64}, "raw": {"id": "newer"}})
    bench.ledger.runs[key] = [other, old]
    assert bench.survey().verdict(key) == (old, [])


def test_a_record_of_many_files_stays_below_two_kilobytes():
    many = {f"results/scores/default/mini/sae/{i}.parquet": "0" * 64 for i in range(50)}
    short, blobs = records.fold({"outputs": many, "rule": "score"}, ["outputs"])
    assert len(records.line(short)) < 200
    assert blobs[0]["value"] == many
    assert short["outputs"] == {"blob": blobs[0]["id"]}
