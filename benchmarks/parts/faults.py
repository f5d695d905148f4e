"""Planted faults: a broken quantization of each kind, run through the recipe as a user would, and what catches it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import yaml

from edgetf.config.load import load_recipe
from edgetf.core.errors import EdgetfError
from edgetf.formats import quantize as formats
from edgetf.pipeline.plan import make_plan
from edgetf.pipeline.run import execute
from edgetf.report.progress import Reporter

Tree = dict[str, Any]
Damage = Callable[[Path, Path], None]  # of the fp32 file and the file just written, in place


def faults(checkpoint: Path, folder: Path, data: Path) -> Tree:
    """What stops each fault: the exit code and the message, or what the ladder says of a file that is only slow."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    planted: dict[str, Callable[[Path], Tree]] = {
        "wrong flavour: raw int8 logits": lambda out: _run(out, checkpoint, data, damage=_raw_output),
        "wrong flavour: signed activations on x86": lambda out: _signed(out, checkpoint, data),
        "no-op recipe, ONNX": lambda out: _run(out, checkpoint, data, damage=_no_op),
        "no-op recipe, TFLite": lambda out: _run(out, checkpoint, data, ("tflite",), damage=_no_op_tflite),
        "broken scale": lambda out: _run(out, checkpoint, data, damage=_broken_scale),
        "leaked rows": lambda out: _run(out, checkpoint, data, calibration={"source": str(data / "test.csv")}),
        "NaN weights": lambda out: _run(out, _with_nan(checkpoint, out), data),
    }
    found = {}
    for number, (name, plant) in enumerate(planted.items()):
        found[name] = plant(folder / str(number))
    return found


def _tree(checkpoint: Path, data: Path, formats: list[str], quantize: Tree) -> Tree:
    rows = {"source": "train", "dev_source": "dev", "test_source": "test"}
    return {
        "name": "fault",
        "teacher": {"source": str(checkpoint)},
        "data": {**{key: str(data / f"{split}.csv") for key, split in rows.items()}, "max_length": 128},
        "stages": [{"stage": "export", "formats": formats}, {"stage": "quantize", **quantize}],
        "validation": {"samples": 30},
    }


def _run(
    out: Path,
    checkpoint: Path,
    data: Path,
    model_formats: tuple[str, ...] = ("onnx",),
    damage: Damage | None = None,
    **quantize: Any,
) -> Tree:
    """Run a recipe whose quantized files are damaged right after they were written."""
    out.mkdir(exist_ok=True)
    path = out / "recipe.yaml"
    settings = {"schemes": ["w8a8" if "onnx" in model_formats else "w8a8_dynamic"], **quantize}
    path.write_text(yaml.safe_dump(_tree(checkpoint, data, list(model_formats), settings)), encoding="utf-8")
    write = formats.quantize_file

    def written(kind: Any, source: Path, target: Path, how: Any, feeds: Any = None) -> None:
        write(kind, source, target, how, feeds)
        if damage is not None:
            damage(source, target)

    try:
        with patch("edgetf.stages.quantize.quantize_file", written):
            report = execute(make_plan(load_recipe(str(path)), allow_larger=True), out / "run", True, Reporter())
    except EdgetfError as error:
        return {"caught": True, "by": f"exit {error.exit_code}", "message": str(error)}
    verdict = report["verdict"]
    return {"caught": verdict == "fail", "by": f"verdict {verdict}", "message": "every gate let it through"}


def _signed(out: Path, checkpoint: Path, data: Path) -> Tree:
    """Signed activations are right, but slow on x86: the ladder must not choose them."""
    settings = {"accuracy_drop": 0.005, "activations": "signed", "rungs": ["dynamic", "static"]}
    out.mkdir()
    path = out / "recipe.yaml"
    path.write_text(yaml.safe_dump(_tree(checkpoint, data, ["onnx"], settings)), encoding="utf-8")
    report = execute(make_plan(load_recipe(str(path)), allow_larger=True), out / "run", True, Reporter())
    ladder = report["ladder"][0]
    static = next(rung for rung in ladder["rungs"] if rung["scheme"] == "w8a8")
    return {
        "caught": bool(static["refused"]) and ladder["chosen"] != static["name"],
        "by": f"the ladder chose {ladder['chosen']}",
        "message": f"{static['name']}: {static['latency_ratio']:.2f} of fp32's latency, {static['refused']}",
    }


def _raw_output(source: Path, path: Path) -> None:
    """Hand out int8 logits, as a file does whose last DequantizeLinear was cut off."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["float_logits" if name == output.name else name for name in node.output]
    scale, zero = np.float32(0.05), np.int8(0)
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.asarray(scale), "s"), numpy_helper.from_array(np.asarray(zero), "z")]
    )
    model.graph.node.append(helper.make_node("QuantizeLinear", ["float_logits", "s", "z"], [output.name]))
    output.type.tensor_type.elem_type = TensorProto.INT8
    onnx.save(model, str(path))


def _no_op(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def _no_op_tflite(source: Path, path: Path) -> None:
    """A recipe of ai-edge-quantizer that quantizes nothing here, and says nothing."""
    from ai_edge_quantizer import quantizer, recipe

    worker = quantizer.Quantizer(str(source), recipe.dynamic_wi8b32_afp32())
    worker.quantize(enable_progress_report=False).export_model(str(path), overwrite=True)


def _broken_scale(source: Path, path: Path) -> None:
    """Make the scales of one feed-forward eight times as large."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    scales = [item for item in model.graph.initializer if "down" in item.name or "output.dense.weight" in item.name]
    scale = next(item for item in reversed(scales) if item.name.endswith("_scale"))
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 8, scale.name))
    onnx.save(model, str(path))


def _with_nan(checkpoint: Path, out: Path) -> Path:
    """The checkpoint with one weight that is not a number."""
    from safetensors.torch import load_file, save_file

    copy = out / "checkpoint"
    shutil.copytree(checkpoint, copy)
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if name.endswith("dense.weight"))
    weights[name][0, 0] = float("nan")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy
