"""ONNX: export through torch.export, INT8 dynamic quantization by onnxruntime, and a look into the graph."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetf.core.errors import ParityError, needs
from edgetf.core.files import write_problem
from edgetf.core.quiet import quiet
from edgetf.formats.wrapper import LogitsOnly

MODEL = "model.onnx"
OUTPUT = "logits"


@dataclass(frozen=True)
class GraphSummary:
    """Operators by type and, of those that hold weights, how many are quantized."""

    ops: dict[str, int]
    quantized: int
    quantizable: int


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
                external_data=False,
                verbose=False,
            )
    except (RuntimeError, ValueError, torch.onnx.OnnxExporterError) as error:
        if write_problem(error):
            raise
        raise ParityError(f"export: torch cannot write this model as ONNX ({first_cause(error)})") from None
    _strip_traces(path)
    return graph.input_names


def _strip_traces(path: Path) -> None:
    """Take out, in place, where in the Python code each node came from: 200 kB in a student of a few megabytes."""
    import onnx

    model = onnx.load(str(path))
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    onnx.save(model, str(path))


def name_output(path: Path, name: str) -> None:
    """Rename the output of a file in place. An inner value of that name, as torch calls what a table gives, yields."""
    with needs("compress"):
        import onnx
    model = onnx.load(str(path))
    names = {OUTPUT: name, name: f"{name}_inside"}
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    for value in (*model.graph.output, *model.graph.value_info):
        value.name = names.get(value.name, value.name)
    onnx.save(model, str(path))


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
    onnx.save(model, str(path))


def quantize_dynamic_int8(source: Path, path: Path) -> None:
    """INT8 weights per channel, embeddings too; activations are quantized as they come.

    `MatMulConstBOnly` leaves the products of two activations in attention alone: they have no weights, and
    quantizing them costs accuracy and time. What the quantizer notes of the shapes between operators stays out of the
    file: every runtime infers them anew.
    """
    with needs("compress"), quiet():
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    with quiet():
        quantize_dynamic(
            source, path, weight_type=QuantType.QInt8, per_channel=True, extra_options={"MatMulConstBOnly": True}
        )
    model = onnx.load(str(path))
    del model.graph.value_info[:]
    onnx.save(model, str(path))


_QUANTIZED = {"MatMulInteger", "ConvInteger", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul"}


def summarize_onnx(path: Path) -> GraphSummary:
    """Count the operators of a file, and how much of its weights is stored in 8 bits.

    `quantizable` are the MatMul, Gemm and Gather operators that read a float or int8 weight of two dimensions.
    """
    with needs("compress"):
        import onnx
    graph = onnx.load(str(path), load_external_data=False).graph
    ops = Counter(node.op_type for node in graph.node)
    small = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    holds = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, *small}
    weights = {item.name: item for item in graph.initializer if len(item.dims) == 2 and item.data_type in holds}
    quantized = quantizable = 0
    for node in graph.node:
        read = [weights[name] for name in node.input if name in weights]
        if not read or node.op_type not in {"MatMul", "Gemm", "Gather", *_QUANTIZED}:
            continue
        quantizable += 1
        quantized += read[0].data_type in small
    return GraphSummary(dict(ops.most_common()), quantized, quantizable)
