"""What a judge costs, when it stops, and what is asked twice: on a client of the test's own."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.saebench.environment import ENV

spec = importlib.util.spec_from_file_location("judge", ENV / "judge.py")
assert spec and spec.loader
judge: Any = importlib.util.module_from_spec(spec)
sys.modules["judge"] = judge
spec.loader.exec_module(judge)

PRICES = judge.Prices(input=2.0, output=8.0)
QUESTION = [{"role": "system", "content": "a" * 300}, {"role": "user", "content": "é" * 30}]


class Client:
    """Gives scripted outcomes, the last one for ever."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.seeds = list(outcomes), []

    def send(self, messages: Any, max_tokens: int, seed: int | None) -> Any:
        self.seeds.append(seed)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def make(
    folder: Path, *outcomes: Any, cap: float = 1.0, retries: int = 2, give_up_after: int = 10, seed: Any = None
) -> Any:
    return judge.Judge(
        Client(*outcomes),
        {"model": "m", "eval_seed": 0},
        PRICES,
        judge.Budget(folder / "spent.jsonl", cap),
        judge.Responses(folder / "replies"),
        judge.Limits(retries, 0.0, give_up_after),
        seed,
    )


def yes(text: str) -> bool:
    return text.startswith("yes")


def failure(said: str, again: bool = True, unbilled: bool = True) -> Exception:
    return judge.Failure(said, again=again, unbilled=unbilled)


def test_tokens_and_prices() -> None:
    # 300 bytes and 60 bytes by 3, 4 a message, 3 for the reply.
    assert judge.prompt_tokens(QUESTION) == 100 + 20 + 8 + 3
    assert PRICES.usd(1_000_000, 500_000) == 6.0


def test_the_key_is_one_line_of_the_environment() -> None:
    assert judge.key_of({}) is None and judge.key_of({judge.KEY: " \n"}) is None
    assert judge.key_of({judge.KEY: "sk-1234\n"}) == "sk-1234"
    for wrong in ("sk-12\n34", "sk-\u2026"):
        with pytest.raises(judge.JudgeError, match="has a character that no key has") as caught:
            judge.key_of({judge.KEY: wrong})
        assert "sk-" not in str(caught.value)


def test_what_a_call_cost_is_what_the_endpoint_counted(tmp_path: Path) -> None:
    one = make(tmp_path, judge.Reply("yes", prompt=1000, completion=100))
    assert one.estimate(QUESTION, 50) == pytest.approx((131 * 2 + 50 * 8) / 1e6)
    assert one.estimate(QUESTION, 50, more=9) == pytest.approx((140 * 2 + 50 * 8) / 1e6)
    assert one.ask(QUESTION, 50, yes) == "yes"
    assert one.budget.spent() == pytest.approx((1000 * 2 + 100 * 8) / 1e6)


def test_an_endpoint_that_does_not_count_costs_the_estimate(tmp_path: Path) -> None:
    one = make(tmp_path, judge.Reply("yes"))
    one.ask(QUESTION, 50, yes)
    assert one.budget.spent() == pytest.approx((131 * 2 + 50 * 8) / 1e6)


def test_a_kept_reply_is_not_paid_for_twice(tmp_path: Path) -> None:
    first = make(tmp_path, judge.Reply("yes, of course", 10, 1))
    first.ask(QUESTION, 50, yes)
    again = make(tmp_path, failure("nobody should be asked"))
    assert again.ask(QUESTION, 50, yes) == "yes, of course"
    assert again.estimate(QUESTION, 50) == 0 and again.client.seeds == []
    assert again.budget.spent() == first.budget.spent() == pytest.approx(28e-6)
    assert again.estimate(QUESTION, 51) > 0  # another question


def test_another_seed_asks_anew(tmp_path: Path) -> None:
    make(tmp_path, judge.Reply("yes", 10, 1)).ask(QUESTION, 50, yes)
    other = make(tmp_path, judge.Reply("yes, 7", 10, 1), seed=7)
    assert other.ask(QUESTION, 50, yes) == "yes, 7" and other.client.seeds == [7]


def test_retries_are_bounded_and_the_last_reason_is_told(tmp_path: Path) -> None:
    one = make(tmp_path, failure("HTTP 500"), judge.Reply("no", 10, 1), judge.Reply("yes", 10, 1))
    assert one.ask(QUESTION, 50, yes) == "yes" and len(one.client.seeds) == 3
    never = make(tmp_path / "b", failure("HTTP 500"))
    with pytest.raises(judge.JudgeError, match=r"HTTP 500 \(tried 3 times at most"):
        never.ask(QUESTION, 50, yes)
    assert len(never.client.seeds) == 3 and never.budget.spent() == 0
    nonsense = make(tmp_path / "c", judge.Reply("no", 10, 1))
    with pytest.raises(judge.JudgeError, match="a reply of no use: 'no'"):
        nonsense.ask(QUESTION, 50, yes)
    assert nonsense.budget.spent() == pytest.approx(3 * 28e-6)  # nonsense is billed too
    assert not list((tmp_path / "c/replies").rglob("*.json"))


def test_a_call_that_timed_out_may_have_been_billed(tmp_path: Path) -> None:
    one = make(tmp_path, failure("no reply within 1 s", unbilled=False), retries=1)
    with pytest.raises(judge.JudgeError):
        one.ask(QUESTION, 50, yes)
    assert one.budget.spent() == pytest.approx(2 * (131 * 2 + 50 * 8) / 1e6)


def test_a_refusal_ends_it_all_at_once(tmp_path: Path) -> None:
    one = make(tmp_path, failure("HTTP 401", again=False))
    for _ in range(5):
        with pytest.raises(judge.JudgeError, match="HTTP 401"):
            one.ask(QUESTION, 50, yes)
    assert len(one.client.seeds) == 1


def test_an_endpoint_that_is_down_is_given_up(tmp_path: Path) -> None:
    one = make(tmp_path, failure("no connection"), retries=0, give_up_after=3)
    for i in range(6):
        with pytest.raises(judge.JudgeError, match="no connection"):
            one.ask([{"role": "user", "content": str(i)}], 5, yes)
    assert len(one.client.seeds) == 3


def test_the_cap_holds_before_a_call_and_across_jobs(tmp_path: Path) -> None:
    costs = (131 * 2 + 50 * 8) / 1e6
    one = make(tmp_path, judge.Reply("yes", 131, 50), cap=2.5 * costs)
    other = make(tmp_path, judge.Reply("yes", 131, 50), cap=2.5 * costs)
    one.ask([*QUESTION[:1], {"role": "user", "content": "f" * 60}], 50, yes)
    other.ask([*QUESTION[:1], {"role": "user", "content": "g" * 60}], 50, yes)
    with pytest.raises(judge.CapReachedError, match=r"metrics\.autointerp\.cap_usd"):
        one.ask([*QUESTION[:1], {"role": "user", "content": "h" * 60}], 50, yes)
    assert len(one.client.seeds) == 1 and one.budget.spent() == pytest.approx(2 * costs)


def test_spending_of_a_killed_job_counts_and_a_torn_file_is_named(tmp_path: Path) -> None:
    judge.Budget(tmp_path / "spent.jsonl", 1.0).reserve(0.75)  # never settled
    later = judge.Budget(tmp_path / "spent.jsonl", 1.0)
    assert later.spent() == 0.75
    with pytest.raises(judge.CapReachedError):
        later.reserve(0.5)
    with (tmp_path / "spent.jsonl").open("a") as file:
        file.write('{"usd": ')
    with pytest.raises(judge.JudgeError, match=r"spent\.jsonl has a line that cannot be read"):
        later.spent()


def test_ledger_lines_add_up_to_what_was_spent(tmp_path: Path) -> None:
    one = make(tmp_path, judge.Reply("yes", 1000, 100))
    for i in range(3):
        one.ask([{"role": "user", "content": str(i)}], 5, yes)
    lines = [json.loads(line) for line in (tmp_path / "spent.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and sum(line["usd"] for line in lines) == pytest.approx(3 * 0.0028)
