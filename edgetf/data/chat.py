"""Asking a chat-completions endpoint: retries, what it may cost, and a key that is never shown.

Source: OpenAI API reference, Create chat completion (platform.openai.com/docs/api-reference/chat/create).
"""

from __future__ import annotations

import http.client
import json
import math
import os
import random
import threading
import urllib.error
import urllib.request
from typing import Any

from edgetf.config.endpoint import EndpointConfig
from edgetf.core.errors import ConfigError, DeviceError
from edgetf.data.answers import tokens

BASE_DELAY_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 300.0
RETRIED = {408, 409, 425, 429}  # and every 5xx
TEMPLATE_TOKENS = 64  # what a chat template adds to the messages, at most
_jitter = random.Random()  # its own, so that waiting does not change what a seeded run draws


class CapReachedError(Exception):
    """The next request could pass the limit of this name."""


class _UnansweredError(Exception):
    """Worth another try after `wait` seconds or more; one that was `sent` may be charged all the same."""

    def __init__(self, reason: str, wait: float = 0.0, sent: bool = False) -> None:
        super().__init__(f"{reason}, asks to wait {wait:g} s" if wait else reason)
        self.wait, self.sent = wait, sent


class Ledger:
    """Requests and dollars of this run. What a request on its way costs at worst is held back until it is known."""

    def __init__(self, max_requests: int | None, max_usd: float | None) -> None:
        self._max_requests = math.inf if max_requests is None else max_requests
        self._max_usd = math.inf if max_usd is None else max_usd
        self._changed = threading.Condition()
        self._held: list[float] = []
        self._estimated = False
        self.stop = threading.Event()
        self.requests = 0
        self.usd = 0.0

    def open(self, worst: float) -> None:
        """Before a request; waits while those on their way may turn out cheap enough.

        Raises:
            CapReachedError: it could pass a limit, or the run is over.
        """
        with self._changed:
            while (cap := self._reached(worst)) == "max_usd" and self._held:
                self._changed.wait()
            if cap:
                raise CapReachedError(cap)
            self._held.append(worst)
            self.requests += 1

    def _reached(self, worst: float) -> str:
        if self.stop.is_set():
            return "stop"
        if self.requests >= self._max_requests:
            return "max_requests"
        return "max_usd" if self.usd + sum(self._held) + worst > self._max_usd else ""

    def settle(self, worst: float, usd: float, estimated: bool) -> None:
        """After a request."""
        with self._changed:
            self._held.remove(worst)
            self.usd += usd
            self._estimated |= estimated
            self._changed.notify_all()

    def spent(self) -> str:
        """What was spent, in words."""
        return f"{self.usd:.4f} USD" + " (estimated)" * self._estimated


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key and the texts go to the endpoint that was named, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Client:
    """Asks one question at a time, from many threads; `place` is where a recipe says how."""

    def __init__(self, config: EndpointConfig, place: str) -> None:
        self._config, self.place = config, place
        self._key = os.environ.get(config.api_key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(f"{place}.api_key_env: what {config.api_key_env} holds cannot be a key; set it anew")
        self._endpoint = f"{place}.endpoint: {config.endpoint}"
        self._opener = urllib.request.build_opener(_NoRedirect)
        self.ledger = Ledger(config.max_requests, config.max_usd)

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The first choice of the answer to the body of a request."""
        tries = 0
        while True:
            tries += 1
            try:
                return self._ask_once(question)
            except _UnansweredError as problem:
                if tries > self._config.retries or problem.wait > LONGEST_WAIT_SECONDS:
                    raise DeviceError(
                        f"{self._endpoint}: no answer after {tries} tries ({problem}); check that it runs, run the "
                        f"same again, which continues, or raise {self.place}.retries"
                    ) from None
                backoff = min(BASE_DELAY_SECONDS * 2 ** (tries - 1), LONGEST_WAIT_SECONDS) * _jitter.uniform(0.5, 1)
                wait = max(problem.wait, backoff)
            self.ledger.stop.wait(wait)

    def _ask_once(self, question: dict[str, Any]) -> dict[str, Any]:
        said = "".join(message["content"] for message in question["messages"])
        # A tokenizer makes no more tokens of a text than the text has bytes.
        worst = self._config.usd(len(said.encode("utf-8", "replace")) + TEMPLATE_TOKENS, question["max_tokens"])
        self.ledger.open(worst)
        usd, estimated = 0.0, False
        try:
            answer = self._checked(self._post(question))
            used, estimated = tokens(answer, said)
            usd = self._config.usd(*used)
        except _UnansweredError as problem:
            if problem.sent:
                usd, estimated = worst, True
            raise
        finally:
            self.ledger.settle(worst, usd, estimated)
        choice: dict[str, Any] = answer["choices"][0]
        return choice

    def _post(self, question: dict[str, Any]) -> bytes:
        """The body of the answer."""
        headers = {"Content-Type": "application/json", "User-Agent": "edgetf"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self._config.endpoint}/chat/completions"
        request = urllib.request.Request(url, json.dumps(question).encode(), headers)
        try:
            with self._opener.open(request, timeout=self._config.timeout_seconds) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except urllib.error.URLError as error:  # there was no connection
            raise _UnansweredError(str(error.reason)) from None
        except (OSError, http.client.HTTPException) as error:  # it was lost
            raise _UnansweredError(str(error) or type(error).__name__, sent=True) from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """What another status than 200 means."""
        if error.code in {401, 403}:  # not what the endpoint says: some repeat a part of the key
            state = "was refused" if self._key else "is missing"
            return DeviceError(
                f"{self._endpoint}: answered {error.code}, the key of the environment variable "
                f"{self._config.api_key_env} {state}; set it to one that may use {self._config.model}"
            )
        try:
            reason = f"{error.code} {self._short(error.read(4096))}".strip()
        except (OSError, http.client.HTTPException):
            reason = str(error.code)
        if error.code in RETRIED or error.code >= 500:
            return _UnansweredError(reason, _seconds(error.headers.get("Retry-After")))
        return DeviceError(f"{self._endpoint}: answered {reason}; check {self.place}.endpoint and {self.place}.model")

    def _checked(self, body: bytes) -> dict[str, Any]:
        """The answer, once it is known to be a chat completion."""
        try:
            answer: dict[str, Any] = json.loads(body)
            if isinstance(answer["choices"][0]["message"], dict):
                return answer
        except (ValueError, LookupError, TypeError):
            pass
        raise DeviceError(
            f"{self._endpoint}: got {self._short(body) or 'nothing'}, allowed: a chat completion in JSON; check the URL"
        )

    def _short(self, body: bytes) -> str:
        """The beginning of what the endpoint said, never with the key in it."""
        text = body.decode("utf-8", "replace")
        return " ".join((text.replace(self._key, "***") if self._key else text).split())[:160]


def _seconds(retry_after: str | None) -> float:
    """The header as seconds; where it is a date, the back-off has to do."""
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0
