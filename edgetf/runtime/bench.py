"""The runner's timed requests: models in turns on one input, and one model over minutes."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetf.core.made import load_average, machine
from edgetf.runtime.backend import Session, fitting_length
from edgetf.runtime.conditions import conditions, snapshot
from edgetf.runtime.encoder import TOKENIZER
from edgetf.runtime.inputs import Batch
from edgetf.runtime.model import Model
from edgetf.runtime.sustain import Tick, sustained
from edgetf.runtime.timing import Call, interleaved_ms, warm_up
from edgetf.runtime.trust import doubts

Request = dict[str, Any]


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


def _opened(model: Model, request: Request) -> tuple[Session, int, Call]:
    """The session, the tokens that it is timed with, and the call that is timed."""
    session = model.open(request["threads"])
    length = fitting_length(session.lengths, request["seq_len"])
    batch = timed_batch(model, request["text"], length)
    return session, length, lambda: session.run(batch)


def bench(request: Request) -> dict[str, Any]:
    """Interleaved milliseconds of the models on one input of `seq_len` tokens, batch 1."""
    opened = [_opened(Model.from_json(record), request) for record in request["models"]]
    loaded, before = load_average(), snapshot()
    taken = interleaved_ms([call for _, _, call in opened], request["samples"], request.get("seconds", 0.0))
    found = conditions(before, snapshot())
    return {
        "samples_ms": [each.warm for each in taken],
        "after_another_ms": [each.after_another for each in taken],
        "seq_lens": [length for _, length, _ in opened],
        "backends": [session.engine.to_json() for session, _, _ in opened],
        "load_average": loaded,
        "conditions": found,
        "doubts": [doubts(each.warm, found, request["threads"]) for each in taken],
        "machine": machine(),
    }


def sustain(request: Request, tick: Tick) -> dict[str, Any]:
    """One model without a pause for `seconds`."""
    session, length, call = _opened(Model.from_json(request["model"]), request)
    warm_up(call)
    before = snapshot()
    windows = sustained(call, request["seconds"], tick)
    return {
        "windows": windows,
        "seq_len": length,
        "backend": session.engine.to_json(),
        "conditions": conditions(before, snapshot()),
        "machine": machine(),
    }
