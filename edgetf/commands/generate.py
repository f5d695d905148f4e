"""``edgetf infer`` for language models: it goes on with each text, and prints it as it comes or when it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from typing import Any, TextIO

from edgetf.commands.output import print_json
from edgetf.commands.writing import MAX_NEW_TOKENS, Writing
from edgetf.core.artifact import Artifact
from edgetf.core.errors import EXIT_FINE, EXIT_INTERRUPTED, ConfigError
from edgetf.core.quiet import quiet
from edgetf.runtime.decode.generate import continued
from edgetf.runtime.decode.model import decoder_model
from edgetf.runtime.decode.sampling import Sampling
from edgetf.runtime.decode.session import DecoderSession, Ids
from edgetf.runtime.decode.streaming import Window
from edgetf.runtime.decode.text import TextCodec
from edgetf.runtime.decode.write import Continuation

_PART = 4096  # characters of an endless text that become tokens at once


@dataclass(frozen=True)
class _Writer:
    """What all texts of one call share. `shown_on` gets the text: as it comes, when it is done, or never (None)."""

    session: DecoderSession
    codec: TextCodec
    sampling: Sampling
    window: Window | None
    asked: Writing
    shown_on: TextIO | None

    def write(self, prompt: str | None, parts: Iterable[Ids]) -> dict[str, Any]:
        """Go on with one text; the record says what was written. `prompt` None: it is not held in memory."""
        limit = self.asked.max_new_tokens or MAX_NEW_TOKENS
        counted = _Counted(parts)
        tokens = _Timed(continued(self.session, counted, self.sampling, limit, window=self.window))
        written = Continuation()
        before = self.codec.ids(prompt).tolist() if prompt is not None else []
        eos = self.session.facts.eos_ids
        show = self.shown_on if self.asked.stream else None
        pieces = written.pieces(tokens, self.codec, before, eos, limit, self.asked.stop)
        try:
            _print(show, prompt or "")
            for piece in pieces:
                _print(show, piece)
        except KeyboardInterrupt:
            written.stopped_by = "interrupt"
        _print(show, "\n")
        if not self.asked.stream:
            _print(self.shown_on, (prompt or "") + written.text + "\n")
        return {
            "prompt": prompt,
            "text": None if prompt is None else prompt + written.text,
            "new_text": written.text,
            "token_ids": written.tokens,
            "prompt_tokens": counted.tokens,
            "stopped_by": written.stopped_by,
            "stop": written.stop,
            **tokens.rates(),
            "sampling": asdict(self.sampling),
        }


def generate_command(artifact: Artifact, prompts: list[str], asked: Writing, as_json: bool) -> int:
    """Print how the model goes on with every text."""
    sampling, window = asked.sampling(), asked.streaming()
    model = decoder_model(artifact)
    with quiet():
        session, codec = model.open(asked.threads or 1), model.codec()
    shown_on = (sys.stderr if asked.stream else None) if as_json else sys.stdout
    writer = _Writer(session, codec, sampling, window, asked, shown_on)
    records = []
    for prompt, parts in _texts(prompts, codec, endless=window is not None):
        records.append(writer.write(prompt, parts))
        if records[-1]["stopped_by"] == "interrupt":
            break
    if not records:
        raise ConfigError("infer: no text; give one, or lines on stdin")
    if as_json:
        print_json(records)
    if records[-1]["stopped_by"] == "interrupt":
        raise SystemExit(EXIT_INTERRUPTED)  # what was written is out, and there is nothing to resume
    return EXIT_FINE


def _texts(prompts: list[str], codec: TextCodec, endless: bool) -> Iterator[tuple[str | None, Iterable[Ids]]]:
    """Each text with its tokens; with a window all of stdin is one text, which is never held as a whole."""
    if prompts:
        yield from ((prompt, [codec.ids(prompt)]) for prompt in prompts)
        return
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # bytes that are no text are no reason to stop
    if endless:
        yield None, codec.parts(parts_of(sys.stdin))
        return
    for line in sys.stdin:
        if line.strip():
            yield line.strip(), [codec.ids(line.strip())]


def parts_of(stream: TextIO, size: int = _PART) -> Iterator[str]:
    """A text in parts that begin at a space, where tokens begin too, so that the parts have the tokens of the whole.

    >>> import io
    >>> list(parts_of(io.StringIO("one two three four"), size=8))
    ['one two', ' three', ' four']
    """
    held = ""
    while block := stream.read(size):
        held += block
        cut = held.rfind(" ", 1)
        if cut < 1 and len(held) > size:  # a script without spaces
            cut = len(held)
        if cut > 0:
            yield held[:cut]
            held = held[cut:]
    if held.rstrip("\n"):
        yield held.rstrip("\n")


class _Counted:
    """Parts of a prompt; `tokens` is how many went through."""

    def __init__(self, parts: Iterable[Ids]) -> None:
        self._parts, self.tokens = parts, 0

    def __iter__(self) -> Iterator[Ids]:
        for part in self._parts:
            self.tokens += len(part)
            yield part


class _Timed:
    """Tokens, and when they came."""

    def __init__(self, tokens: Iterator[int]) -> None:
        self._tokens, self._start = tokens, time.perf_counter()
        self._first = self._last = 0.0
        self._count = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        token = next(self._tokens)
        self._last = time.perf_counter()
        self._count += 1
        if self._count == 1:
            self._first = self._last
        return token

    def rates(self) -> dict[str, float | None]:
        """Milliseconds until the first token, and tokens per second after it; None where there were none."""
        spent = self._last - self._first
        return {
            "time_to_first_token_ms": (self._first - self._start) * 1e3 if self._count else None,
            "tokens_per_second": (self._count - 1) / spent if self._count > 1 and spent > 0 else None,
        }


def _print(stream: TextIO | None, text: str) -> None:
    """Show a text at once, if it is shown at all."""
    if stream is not None and text:
        stream.write(text)
        stream.flush()
