"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.errors import ArtifactError, ParityError, needs
from edgetf.core.metrics import Floats
from edgetf.runtime.backend import Engine, Session
from edgetf.runtime.inputs import Batch

PROVIDER = "CPUExecutionProvider"
_LACKS_OP = ("NOT_IMPLEMENTED", "is not a registered function/op", "No Op registered")


class OrtSession:
    """One .onnx file. Takes any length."""

    lengths: tuple[int, ...] | None = None

    def __init__(self, session: Any) -> None:
        self._session = session
        self.input_names = tuple(item.name for item in session.get_inputs())
        self._output = session.get_outputs()[0].name
        self.engine = Engine(asked=PROVIDER, ran=session.get_providers()[0])

    def run(self, batch: Batch) -> Floats:
        """Logits (B, C) in float64."""
        logits = self._session.run([self._output], batch.named(self.input_names))[0]
        return np.asarray(logits, dtype=np.float64)


class OrtBackend:
    """Opens .onnx files."""

    name = "ort"

    def load(self, model: Path, threads: int) -> Session:
        """See `Backend.load`."""
        with needs("ort"):
            import onnxruntime as ort
        if not model.is_file():
            raise ArtifactError(f"{model}: not found")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads steal time from the other model of an interleaved comparison.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return OrtSession(ort.InferenceSession(str(model), options, providers=[PROVIDER]))
        except Exception as error:  # the library's exceptions share no public base
            whole = " ".join(str(error).split())
            message = whole[:120] + " … " + whole[-120:] if len(whole) > 250 else whole
            if any(words in whole for words in _LACKS_OP):
                raise ParityError(f"{model}: onnxruntime {ort.__version__} lacks an op of it ({message})") from None
            raise ArtifactError(f"{model}: onnxruntime cannot open it ({message})") from None
