"""A stand-in for an LLM that judges: an OpenAI-compatible server on this machine whose replies are rules. Never a result."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["StubJudge", dict[str, Any]], tuple[int, Any]]
USAGE = {"prompt_tokens": 700, "completion_tokens": 10, "total_tokens": 710}


def is_scoring(request: dict[str, Any]) -> bool:
    return "Here is the explanation" in request["messages"][-1]["content"]


def completion(text: Any, usage: dict[str, int] | None = None) -> dict[str, Any]:
    """A chat completion as OpenAI gives them."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": "stub", "object": "chat.completion", "created": 0, "model": "stub", "choices": [choice]}
    return head | {"usage": USAGE if usage is None else usage}


def says(prediction: str) -> Answer:
    """Explains every latent alike, and gives one prediction for all."""

    def answer(_: StubJudge, request: dict[str, Any]) -> tuple[int, Any]:
        return 200, completion(prediction if is_scoring(request) else "This neuron activates on words about places.")

    return answer


class StubJudge:
    """What was asked of the server, and by which key.

    Attributes:
        requests: bodies, in the order in which they came.
        keys: of the Authorization headers.
        asked: how often each prompt came.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer, self.requests, self.keys = answer, [], set()
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.url = ""

    def handle(self, request: dict[str, Any], key: str) -> tuple[int, Any]:
        with self.lock:
            self.requests.append(request)
            self.keys.add(key)
            self.asked[json.dumps(request["messages"])] += 1
        return self.answer(self, request)


@contextmanager
def serving(answer: Answer) -> Iterator[StubJudge]:
    """A server in a thread, on a free port of the loopback."""
    judge = StubJudge(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code, body = judge.handle(request, self.headers["Authorization"].removeprefix("Bearer "))
            raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            try:
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)
            except (BrokenPipeError, ConnectionResetError):
                return  # the client has left

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sleeps(seconds: float) -> Answer:
    """Answers too late."""

    def answer(_: StubJudge, request: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(seconds)
        return 200, completion("None")

    return answer
