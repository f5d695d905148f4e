"""This machine: the runner in a process of its own, asked over pipes."""

from __future__ import annotations

import os

from edgetf.targets.parcel import models_of
from edgetf.targets.side import runner_command
from edgetf.targets.talk import Line, ask
from edgetf.targets.target import Answer, How, Request, Tick


class Local:
    """The machine that runs edgetf."""

    how: How = "measured"

    def ask(self, request: Request, tick: Tick | None = None) -> Answer:
        """See `Target.ask`."""
        return ask_runner(request, tick)


def ask_runner(request: Request, tick: Tick | None = None) -> Answer:
    """Send one request to a fresh runner and wait for its result.

    Raises:
        EdgetfError: what the runner reported, under the same exit code.
        DeviceError: the runner died, or what it needs is not available.
    """
    command = runner_command({model["backend"] for model in models_of(request)})
    env = {**os.environ, "OMP_NUM_THREADS": str(request["threads"]), "TOKENIZERS_PARALLELISM": "false"}
    return ask(Line(command, env), request, tick)
