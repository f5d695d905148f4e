"""The runner's answers for decoders. Texts never travel: prompts and blocks are token ids.

Every request has `threads`, and `model` or `models` as `DecoderModel.to_json` writes them; arrays are written by
`edgetf.runtime.decode.arrays.packed`.

    {"do": "generate", "model", "prompts": [[id, …], …], "sampling": {field of Sampling: value}, "max_new_tokens",
     "stop_ids": [id, …] | null (the model's), "window": {"size", "sinks"} | null}
    → {"tokens": [[id, …], …], "seconds", "load_ms", "peak_rss_bytes", "backend", "machine"}

    {"do": "score", "model", "arrays": packed(blocks=(N, T), top_ids=(N, T-1, k), top_logprobs=(N, T-1, k)), "keep": k}
     top_ids and top_logprobs, the teacher's, may be missing; keep 0: no likeliest tokens in the answer
    → {"arrays": packed(nll=(N, T-1), argmax=(N, T-1), kl=(N, T-1), top_ids, top_logprobs), "seconds", … as above}

    {"do": "score_stream", "model", "arrays": packed(ids=(T,)), "window": {"size", "sinks"}}
    → {"arrays": packed(nll=(T-1,)), "rss_bytes": [[tokens, bytes], …], "seconds", … as above}

    {"do": "decode_bench", "models": [one or two], "contexts": [tokens, …], "samples", "seconds", "prefills", "text"}
     seconds, prefills and text may be missing
    → {"models": [{"load_ms", "backend", "contexts": [{"context", "prefill_ms": […], "time_to_first_token_ms",
       "prefill_tokens_per_second", "decode_ms": […], "after_another_ms": […], "decode_tokens_per_second", "doubts"}]}],
       "peak_rss_bytes" (null of two models), "load_average", "conditions", "machine"}
"""

from __future__ import annotations

import time
from typing import Any

from edgetf.core.errors import EdgetfError
from edgetf.core.made import machine
from edgetf.runtime.decode.arrays import packed, unpacked
from edgetf.runtime.decode.generate import generate
from edgetf.runtime.decode.model import DecoderModel
from edgetf.runtime.decode.sampling import Sampling
from edgetf.runtime.decode.score import Scores, Tick, TopTokens, score
from edgetf.runtime.decode.session import DecoderSession
from edgetf.runtime.decode.stream import score_stream
from edgetf.runtime.decode.streaming import Window
from edgetf.runtime.decode.timing import decode_bench
from edgetf.runtime.memory import peak_rss_bytes

REQUESTS = ("generate", "score", "score_stream", "decode_bench")
_TICK_SECONDS = 0.5


def answer(request: dict[str, Any], tick: Tick) -> dict[str, Any]:
    """The answer to one request.

    Raises:
        EdgetfError: an error of the model, the request, or the runtime.
    """
    if request["do"] == "decode_bench":
        return decode_bench(request)
    before = time.perf_counter()
    session = DecoderModel.from_json(request["model"]).open(request["threads"])
    load_ms = (time.perf_counter() - before) * 1e3
    before = time.perf_counter()
    match request["do"]:
        case "generate":
            found = _generate(session, request, tick)
        case "score":
            found = _score(session, request, _seldom(tick))
        case "score_stream":
            found = _score_stream(session, request, _seldom(tick))
        case other:
            raise EdgetfError(f"runner: got do={other!r}, allowed for a decoder: {', '.join(REQUESTS)}")
    return {
        **found,
        "seconds": time.perf_counter() - before,
        "load_ms": load_ms,
        "peak_rss_bytes": peak_rss_bytes(),
        "backend": session.engine.to_json(),
        "machine": machine(),
    }


def _generate(session: DecoderSession, request: dict[str, Any], tick: Tick) -> dict[str, Any]:
    sampling, window = Sampling(**request.get("sampling", {})), _window(request)
    prompts, tokens = request["prompts"], []
    for prompt in prompts:
        new = generate(session, prompt, sampling, request["max_new_tokens"], request.get("stop_ids"), window)
        tokens.append(list(new))
        tick(len(tokens), len(prompts))
    return {"tokens": tokens}


def _score(session: DecoderSession, request: dict[str, Any], tick: Tick) -> dict[str, Any]:
    arrays = unpacked(request["arrays"])
    teacher = TopTokens(arrays["top_ids"], arrays["top_logprobs"]) if "top_ids" in arrays else None
    return {"arrays": packed(arrays_of(score(session, arrays["blocks"], teacher, request.get("keep", 0), tick)))}


def _score_stream(session: DecoderSession, request: dict[str, Any], tick: Tick) -> dict[str, Any]:
    window = _window(request)
    if window is None:
        raise EdgetfError("score_stream: got no window, allowed: {size, sinks}")
    found = score_stream(session, unpacked(request["arrays"])["ids"], window, tick)
    return {"arrays": packed({"nll": found.nll}), "rss_bytes": found.rss_bytes}


def arrays_of(scores: Scores) -> dict[str, Any]:
    """Scores by the names under which they travel; what was not asked for is None."""
    top = scores.top
    return {
        "nll": scores.nll,
        "argmax": scores.argmax,
        "kl": scores.kl,
        "top_ids": None if top is None else top.ids,
        "top_logprobs": None if top is None else top.logprobs,
    }


def _window(request: dict[str, Any]) -> Window | None:
    return Window(**request["window"]) if request.get("window") else None


def _seldom(tick: Tick) -> Tick:
    """The same tick, at most twice a second."""
    said = time.perf_counter()

    def tell(done: int, total: int) -> None:
        nonlocal said
        if time.perf_counter() - said > _TICK_SECONDS:
            said = time.perf_counter()
            tick(done, total)

    return tell
