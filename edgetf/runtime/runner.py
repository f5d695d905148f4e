"""The runner process: one JSON request on stdin, JSON lines on stdout (`tick`, then `result` or `error`).

It runs apart from the tool, so that its peak memory is the model's, a crash of a runtime is one message, and the
same file runs on a board. Start it with ``python -m edgetf.runtime.runner`` and keep its stdin open, see
`edgetf.runtime.lease`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.errors import EdgetfError
from edgetf.core.made import load_average, machine
from edgetf.runtime.backend import fitting_length
from edgetf.runtime.classify import classify
from edgetf.runtime.counting import count
from edgetf.runtime.encoder import TOKENIZER
from edgetf.runtime.inputs import Batch, Inputs
from edgetf.runtime.invariance import shifts
from edgetf.runtime.lease import Voice, hold, own_stdout, read_line
from edgetf.runtime.model import Model
from edgetf.runtime.selfcheck import selfcheck
from edgetf.runtime.timing import interleaved_ms

Request = dict[str, Any]
TICK_SECONDS = 0.5


def peak_rss_bytes() -> int:
    """The most memory this process has held; the kernel's own high-water mark where it gives one."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    # getrusage also counts what the parent held when it forked, so it is only the second choice.
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


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
        "backend": {"asked": session.engine.asked, "ran": session.engine.ran},
        "machine": machine(),
    }


def timed_batch(model: Model, text: str, length: int) -> Batch:
    """One input of exactly `length` tokens: the text's words over and over, or any ids where there is no tokenizer."""
    words = list(model.timed_ids)
    if not words and text and (model.folder / TOKENIZER).is_file():
        words = model.encoder().pieces([text])[0][0].input_ids
    if words:
        inner = words[1:-1] or words  # between the two special tokens
        ids = [words[0], *(inner * (length // len(inner) + 1))[: max(0, length - 2)], words[-1]][:length]
    else:
        ids = [1 + k % 100 for k in range(length)]
    row = np.asarray([ids], dtype=np.int64)
    return Batch(row, np.ones_like(row), np.zeros_like(row))


def bench(request: Request) -> dict[str, Any]:
    """Interleaved milliseconds of the models on one input of `seq_len` tokens, batch 1."""
    calls, lengths, engines = [], [], []
    for record in request["models"]:
        model = Model.from_json(record)
        session = model.open(request["threads"])
        length = fitting_length(session.lengths, request["seq_len"])
        batch = timed_batch(model, request["text"], length)
        calls.append(lambda session=session, batch=batch: session.run(batch))
        lengths.append(length)
        engines.append({"asked": session.engine.asked, "ran": session.engine.ran})
    before = load_average()
    taken = interleaved_ms(calls, request["samples"])
    return {
        "samples_ms": [each.warm for each in taken],
        "after_another_ms": [each.after_another for each in taken],
        "seq_lens": lengths,
        "backends": engines,
        "load_average": before,
        "machine": machine(),
    }


def count_instructions(request: Request) -> dict[str, Any]:
    """Marked inferences on one input of `seq_len` tokens, batch 1, for an emulator that counts."""
    model = Model.from_json(request["model"])
    session = model.open(request["threads"])
    length = fitting_length(session.lengths, request["seq_len"])
    return count(session, timed_batch(model, request["text"], length), request["runs"])


def invariance(request: Request) -> dict[str, Any]:
    """How far a model's answers move with batch mates and with padding."""
    model = Model.from_json(request["model"])
    session = model.open(request["threads"])
    return asdict(shifts(session, model.encoder(), request["texts"], request.get("pairs")))


def main() -> int:
    """Answer one request from stdin; the exit code repeats that of the error, if there was one."""
    voice = Voice(own_stdout())
    request: Request = json.loads(read_line())
    hold(voice)
    try:
        match request["do"]:
            case "classify":
                voice.say("result", **classify_texts(request, voice))
            case "bench":
                voice.say("result", **bench(request))
            case "invariance":
                voice.say("result", **invariance(request))
            case "count":
                voice.say("result", **count_instructions(request))
            case "selfcheck":
                voice.say("result", **selfcheck())
            case other:
                allowed = "classify, bench, invariance, count, selfcheck"
                raise EdgetfError(f"runner: got do={other!r}, allowed: {allowed}")
    except EdgetfError as error:
        voice.say("error", message=str(error), exit_code=error.exit_code)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
