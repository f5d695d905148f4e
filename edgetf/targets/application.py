"""One file that runs on a board without pip and without root: edgetf's runner with the wheels of a runtime and numpy.

It is a zip application: Python runs it, and it unpacks itself once (`application_main.py`). Only what the runner
imports goes in. It is made for the board's architecture, Python and glibc, and kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatch
from modulefinder import ModuleFinder
from pathlib import Path

from edgetf.core.errors import DeviceError
from edgetf.core.files import file_sha256, whole_file
from edgetf.core.places import cache_folder
from edgetf.targets.interpreter import Interpreter

PACKAGES = {
    "ort": ("onnxruntime>=1.19", "numpy"),
    "litert": ("ai-edge-litert>=2.1", "numpy"),
    "tflite_runtime": ("tflite-runtime==2.14.0", "numpy<2"),
}
OLDEST_GLIBC = 17  # manylinux2014, which pip calls manylinux_2_17 too
_ROOT = Path(__file__).resolve().parents[2]
_MAIN = Path(__file__).with_name("application_main.py")
# Half of the wheels is for other programs than an inference in Python: C libraries, compilers, converters, a GPU.
_LEFT_OUT = (
    "*/tests/*",
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/quantization/*",
    "onnxruntime/tools/*",
    "onnxruntime/transformers/*",
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so",
    "ai_edge_litert/tools/*",
    "ai_edge_litert/vendors/*",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content makes the same bytes
_LONGEST_PIP_SECONDS = 540.0


def application_for(backends: Iterable[str], there: Interpreter, name: str) -> Path:
    """The application with these backends for the board `name`; made where it is not in the cache folder.

    Raises:
        DeviceError: a backend cannot travel, or no wheel of it runs on that board.
    """
    wanted = sorted({package for backend in backends for package in _packages(backend, name)})
    if not there.glibc:
        raise DeviceError(
            f"{name}: its Python has no glibc, which every wheel of a runtime needs; install edgetf there"
        )
    modules = runner_modules()
    parts = [f"{path.relative_to(_ROOT)} {file_sha256(path)}" for path in (*modules, _MAIN)]
    key = hashlib.sha256("\n".join((*parts, *wanted, *_LEFT_OUT, repr(there))).encode()).hexdigest()[:16]
    path = cache_folder() / "runners" / f"{there.architecture}-python{there.python}-{key}.pyz"
    if not path.is_file():
        with tempfile.TemporaryDirectory(prefix="edgetf-wheels-") as folder, whole_file(path) as part:
            _download(wanted, there, name, Path(folder))
            _write(part, modules, sorted(Path(folder).glob("*.whl")))
    return path


def runner_modules() -> list[Path]:
    """The source files of edgetf that the runner can import, those of its backends among them."""
    finder = ModuleFinder(path=[str(_ROOT)])
    finder.import_hook("edgetf.runtime.runner")
    ours = (module for name, module in finder.modules.items() if name.split(".")[0] == "edgetf")
    return sorted(Path(str(vars(module)["__file__"])) for module in ours)


def _packages(backend: str, name: str) -> tuple[str, ...]:
    if backend not in PACKAGES:
        allowed = ", ".join(PACKAGES)
        raise DeviceError(f"{name}: backend {backend} does not travel in a zip application, allowed: {allowed}")
    return PACKAGES[backend]


def _download(wanted: list[str], there: Interpreter, name: str, folder: Path) -> None:
    """Get the wheels for that board, without the tools that they name as dependencies and never load."""
    glibcs = [f"manylinux_2_{minor}_{there.architecture}" for minor in range(there.minor, OLDEST_GLIBC - 1, -1)]
    platforms = [word for tag in (*glibcs, f"manylinux2014_{there.architecture}") for word in ("--platform", tag)]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"),
        *("--only-binary=:all:", "--dest", str(folder), "--implementation", "cp", "--python-version", there.python),
        *platforms,
        *wanted,
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LONGEST_PIP_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{name}: pip download took more than {_LONGEST_PIP_SECONDS:g} s; try again") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise DeviceError(
            f"{name}: no wheels of {', '.join(wanted)} for {there.architecture}, Python {there.python} and glibc "
            f"{there.glibc} ({errors[-1][:200]}); set another python in the profile, or install edgetf on the board"
        )


def _write(part: Path, modules: list[Path], wheels: list[Path]) -> None:
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", _MAIN.read_bytes())
        for module in modules:
            _add(archive, str(module.relative_to(_ROOT)), module.read_bytes())
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as content:
                for entry in content.infolist():
                    if not entry.is_dir() and not any(fnmatch(entry.filename, left) for left in _LEFT_OUT):
                        _add(archive, entry.filename, content.read(entry))


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)
