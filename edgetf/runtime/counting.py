"""Inferences between marks, so that an emulator can count the instructions of each.

A mark is the system call ``getpriority(MARK, k)``. No kernel knows such a kind of process, so it only fails; the
emulator's plugin (edgetf/targets/tcg/count.c) sees it, and notes what has been executed so far. Inference k lies
between the marks 2k and 2k + 1. What Python itself does between them is counted too: up to 0.5 % that differs.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from typing import Any

from edgetf.core.errors import DeviceError
from edgetf.runtime.backend import Engine, fitting_length
from edgetf.runtime.bench import timed_batch
from edgetf.runtime.model import Model
from edgetf.runtime.timing import Call

MARK = 0x65666D6B  # "efmk", as in count.c
VARIABLE = "EDGETF_COUNTED"  # set where such a plugin listens
WARMUP_RUNS = 2


def mark(number: int) -> None:
    """Tell the plugin that a moment has come."""
    with suppress(OSError):  # EINVAL, always
        os.getpriority(MARK, number)


def count_instructions(request: dict[str, Any]) -> dict[str, Any]:
    """Marked inferences of each model on one input of `seq_len` tokens, batch 1, after a warm-up; of a decoder, of the
    last of these tokens.

    Raises:
        DeviceError: nothing listens to marks here.
    """
    if not os.environ.get(VARIABLE):
        raise DeviceError("count: instructions are counted by an emulator only; use --device emulated_a72 or another")
    lengths, engines, runs = [], [], request["runs"]
    for place, record in enumerate(request["models"]):
        call, length, engine = _opened(record, request)
        _run_marked(call, range(place * runs, (place + 1) * runs))
        lengths.append(length)
        engines.append(engine.to_json())
    return {"seq_lens": lengths, "backends": engines}


def _opened(record: dict[str, Any], request: dict[str, Any]) -> tuple[Call, int, Engine]:
    """What is counted of a model, at how many tokens, and what runs it."""
    if "decoder" in record:
        from edgetf.runtime.decode.timing import step_of

        step, decoder = step_of(record, request)
        return step, request["seq_len"], decoder.engine
    model = Model.from_json(record)
    session = model.open(request["threads"])
    length = fitting_length(session.lengths, request["seq_len"])
    batch = timed_batch(model, request["text"], length)
    return lambda: session.run(batch), length, session.engine


def _run_marked(call: Call, inferences: range) -> None:
    """Warm up, then run the inferences of these numbers."""
    for _ in range(WARMUP_RUNS):
        call()
    gc.collect()
    gc.disable()
    try:
        for number in inferences:
            mark(2 * number)
            call()
            mark(2 * number + 1)
    finally:
        gc.enable()
