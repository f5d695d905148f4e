"""The runtimes there are. Others join by the entry point group `edgetf.backends`."""

from __future__ import annotations

from importlib.metadata import entry_points

from edgetf.core.errors import DeviceError, near_match
from edgetf.runtime.backend import Backend


def load_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        DeviceError: unknown, or its package is missing.
    """
    match name:
        case "ort":
            from edgetf.runtime.ort import OrtBackend

            return OrtBackend()
        case "litert":
            from edgetf.runtime.litert import LitertBackend

            return LitertBackend()
        case "tflite_runtime":
            from edgetf.runtime.tflite_runtime import TfliteRuntimeBackend

            return TfliteRuntimeBackend()
        case "fake":
            from edgetf.runtime.fake import FakeBackend

            return FakeBackend()
        case _:
            return _plugin(name)


def _plugin(name: str) -> Backend:
    found = {point.name: point for point in entry_points(group="edgetf.backends")}
    if name not in found:
        raise DeviceError(f"backend {name}: not known{near_match(name, ['ort', 'litert', 'tflite_runtime', *found])}")
    backend: Backend = found[name].load()()
    return backend
