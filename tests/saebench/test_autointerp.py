"""AutoInterp through the real sae_bench (envs/saebench), on a stand-in model before stand-in judges: no result.

One process does all jobs, because its imports cost more than they do; each judge is a server with a rule of its own.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.saebench import stand_ins
from tests.saebench.environment import INSTALLED
from tests.saebench.stub_judge import StubJudge, completion, is_scoring, says, serving, sleeps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.saebench,
    INSTALLED,
]
KEY = "sk-stand-in-4f1c9a7e2b"
N = 3


def after(failures: int, wrong: tuple[int, Any], right: Any) -> Any:
    """Answers each prompt wrongly so many times, then rightly."""

    def answer(judge: StubJudge, request: dict[str, Any]) -> tuple[int, Any]:
        return wrong if judge.asked[json.dumps(request["messages"])] <= failures else right(judge, request)

    return answer


def one_latent_is_refused(judge: StubJudge, request: dict[str, Any]) -> tuple[int, Any]:
    """Fails on the first question that ever came, whenever it comes."""
    first = judge.requests[0]["messages"] == request["messages"]
    return (500, {"error": {"message": "overloaded"}}) if first else says("None")(judge, request)


def echoes_the_key(judge: StubJudge, request: dict[str, Any]) -> tuple[int, Any]:
    """Gives the key away: in explanations, and in the message of an error."""
    key = next(iter(judge.keys))
    text = f"This neuron activates on {key} and places"
    return (500, {"error": {"message": f"bad key {key}"}}) if is_scoring(request) else (200, completion(text))


def babbles(_: StubJudge, request: dict[str, Any]) -> tuple[int, Any]:
    return 200, completion("perhaps the third one?" if is_scoring(request) else "activates on towns")


EXPENSIVE = {"prompt_tokens": 700_000, "completion_tokens": 0, "total_tokens": 700_000}
JUDGES: dict[str, Any] = {
    "none": says("None"),
    "all": says(", ".join(map(str, range(1, 15)))),
    "recovers": after(1, (500, {"error": {"message": "overloaded"}}), says("None")),
    "limited": after(2, (429, {"error": {"message": "slow down"}}), says("None")),
    "broken": lambda *_: (200, "<html>no JSON</html>"),
    "empty": lambda *_: (200, {"choices": []}),
    "babbles": babbles,
    "slow": sleeps(3),
    "one": one_latent_is_refused,
    "echoes": echoes_the_key,
    "unauthorised": lambda *_: (401, {"error": {"message": "no such key"}}),
    "expensive": lambda _, request: (
        200,
        completion("None" if is_scoring(request) else "activates on towns", EXPENSIVE),
    ),
}
CHANGES: dict[str, dict[str, Any]] = {"slow": {"timeout_s": 0.3, "retries": 1}, "expensive": {"cap_usd": 0.12}}


def job(folder: Path, name: str, url: str, **more: Any) -> dict[str, Any]:
    prices = {"input": 0.15, "output": 0.6}
    judge = {"endpoint": url, "model": "stand-in", "cap_usd": 0.1, "usd_per_million": prices, "timeout_s": 20}
    judge |= {"retries": 2, "pause_s": 0, "give_up_after": 10, **CHANGES.get(name, {})}
    own = {"seed": 3, "mode": "library", "cache": str(folder / "cache")}
    return {
        "metric": "autointerp",
        "model": {"kind": "hf", "path": str(folder / "llama"), "name": "stand-in/llama"},
        "hook": "blocks.0.hook_resid_post",
        "layer": 0,
        "d_model": stand_ins.D,
        "sae": str(folder / "sae"),
        "config": {"eval": {"n_latents": N, "total_tokens": 6000, "llm_context_size": 64}, "judge": judge},
        "data": {"text": str(folder / "text.json"), "responses": str(folder / "responses" / name)},
        "device": "cpu",
        **own,
        **more,
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All jobs' rows by name, the judges, what was printed, and the folder of everything that was written."""
    folder = tmp_path_factory.mktemp("autointerp")
    stand_ins.write_llama(folder / "llama", steps=0)
    stand_ins.write_sae(folder / "sae")
    stand_ins.write_text(folder / "text.json")
    (folder / "short.json").write_text('["too short to be read"]')
    with ExitStack() as stack:
        judges = {name: stack.enter_context(serving(answer)) for name, answer in JUDGES.items()}
        jobs = {name: job(folder, name, judge.url) for name, judge in judges.items()}
        none = judges["none"].url
        # In this order: the second asks nothing anew, the next ask again.
        jobs["again"] = jobs["none"]
        jobs["other_seed"] = job(folder, "none", none, seed=4)
        jobs["repeat"] = job(folder, "none", none, repeat=1)
        jobs["reseeded"] = job(folder, "none", none, mode="reseeded")
        poor = jobs["none"]["config"]["judge"] | {"cap_usd": 0.00001}
        jobs["poor"] = job(folder, "poor", none, config=jobs["none"]["config"] | {"judge": poor})
        jobs["short"] = job(folder, "none", none, cache=str(folder / "c2"), data={"text": str(folder / "short.json")})
        asked, answers = {}, {}
        for name, found in stand_ins.run_all(jobs, folder, OPENAI_API_KEY=KEY):
            answers[name], asked[name] = found, len(judges["none"].requests)
        said = (folder / "said").read_text()
    return SimpleNamespace(answers=answers, judges=judges, folder=folder, said=said, asked=asked)


def scores(done: SimpleNamespace, name: str) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """The mean's row, the coverage's, the latents'."""
    rows = done.answers[name]["rows"]
    mean, coverage, *latents = rows
    assert (mean["task"], coverage["component"]) == ("__all__", "coverage")
    assert all(row["task"].startswith("latent_") for row in latents) and len(latents) == N
    return mean, coverage, latents


@pytest.mark.parametrize(
    ("name", "share"), [("none", 10 / 14), ("all", 4 / 14), ("recovers", 10 / 14), ("limited", 10 / 14)]
)
def test_scores_are_the_share_of_examples_told_rightly(done: SimpleNamespace, name: str, share: float) -> None:
    """SAEBench shows 14 examples, 2 of the strongest, 2 drawn by strength, 10 at random, which it counts as inactive."""
    mean, coverage, latents = scores(done, name)
    assert [row["value"] for row in latents] == [pytest.approx(share)] * N
    assert mean["value"] == pytest.approx(share) and coverage["value"] == 1.0


def test_the_judge_is_asked_as_saebench_asks(done: SimpleNamespace) -> None:
    requests = done.judges["all"].requests
    assert len(requests) == 2 * N and {request["model"] for request in requests} == {"stand-in"}
    assert sorted(request["max_tokens"] for request in requests) == [30] * N + [33] * N
    assert all("seed" not in request and "temperature" not in request for request in requests)
    assert done.judges["all"].keys == {KEY}


def test_retries_are_bounded(done: SimpleNamespace) -> None:
    assert set(done.judges["recovers"].asked.values()) == {2}
    assert set(done.judges["limited"].asked.values()) == {3}
    assert set(done.judges["broken"].asked.values()) == {3}
    assert set(done.judges["slow"].asked.values()) == {2}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "no chat completion|no completion in the reply"),
        ("empty", "no completion in the reply"),
        ("babbles", "a reply of no use: 'perhaps the third one"),
        ("slow", "no reply within 0.3 s"),
        ("unauthorised", "HTTP 401.*no such key"),
    ],
)
def test_a_judge_that_fails_gives_rows_that_say_why(done: SimpleNamespace, name: str, said: str) -> None:
    mean, coverage, latents = scores(done, name)
    for row in (mean, *latents):
        assert row["value"] is None and row["status"] == "failed" and re.search(said, row["reason"]), row
    assert f"{N} of {N} latents" in mean["reason"] and coverage["value"] == 0.0


def test_the_mean_of_the_survivors_is_not_the_score(done: SimpleNamespace) -> None:
    mean, coverage, latents = scores(done, "one")
    assert sorted(row["status"] for row in latents) == ["failed", "ok", "ok"]
    assert mean["value"] is None and mean["status"] == "failed" and "1 of 3 latents" in mean["reason"]
    assert coverage["value"] == pytest.approx(2 / 3)


def test_what_was_paid_for_is_not_asked_again(done: SimpleNamespace) -> None:
    assert done.answers["again"]["rows"] == done.answers["none"]["rows"]
    assert done.asked["again"] == done.asked["none"] == 2 * N
    # Another evaluation seed, a second scoring and another mode are judged anew.
    assert done.asked["other_seed"] == 4 * N and done.asked["repeat"] == 6 * N and done.asked["reseeded"] == 8 * N
    assert [request.get("seed") for request in done.judges["none"].requests] == [None] * 6 * N + [3] * 2 * N


def test_the_seed_draws_latents_and_examples(done: SimpleNamespace) -> None:
    tasks = {name: [row["task"] for row in scores(done, name)[2]] for name in ("none", "repeat", "other_seed")}
    assert tasks["none"] == tasks["repeat"] != tasks["other_seed"]
    first, repeated = (done.judges["none"].requests[at : at + 2 * N] for at in (0, 4 * N))
    texts = [sorted(json.dumps(request["messages"]) for request in some) for some in (first, repeated)]
    assert texts[0] == texts[1]


def test_a_cap_below_the_estimate_is_refused_before_any_call(done: SimpleNamespace) -> None:
    error = done.answers["poor"]["error"]
    assert error["where"] == "metrics.autointerp.cap_usd" and "raise it" in error["remedy"]
    assert re.search(r"about 0\.00\d\d USD for 3 latents, 0\.0000 USD spent before, cap 1e-05 USD", error["problem"])
    assert done.asked["poor"] == 8 * N
    assert re.search(r"autointerp: about 0\.00\d\d USD for 3 latents", done.said)


def test_the_cap_stops_a_judge_that_costs_more_than_estimated(done: SimpleNamespace) -> None:
    mean, _, latents = scores(done, "expensive")
    # A reply costs 0.105 USD, the cap is 0.12: after the first one at most one more is asked, beside those in flight.
    statuses = {row["status"] for row in latents}
    assert "failed" in statuses and statuses <= {"failed", "ok"}
    assert mean["value"] is None and "metrics.autointerp.cap_usd is 0.12 USD" in mean["reason"]
    assert 1 <= len(done.judges["expensive"].requests) <= N + 1
    kept = list((done.folder / "responses/expensive/replies").rglob("*.json"))
    assert len(kept) == len(done.judges["expensive"].requests)


def test_the_key_is_nowhere(done: SimpleNamespace) -> None:
    mean, _, _ = scores(done, "echoes")
    assert "bad key [key]" in mean["reason"] and done.judges["echoes"].keys == {KEY}
    written = [path for path in done.folder.rglob("*") if path.is_file()]
    assert len(written) > 20 and not [path for path in written if KEY.encode() in path.read_bytes()]
    assert "[key]" in "".join(path.read_text() for path in (done.folder / "responses/echoes").rglob("*.json"))


def test_too_little_text_is_said(done: SimpleNamespace) -> None:
    assert "has no 6000 tokens" in done.answers["short"]["error"]["problem"]


def test_without_a_key_it_is_not_applicable(done: SimpleNamespace, tmp_path: Path) -> None:
    given = job(done.folder, "none", done.judges["none"].url)
    ((_, found),) = stand_ins.run_all({"keyless": given}, tmp_path)
    assert [(row["component"], row["status"]) for row in found["rows"]] == [
        ("autointerp_score", "not_applicable"),
        ("coverage", "not_applicable"),
    ]
    assert "OPENAI_API_KEY" in found["rows"][0]["reason"]
