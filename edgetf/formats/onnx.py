"""ONNX: export through torch.export, and exact rewrites of the file."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from edgetf.core.errors import ParityError, needs
from edgetf.core.files import write_problem
from edgetf.core.quiet import quiet
from edgetf.formats.onnx_files import save_onnx
from edgetf.formats.wrapper import LogitsOnly

MODEL = "model.onnx"
OUTPUT = "logits"
READ_WEIGHTS = ("MatMul", "Gemm", "Gather")  # what quantization is about


_TERMINAL_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def first_cause(error: BaseException) -> str:
    """The error that began it all, in one short line: torch wraps it in advice on what to read next."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(_TERMINAL_COLOR.sub("", str(error)).split())[:300]


def export_onnx(model: Any, path: Path, opset: int) -> tuple[str, ...]:
    """Write a model with dynamic batch and length, whose output is called `OUTPUT`; returns the names of its inputs.

    Raises:
        ParityError: torch cannot export it.
    """
    with needs("compress"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import torch
    graph = LogitsOnly(model).eval()
    dynamic = {name: {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")} for name in graph.input_names}
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                graph,
                graph.sample(2, 16),
                str(path),
                dynamo=True,
                opset_version=opset,
                input_names=list(graph.input_names),
                output_names=[OUTPUT],
                dynamic_shapes=tuple(dynamic.values()),
                external_data=True,  # the weights of a large model do not fit into the graph's file
                verbose=False,
            )
    except (RuntimeError, ValueError, torch.onnx.OnnxExporterError) as error:
        if write_problem(error):
            raise
        raise ParityError(f"export: torch cannot write this model as ONNX ({first_cause(error)})") from None
    name_and_strip(path)
    return graph.input_names


_FLOAT = 1  # as ONNX numbers it
_SCOPES = "pkg.torch.onnx.name_scopes"  # the modules around an operator, from the whole model inwards


def name_and_strip(path: Path) -> None:
    """Name, in place, what reads weights, and the weights, after their module; then take out torch's traces.

    torch writes a transposed weight as `val_19`. The traces say where in the Python code each operator came from:
    200 kB in a student of a few megabytes. The two files that torch wrote become one, where one can hold all.
    """
    import onnx

    model = onnx.load(str(path))
    taken = {item.name for item in model.graph.initializer}
    matrices = {item.name for item in model.graph.initializer if len(item.dims) == 2 and item.data_type == _FLOAT}
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        scopes = ast.literal_eval(next((item.value for item in node.metadata_props if item.key == _SCOPES), "[]"))
        weights = [name for name in node.input if name in matrices]
        if node.op_type in READ_WEIGHTS and weights and len(scopes) > 1:
            node.name, weight = scopes[-2], f"{scopes[-2]}.weight"
            if weights[0].startswith("val_") and weight not in taken:
                renamed[weights[0]] = weight
                taken.add(weight)
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    rename(model, renamed)
    save_onnx(model, path)


def rename(model: Any, names: dict[str, str]) -> None:
    """Give values of a graph other names, wherever they stand."""
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    for value in (*model.graph.initializer, *model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)


def name_output(path: Path, name: str) -> None:
    """Rename the output of a file in place. An inner value of that name, as torch calls what a table gives, yields."""
    with needs("compress"):
        import onnx
    model = onnx.load(str(path))
    rename(model, {OUTPUT: name, name: f"{name}_inside"})
    save_onnx(model, path)


def part_norms(path: Path) -> None:
    """Write the sums before layer norms as `Sum`, in place: the same numbers, in less time.

    onnxruntime joins `Add` and `LayerNormalization` into `SkipLayerNormalization`, whose CPU kernel takes longer than
    the two (seen with 1.32); `Sum` it leaves alone.
    """
    with needs("compress"):
        import onnx
    model = onnx.load(str(path))
    sums = {name: node for node in model.graph.node if node.op_type == "Add" for name in node.output}
    for node in model.graph.node:
        if node.op_type == "LayerNormalization" and node.input[0] in sums:
            sums[node.input[0]].op_type = "Sum"
    save_onnx(model, path)
