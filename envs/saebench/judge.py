"""An LLM that judges, behind an OpenAI-compatible endpoint: what it costs, when to stop, what was already paid for.

Money is US dollars. The standard library alone, but for `Client`, which needs the package openai. The key comes from the
environment, is held in memory, and is struck out of everything that the endpoint says before anyone sees it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

KEY = "OPENAI_API_KEY"
CAP = "metrics.autointerp.cap_usd"
BYTES_PER_TOKEN, TOKENS_PER_MESSAGE, TOKENS_PER_REPLY = 3, 4, 3
"""The approximation of `prompt_tokens`: English has 4 to 5 bytes a token in OpenAI's encodings."""
LONGEST_PAUSE_S = 60.0
LONGEST_QUOTE = 200
_MILLION = 1_000_000

SHORTEST_SECRET = 8
"""A shorter key is a word that an endpoint asks for and does not read; striking it out would maim replies."""

Messages = list[dict[str, str]]


class JudgeError(Exception):
    """Why there is no usable reply; safe to write down."""


class CapReachedError(JudgeError):
    """The next call might pass the cap."""


@dataclass(frozen=True)
class Prices:
    """Dollars per million tokens."""

    input: float
    output: float

    def usd(self, prompt: int, completion: int) -> float:
        """What so many tokens cost."""
        return (prompt * self.input + completion * self.output) / _MILLION


@dataclass(frozen=True)
class Reply:
    """One answer: its text (None where there is none) and the tokens that the endpoint counted, if it counts."""

    text: str | None
    prompt: int | None = None
    completion: int | None = None


class Failure(Exception):
    """A call without an answer.

    Args:
        said: why.
        again: whether another try may help.
        unbilled: whether it surely cost nothing; a call that timed out may have been answered, and billed.
    """

    def __init__(self, said: str, *, again: bool, unbilled: bool) -> None:
        super().__init__(said)
        self.again, self.unbilled = again, unbilled


class Client(Protocol):
    """Sends one request; raises `Failure`."""

    def send(self, messages: Messages, max_tokens: int, seed: int | None) -> Reply: ...


def key_of(environment: Mapping[str, str]) -> str | None:
    """The key, or None.

    Raises:
        JudgeError: it has a character that no header can carry, and that an error message would quote.
    """
    key = environment.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise JudgeError(f"{KEY} has a character that no key has, a line break perhaps: set it again")
    return key or None


def prompt_tokens(messages: Messages) -> int:
    """About how many tokens a prompt has: its UTF-8 bytes by three, and the frame of every message."""
    texts = sum(-(-len(message["content"].encode()) // BYTES_PER_TOKEN) for message in messages)
    return texts + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_REPLY


class Budget:
    """What may be spent and what was, in a file that all jobs and reruns of a study share.

    A call reserves its estimate before it is sent and settles what it cost after, so that calls in flight, other jobs and
    killed ones count too. The file has one JSON line a change; it is locked while it is read and written.

    Args:
        path: the file; made where there is none.
        cap: most that may be spent.
    """

    def __init__(self, path: Path, cap: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.cap = path, cap
        self._lock, self._read, self._spent = threading.Lock(), 0, 0.0

    @contextmanager
    def _locked(self) -> Iterator[Any]:
        with self._lock, self.path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(self._read)
            for line in file:
                self._spent += self._usd(line)
            self._read = file.tell()
            yield file

    def _usd(self, line: bytes) -> float:
        try:
            return float(json.loads(line)["usd"])
        except (ValueError, KeyError, TypeError):
            raise JudgeError(
                f"{self.path} has a line that cannot be read ({line[:40]!r}): correct what was spent"
            ) from None

    def spent(self) -> float:
        """Dollars spent or reserved so far."""
        with self._locked():
            return self._spent

    def _change(self, file: Any, usd: float, what: str) -> None:
        line = (json.dumps({"usd": usd, "what": what}) + "\n").encode()
        file.write(line)
        self._spent += usd
        self._read += len(line)

    def reserve(self, usd: float) -> None:
        """Set a call's estimate aside.

        Raises:
            CapReachedError: with it the cap would be passed.
        """
        with self._locked() as file:
            if self._spent + usd > self.cap:
                raise CapReachedError(
                    f"{CAP} is {self.cap:g} USD, {self._spent:.4f} are spent, and the next call may cost {usd:.4f}: raise it"
                )
            self._change(file, usd, "reserved")

    def settle(self, reserved: float, usd: float) -> None:
        """Replace a reservation by what the call cost."""
        with self._locked() as file:
            self._change(file, usd - reserved, "settled")


class Responses:
    """Replies that were paid for, one file each, by the digest of what was asked.

    Args:
        folder: made where there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.json"

    def get(self, digest: str) -> str | None:
        """A kept reply's text."""
        path = self._path(digest)
        return json.loads(path.read_text(encoding="utf-8"))["text"] if path.exists() else None

    def keep(self, digest: str, text: str, usd: float) -> None:
        """Keep a reply, whole or not at all."""
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
        part.write_text(json.dumps({"text": text, "usd": usd}), encoding="utf-8")
        part.replace(path)


@dataclass(frozen=True)
class Limits:
    """When to stop asking.

    Attributes:
        retries: further tries after a timeout, HTTP 408, 409, 429 or 5xx, or a reply that cannot be used.
        pause_s: seconds before the first of them; doubled for each next, at most a minute.
        give_up_after: so many questions in a row without a usable reply end it all: the endpoint is down, or no judge.
    """

    retries: int = 3
    pause_s: float = 2.0
    give_up_after: int = 10


class Judge:
    """Asks, within budget and limits, and never twice for the same reply.

    Args:
        client: sends requests.
        asked: what identifies the judge and this evaluation (endpoint, model, evaluation seed): part of every digest.
        request_seed: sent with every request; None sends none.
    """

    def __init__(
        self,
        client: Client,
        asked: dict[str, Any],
        prices: Prices,
        budget: Budget,
        responses: Responses,
        limits: Limits,
        request_seed: int | None = None,
    ) -> None:
        self.client, self.asked, self.prices, self.budget = client, asked, prices, budget
        self.responses, self.limits, self.request_seed = responses, limits, request_seed
        self._failed_in_a_row, self._stopped = 0, ""

    def digest(self, messages: Messages, max_tokens: int) -> str:
        """SHA-256 of a question and of whom it is put to."""
        question = {**self.asked, "messages": messages, "max_tokens": max_tokens, "request_seed": self.request_seed}
        return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()

    def estimate(self, messages: Messages, max_tokens: int, more: int = 0) -> float:
        """Most that a question is expected to cost; 0 where its reply is kept.

        Args:
            more: tokens of the prompt that are not known yet.
        """
        if self.responses.get(self.digest(messages, max_tokens)) is not None:
            return 0.0
        return self.prices.usd(prompt_tokens(messages) + more, max_tokens)

    def ask(self, messages: Messages, max_tokens: int, usable: Callable[[str], bool]) -> str:
        """A usable reply to a question: the kept one, or a new one, which is kept.

        Raises:
            JudgeError: no usable reply within the limits, a refusal that no other try can help, or the cap.
        """
        digest = self.digest(messages, max_tokens)
        if (kept := self.responses.get(digest)) is not None:
            return kept
        if self._stopped:
            raise JudgeError(self._stopped)
        said = ""
        for turn in range(1 + self.limits.retries):
            if turn:
                time.sleep(min(self.limits.pause_s * 2 ** (turn - 1), LONGEST_PAUSE_S))
            try:
                text, usd = self._once(messages, max_tokens)
            except Failure as failure:
                said = str(failure)
                if not failure.again:
                    self._stopped = said
                    break
                continue
            if text is not None and usable(text):
                self._failed_in_a_row = 0
                self.responses.keep(digest, text, usd)
                return text
            said = "no completion in the reply" if text is None else f"a reply of no use: {text[:60]!r}"
        raise self._given_up(said)

    def _once(self, messages: Messages, max_tokens: int) -> tuple[str | None, float]:
        """One call: its text and what it cost."""
        reserved = self.prices.usd(prompt_tokens(messages), max_tokens)
        self.budget.reserve(reserved)
        try:
            reply = self.client.send(messages, max_tokens, self.request_seed)
        except Failure as failure:
            if failure.unbilled:
                self.budget.settle(reserved, 0.0)
            raise
        counted = reply.prompt is not None and reply.completion is not None
        usd = self.prices.usd(reply.prompt, reply.completion) if counted else reserved  # type: ignore[arg-type]
        self.budget.settle(reserved, usd)
        return reply.text, usd

    def _given_up(self, said: str) -> JudgeError:
        self._failed_in_a_row += 1
        if not self._stopped and self._failed_in_a_row >= self.limits.give_up_after:
            self._stopped = f"{self._failed_in_a_row} questions in a row had no usable reply, the last: {said}"
        return JudgeError(f"{said} (tried {1 + self.limits.retries} times at most)")


class OpenAIClient:
    """Chat completions of an OpenAI-compatible endpoint, in the form in which SAEBench asks for them.

    Args:
        endpoint: base URL, such as https://api.openai.com/v1.
        model: the judge's name there.
        key: the secret; it goes into the request's header and nowhere else.
        timeout_s: longest wait for a connection, and for any next part of a reply.
    """

    def __init__(self, endpoint: str, model: str, key: str, timeout_s: float) -> None:
        from openai import OpenAI

        self._client = OpenAI(api_key=key, base_url=endpoint, timeout=timeout_s, max_retries=0)
        self._key, self.model, self.timeout_s = key, model, timeout_s

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if len(self._key) >= SHORTEST_SECRET else text

    def send(self, messages: Messages, max_tokens: int, seed: int | None) -> Reply:
        """One request, no retries."""
        import httpx
        import openai

        extra = {} if seed is None else {"seed": seed}
        try:
            found = self._client.chat.completions.create(
                model=self.model, messages=messages, n=1, max_tokens=max_tokens, stream=False, **extra
            )
        except openai.APITimeoutError:
            raise Failure(f"no reply within {self.timeout_s:g} s", again=True, unbilled=False) from None
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except openai.APIConnectionError as error:
            said = self._without_key(f"no connection ({error.__cause__ or error})")
            raise Failure(said, again=True, unbilled=isinstance(error.__cause__, httpx.ConnectError)) from None
        except (openai.OpenAIError, ValueError) as error:  # ValueError: a body that is no JSON
            said = self._without_key(f"no chat completion: {' '.join(str(error).split())}")
            raise Failure(said[:LONGEST_QUOTE], again=True, unbilled=False) from None
        return self._reply(found)

    def _refused(self, error: Any) -> Failure:
        code = error.status_code
        said = self._without_key(f"HTTP {code}: {' '.join(str(error.message).split())}")  # before it is cut
        return Failure(said[:LONGEST_QUOTE], again=code in (408, 409, 429) or code >= 500, unbilled=True)

    def _reply(self, found: Any) -> Reply:
        try:
            text = found.choices[0].message.content
        except (AttributeError, IndexError, TypeError):
            text = None
        usage = getattr(found, "usage", None)
        counts = [getattr(usage, f"{side}_tokens", None) for side in ("prompt", "completion")]
        known = [count if isinstance(count, int) and count >= 0 else None for count in counts]
        return Reply(self._without_key(text.strip()) if isinstance(text, str) else None, *known)
