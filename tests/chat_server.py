"""An endpoint of one's own: as much of the chat-completions interface as labelling texts takes, and its bad days.

with chat(lambda text: "sport", fail=2, status=429, retry_after="1") as server:
    label_texts(LabellerConfig(endpoint=server.url, model="m"), …)
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from math import log
from typing import Any

from local_server import serving

Usage = tuple[int, int]  # tokens of the request and of the answer


@dataclass
class Chat:
    """A running server: its address, what it does, and what it was sent. Behavior may be changed while it runs."""

    answer: Callable[[str], str]  # the text of the user → what the model says
    candidates: Mapping[str, float] | None = None  # tokens of the first position, the generated one first
    usage: Usage | None = (100, 2)
    fail: int = 0  # so many requests get `status`
    status: int = 503
    retry_after: str | None = None
    location: str | None = None
    said: str = "busy"  # the message of a failure; {key} becomes the key that was sent
    drop: int = 0  # so many requests lose their connection
    hang: int = 0  # so many requests wait for `hang_seconds` first
    hang_seconds: float = 0.0
    delay: float = 0.0
    body: bytes | None = None  # sent in place of an answer
    on_request: Callable[[int], None] = lambda number: None
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def texts(self) -> list[str]:
        """What was asked, in the order in which it came."""
        return [request["messages"][-1]["content"] for request in self.requests]

    def enter(self, request: dict[str, Any], headers: dict[str, str]) -> str:
        """Remember a request, and say what becomes of it."""
        with self._lock:
            self.requests.append(request)
            self.headers.append(headers)
            self.times.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            for fate in ("fail", "drop", "hang"):
                left = getattr(self, fate)
                if left:
                    setattr(self, fate, left - 1)
                    return fate
            return "answer"

    def leave(self) -> None:
        with self._lock:
            self._at_once -= 1

    def completion(self, text: str) -> bytes:
        """The body of an answer."""
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": self.answer(text)},
            "finish_reason": "stop",
            "logprobs": None,
        }
        if self.candidates is not None:
            listed = [{"token": token, "logprob": log(p), "bytes": None} for token, p in self.candidates.items()]
            choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
        answer: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice]}
        if self.usage is not None:
            answer["usage"] = {"prompt_tokens": self.usage[0], "completion_tokens": self.usage[1]}
        return json.dumps(answer).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: Chat

    def do_POST(self) -> None:
        chat = self.chat
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fate = chat.enter(request, dict(self.headers))
        try:
            chat.on_request(len(chat.requests))
            time.sleep(chat.hang_seconds if fate == "hang" else chat.delay)
            if fate == "drop":
                self.close_connection = True
            elif fate == "fail":
                self._fail()
            elif self.path != "/v1/chat/completions":
                self._send(404, b'{"error": {"message": "no such path"}}')
            else:
                text = request["messages"][-1]["content"]
                self._send(200, chat.completion(text) if chat.body is None else chat.body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # who asked has stopped waiting
        finally:
            chat.leave()

    def _fail(self) -> None:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        message = {"error": {"message": self.chat.said.replace("{key}", key)}}
        headers = {"Retry-After": self.chat.retry_after, "Location": self.chat.location}
        self._send(self.chat.status, json.dumps(message).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str | None] | None = None) -> None:
        self.send_response(status)
        for header, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            if value is not None:
                self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal for the tests."""


@contextmanager
def chat(answer: Callable[[str], str], **behavior: Any) -> Iterator[Chat]:
    """Answer chat completions on 127.0.0.1 while the block runs."""
    record = Chat(answer, **behavior)
    with serving(type("Handler", (_Handler,), {"chat": record})) as address:
        record.url = f"{address}/v1"
        yield record
