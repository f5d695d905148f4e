"""tflite-runtime 2.14, the interpreter that many boards still have. It runs in an environment of its own (numpy 1).

It is silently wrong for some files that LiteRT runs right, such as INT8 weights with a scale for each channel, so a
file is checked in it before it is said to run there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgetf.core.errors import DeviceError
from edgetf.runtime.backend import Session
from edgetf.runtime.litert import open_tflite


class TfliteRuntimeBackend:
    """Opens .tflite files with the old runtime."""

    name = "tflite_runtime"

    def load(self, model: Path, threads: int, provider: str | None = None) -> Session:
        """See `Backend.load`."""
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as error:  # it is there, but beside a numpy that it was not built for
            raise DeviceError(
                f"tflite_runtime: not available in {sys.executable} ({error}); install tflite-runtime 2.14 and numpy 1"
            ) from None
        return open_tflite(Interpreter, "tflite-runtime", model, threads, provider)
