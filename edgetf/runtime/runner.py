"""The runner process: one JSON request on stdin, JSON lines on stdout (`tick`, then `result` or `error`).

It runs apart from the tool, so that its peak memory is the model's, a crash of a runtime is one message, and the
same file runs on a board. Start it with ``python -m edgetf.runtime.runner`` and keep its stdin open, see
`edgetf.runtime.lease`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from typing import Any

from edgetf.core.errors import DeviceError, EdgetfError
from edgetf.core.made import machine
from edgetf.runtime.bandwidth import bandwidth
from edgetf.runtime.bench import bench, sustain
from edgetf.runtime.classify import classify
from edgetf.runtime.counting import count_instructions
from edgetf.runtime.inputs import Inputs
from edgetf.runtime.invariance import shifts
from edgetf.runtime.lease import Voice, hold, own_stdout, read_line
from edgetf.runtime.memory import peak_rss_bytes
from edgetf.runtime.model import Model
from edgetf.runtime.selfcheck import selfcheck

Request = dict[str, Any]
TICK_SECONDS = 0.5


def inputs_of(model: Model, request: Request) -> Inputs:
    """What a request asks to be read: token ids, or texts that become ids here."""
    if "inputs" in request:
        return Inputs.from_json(request["inputs"])
    return model.encoder().inputs(request["texts"], request.get("pairs"))


def classify_texts(request: Request, voice: Voice) -> dict[str, Any]:
    """Logits of every text, and what loading and the first run cost."""
    model = Model.from_json(request["model"])
    before = time.perf_counter()
    session = model.open(request["threads"])
    load_ms = (time.perf_counter() - before) * 1e3
    inputs = inputs_of(model, request)
    before = time.perf_counter()
    classify(session, inputs.first(), model.pad_id)
    first_ms = (time.perf_counter() - before) * 1e3
    said = before

    def tick(done: int, total: int) -> None:
        nonlocal said
        if time.perf_counter() - said > TICK_SECONDS:
            said = time.perf_counter()
            voice.say("tick", done=done, total=total)

    logits = classify(session, inputs, model.pad_id, tick)
    return {
        "logits": logits.tolist(),
        "load_ms": load_ms,
        "first_ms": first_ms,
        "peak_rss_bytes": peak_rss_bytes(),
        "backend": session.engine.to_json(),
        "machine": machine(),
    }


def invariance(request: Request) -> dict[str, Any]:
    """How far a model's answers move with batch mates and with padding."""
    model = Model.from_json(request["model"])
    session = model.open(request["threads"])
    return asdict(shifts(session, model.encoder(), request["texts"], request.get("pairs")))


def pin(cpus: list[int]) -> None:
    """Keep this process, and the threads that it will start, on these cores.

    Raises:
        DeviceError: there are no such cores, or the system cannot do it.
    """
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, AttributeError) as error:
        raise DeviceError(f"cpus: got {cpus}, allowed: some of {os.cpu_count()} cores, from 0 ({error})") from None


def answer_to(request: Request, voice: Voice) -> dict[str, Any]:
    """What is said of one request.

    Raises:
        EdgetfError: what a model, a runtime or the request causes.
    """

    def tick(done: int, total: int) -> None:
        voice.say("tick", done=done, total=total)

    match request["do"]:
        case "classify":
            return classify_texts(request, voice)
        case "bench":
            return bench(request)
        case "sustain":
            return sustain(request, tick)
        case "invariance":
            return invariance(request)
        case "bandwidth":
            return bandwidth(request)
        case "count":
            return count_instructions(request)
        case "selfcheck":
            return selfcheck()
        case "generate" | "score" | "score_stream" | "decode_bench":
            from edgetf.runtime.decode.answers import answer

            return answer(request, tick)
        case other:
            allowed = "classify, bench, sustain, invariance, bandwidth, count, selfcheck"
            decoders = "generate, score, score_stream, decode_bench"
            raise EdgetfError(f"runner: got do={other!r}, allowed: {allowed}, {decoders}")


def main() -> int:
    """Answer one request from stdin; the exit code repeats that of the error, if there was one."""
    voice = Voice(own_stdout())
    request: Request = json.loads(read_line())
    hold(voice)
    try:
        if request.get("cpus"):
            pin(request["cpus"])
        voice.say("result", **answer_to(request, voice))
    except EdgetfError as error:
        voice.say("error", message=str(error), exit_code=error.exit_code)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
