"""A judge on this machine: as much of an OpenAI-compatible endpoint as is asked of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Failure = tuple[int, dict[str, str]]
"""A status and headers."""


@dataclass
class Judge:
    """What it answers, and what it was asked."""

    url: str = ""
    verdict: Callable[[str], bool] = lambda text: True
    reply: Callable[[str], str] | None = None
    """Its words, in place of a verdict."""
    failures: list[Failure | None] = field(default_factory=list)
    """What the next requests get instead, one after the other; None: an answer."""
    always: Callable[[str], Failure | None] = lambda text: None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    meeting: threading.Barrier | None = None
    """Requests wait here for each other before they are answered."""

    @property
    def asked(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]


@contextmanager
def serving() -> Iterator[Judge]:
    judge = Judge()
    handler = type("Handler", (_Handler,), {"judge": judge, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    judge: Judge
    lock: threading.Lock
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][0]["content"]
        judge = self.judge
        with self.lock:
            judge.bodies.append(body)
            judge.keys.add(self.headers.get("Authorization"))
            judge.paths.add(self.path)
            failure = judge.failures.pop(0) if judge.failures else judge.always(text)
        if judge.meeting is not None:
            judge.meeting.wait(timeout=30)
        if failure is not None:
            self._send(failure[0], b"<html>no</html>", failure[1])
            return
        words = judge.reply(text) if judge.reply else _verdict(judge.verdict(text))
        answer = {
            "choices": [{"message": {"role": "assistant", "content": words}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10},
        }
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


def _verdict(is_right: bool) -> str:
    return f"It says what it should, or not.\nVerdict: {'yes' if is_right else 'no'}"
