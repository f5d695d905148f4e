"""A process that runs models in turns on two clocks: the wall's, and the processor time of the thread that runs them.

On one thread and a quiet machine the two agree. Where other work runs beside it, the wall's also counts the time that
others had the processor; the thread's does not, and is then the better witness of what the model itself takes.

    echo '{"models": […], "seq_len": 64, "turns": 30}' | python benchmarks/parts/clocks.py
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable

from edgetf.runtime.backend import fitting_length
from edgetf.runtime.bench import timed_batch
from edgetf.runtime.model import Model
from edgetf.runtime.timing import warm_up


def main() -> None:
    """Answer one request from stdin: for every model `wall_ms` and `thread_ms`, of the second run of each turn."""
    request = json.loads(sys.stdin.readline())
    calls = [_call(Model.from_json(record), request["seq_len"]) for record in request["models"]]
    taken: list[dict[str, list[float]]] = [{"wall_ms": [], "thread_ms": []} for _ in calls]
    for call in calls:
        warm_up(call)
    gc.disable()
    for _ in range(request["turns"]):
        for call, times in zip(calls, taken, strict=True):
            call()
            wall, thread = time.perf_counter_ns(), time.thread_time_ns()
            call()
            times["thread_ms"].append((time.thread_time_ns() - thread) / 1e6)
            times["wall_ms"].append((time.perf_counter_ns() - wall) / 1e6)
    json.dump(taken, sys.stdout)


def _call(model: Model, seq_len: int) -> Callable[[], object]:
    session = model.open(1)
    batch = timed_batch(model, "", fitting_length(session.lengths, seq_len))
    return lambda: session.run(batch)


if __name__ == "__main__":
    main()
