"""ONNX Runtime, on the CPU or with another execution provider (CUDA, TensorRT, XNNPACK …) where its build has one.

What a provider cannot run falls back to the CPU without a word, so the nodes of each are counted.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.errors import ArtifactError, ParityError, needs
from edgetf.core.metrics import Floats
from edgetf.runtime.backend import Engine, Session, lacks_provider
from edgetf.runtime.inputs import Batch

CPU = "CPUExecutionProvider"
_LACKS_OP = ("NOT_IMPLEMENTED", "is not a registered function/op", "No Op registered")


class OrtSession:
    """One .onnx file. Takes any length."""

    lengths: tuple[int, ...] | None = None

    def __init__(self, session: Any, asked: str) -> None:
        self._session = session
        self.input_names = tuple(item.name for item in session.get_inputs())
        self._output = session.get_outputs()[0].name
        self.engine = Engine.of(asked, nodes_of(session))

    def run(self, batch: Batch) -> Floats:
        """Logits (B, C) in float64.

        Raises:
            ParityError: it cannot run such an input, most often one longer than the model has positions for.
        """
        feed = batch.named(self.input_names)
        try:
            logits = self._session.run([self._output], feed)[0]
        except Exception as error:  # the library's exceptions share no public base
            tokens = batch.input_ids.shape[1]
            raise ParityError(f"onnxruntime cannot run {tokens} tokens ({short_words(error)}); give fewer") from None
        return np.asarray(logits, dtype=np.float64)


def short_words(error: Exception) -> str:
    """Both ends of what the library says."""
    whole = " ".join(str(error).split())
    return whole[:120] + " … " + whole[-120:] if len(whole) > 250 else whole


def nodes_of(session: Any) -> dict[str, int]:
    """How many nodes of the optimized graph each provider has; a compiled part counts as the nodes in it."""
    counted: Counter[str] = Counter()
    for part in _parts(session):
        counted[part.ep_name] += len(part.get_nodes())
    return dict(counted)


def operators_of(session: Any) -> dict[str, int]:
    """How many nodes of each kind of operator the graph has; empty: an older onnxruntime does not tell."""
    return dict(Counter(node.op_type for part in _parts(session) for node in part.get_nodes()))


def _parts(session: Any) -> Any:
    try:
        return session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):
        return ()


class OrtBackend:
    """Opens .onnx files."""

    name = "ort"

    def load(self, model: Path, threads: int, provider: str | None = None) -> Session:
        """See `Backend.load`."""
        return OrtSession(open_graph(model, threads, provider), provider or CPU)


def open_graph(model: Path, threads: int, provider: str | None = None) -> Any:
    """The library's own session of a file; see `Backend.load` for what it raises."""
    with needs("ort"):
        import onnxruntime as ort
    asked = provider or CPU
    if asked not in ort.get_available_providers():
        raise lacks_provider(f"onnxruntime {ort.__version__}", asked, ort.get_available_providers())
    if not model.is_file():
        raise ArtifactError(f"{model}: not found")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads steal time from the other model of an interleaved comparison.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        return ort.InferenceSession(str(model), options, providers=list({asked: 0, CPU: 0}))
    except Exception as error:  # the library's exceptions share no public base
        message = short_words(error)
        if any(words in str(error) for words in _LACKS_OP):
            raise ParityError(f"{model}: onnxruntime {ort.__version__} lacks an op of it ({message})") from None
        raise ArtifactError(f"{model}: onnxruntime cannot open it ({message})") from None
