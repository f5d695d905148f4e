"""For NVIDIA's Jetson boards: a model's folder with the trtexec call that builds its engine there and times it.

An engine belongs to the GPU and the TensorRT that built it, so the board builds it. Up to TensorRT 10 trtexec is told
which types it may use; a quantized graph says by its QuantizeLinear nodes where, and what is left may be FP16. TensorRT
11 has no such options, the graph's own types count. The script asks the trtexec that it finds which of the two it is.

Sources: NVIDIA, TensorRT documentation: command-line programs; working with quantized types (scales are symmetric,
zero points 0); migrating trtexec from 10.x to 11.x. edgetf does not start TensorRT: nothing here was run on a Jetson.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from edgetf.core.artifact import Artifact
from edgetf.core.device import DeviceProfile
from edgetf.core.errors import ConfigError, ParityError, needs
from edgetf.core.files import guard_disk
from edgetf.core.schemes import Scheme
from edgetf.core.support import SUPPORT

SCRIPT = "trtexec.sh"
FLAGS: dict[Scheme, tuple[str, ...]] = {
    "fp32": ("--noTF32",),
    "fp16": ("--fp16",),
    "w8a8": ("--int8", "--fp16"),
    "fp8_e4m3": ("--fp8", "--fp16"),
}
_TENSOR_CORES = {"w8a8": 7.2, "fp8_e4m3": 8.9}  # compute capability that has arithmetic for it; Xavier's is 7.2
_MEASURE = ("--useSpinWait", "--noDataTransfers", "--warmUp=500", "--duration=10", "--iterations=100")


def make(artifact: Artifact, device: DeviceProfile, out: Path, seq_len: int | None = None) -> Path:
    """Copy the artifact's files to `out` with the script; gives the folder.

    Raises:
        ConfigError: the folder is there already, or the GPU or TensorRT does not run the scheme.
        ParityError: the graph is quantized in a way that TensorRT refuses.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; give --out a new folder")
    text = script(artifact, device, seq_len)
    part = out.with_name(out.name + ".partial")
    shutil.rmtree(part, ignore_errors=True)
    with guard_disk(out):
        shutil.copytree(artifact.path, part)
        path = part / SCRIPT
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        part.rename(out)
    return out


def script(artifact: Artifact, device: DeviceProfile, seq_len: int | None = None) -> str:
    """The shell script; the engine takes 1 to max_length tokens and is tuned for `seq_len` of them.

    Raises:
        ConfigError: the artifact is no ONNX file, or the GPU or TensorRT does not run its scheme.
        ParityError: the graph is quantized in a way that TensorRT refuses.
    """
    scheme: Scheme = artifact.spec.scheme  # type: ignore[assignment]
    place = f"{artifact.manifest.name} on {device.name}"
    if artifact.spec.kind != "onnx":
        raise ConfigError(f"{place}: got {artifact.spec.kind}, allowed: onnx, which TensorRT reads")
    if scheme not in SUPPORT["tensorrt"]:
        raise ConfigError(f"{place}: {scheme} is not run by TensorRT; allowed: {', '.join(SUPPORT['tensorrt'])}")
    wanted = _TENSOR_CORES.get(scheme, 0.0)
    has = device.facts["compute_capability"].value if "compute_capability" in device.facts else None
    if has is not None and has < wanted:
        raise ConfigError(f"{place}: {scheme} needs compute capability {wanted:g}, this GPU has {has:g}; take fp16")
    if scheme == "w8a8":
        _check_symmetric(artifact)
    longest = artifact.spec.details["max_length"]
    names = artifact.spec.details["inputs"]
    shapes = {
        "--minShapes": _shapes(names, 1),
        "--optShapes": _shapes(names, seq_len or longest),
        "--maxShapes": _shapes(names, longest),
    }
    model = f"--onnx={artifact.spec.model_file}"
    fixed = [model, "--saveEngine=model.engine", *(f"{option}={value}" for option, value in shapes.items()), *_MEASURE]
    return _TEXT.format(
        name=artifact.manifest.name,
        device=device.name,
        flags=" ".join(FLAGS[scheme]),
        needed=FLAGS[scheme][0],
        fixed=" \\\n  ".join(shlex.quote(word) for word in fixed),
    )


_TEXT = """#!/bin/sh
# Builds the engine of {name} for {device} and times it. More options for trtexec may follow.
# Log with every measurement: nvpmodel -q; jetson_clocks --show
set -eu
cd "$(dirname "$0")"
trtexec=${{TRTEXEC:-/usr/src/tensorrt/bin/trtexec}}
if ! command -v "$trtexec" >/dev/null; then
  echo "trtexec.sh: $trtexec: not found; install TensorRT (JetPack has it) or set TRTEXEC" >&2
  exit 4
fi
options=$("$trtexec" --help 2>&1 || true)
case $options in
  *"{needed}"*) types="{flags}" ;;
  *--fp16*) echo "trtexec.sh: this TensorRT is too old for {needed}" >&2; exit 4 ;;
  *) types="" ;; # TensorRT 11: the graph's own types
esac
exec "$trtexec" $types \\
  {fixed} "$@"
"""


def _shapes(names: tuple[str, ...], tokens: int) -> str:
    return ",".join(f"{name}:1x{tokens}" for name in names)


def _check_symmetric(artifact: Artifact) -> None:
    """TensorRT takes signed values around 0 only.

    Raises:
        ParityError: a zero point is another one, or its type is unsigned.
    """
    with needs("compress"):
        import onnx
        from onnx import numpy_helper
    graph = onnx.load(str(artifact.model_path)).graph
    stored = {item.name: item for item in graph.initializer}
    points = [node.input[2] for node in graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2]
    wrong = [
        name for name in points
        if stored[name].data_type != onnx.TensorProto.INT8 or numpy_helper.to_array(stored[name]).any()
    ]  # fmt: skip
    if wrong:
        raise ParityError(
            f"{artifact.manifest.name}: {len(wrong)} of {len(points)} activations are unsigned or not around 0, which "
            "TensorRT refuses; quantize with activations: symmetric, or take fp16"
        )
