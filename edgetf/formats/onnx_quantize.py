"""ONNX files in every scheme. The arithmetic is onnxruntime's; what of it fits an encoder is decided here.

| scheme | written as |
|--|--|
| `fp16` | float16 constants and operators; inputs and outputs stay as they are |
| `w8a8_dynamic` | MatMulInteger: weights per channel, activations scaled for each input |
| `w8a8`, `w8a16` | QuantizeLinear, DequantizeLinear around weights and what meets them (QDQ), ranges by calibration |
| `fp8_e4m3` | QDQ in float8, see onnx_float8 |
| `w8`, `w4` | MatMulNBits in blocks of 32; the embedding in GatherBlockQuantized (4 bits), or int8 rows |
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.algorithms.observers import Range
from edgetf.core.errors import ParityError, needs
from edgetf.core.quiet import quiet
from edgetf.core.schemes import GROUP
from edgetf.formats.onnx import READ_WEIGHTS
from edgetf.formats.onnx_calibrate import activation_ranges
from edgetf.formats.onnx_float8 import quantize_float8
from edgetf.formats.quantization import Feeds, Quantization


def quantize_onnx(source: Path, path: Path, how: Quantization, feeds: Feeds | None = None) -> None:
    """Write `source` in a scheme to `path`; `feeds` are the calibration rows, for the schemes that need them.

    Raises:
        ParityError: onnxruntime cannot write it.
    """
    with needs("compress"), quiet():
        import onnx
    model = onnx.load(str(source))
    kept = kept_names(model, how.keep_float)
    if how.scheme != "fp32" and len(kept) == len(readers(model)):  # the libraries take "none" for "all"
        raise ParityError(
            f"onnx-{how.scheme}: 0 of {len(kept)} weighted operators would be quantized; keep fewer of them"
        )
    match how.scheme:
        case "fp16":
            made = _fp16(model, kept)
        case "w8a8_dynamic":
            made = _dynamic(source, how, kept)
        case "w8a8" | "w8a16":
            made = _static(source, how, _ranges(model, how, feeds))
        case "w4":
            made = _blocks(model, 4, kept)
        case "w8":
            made = _weights_int8(model, how)
        case "fp8_e4m3":
            made = quantize_float8(model, readers(model, how.keep_float), _ranges(model, how, feeds), how.granularity)
        case _:
            raise ParityError(f"quantize.schemes: got {how.scheme}, which is how the file already is")
    del made.graph.value_info[:]  # every runtime infers the shapes between operators anew
    onnx.save(made, str(path))


def readers(model: Any, keep_float: tuple[str, ...] = ()) -> list[Any]:
    """The operators that read a weight of two dimensions, but those whose name fits a pattern of `keep_float`."""
    with needs("compress"):
        from onnx import TensorProto
    constants = [item for item in model.graph.initializer if item.data_type == TensorProto.FLOAT]
    matrices = {item.name for item in constants if len(item.dims) == 2}
    return [
        node
        for node in model.graph.node
        if node.op_type in READ_WEIGHTS
        and any(name in matrices for name in node.input)
        and not any(fnmatch(node.name, pattern) for pattern in keep_float)
    ]


def kept_names(model: Any, keep_float: tuple[str, ...]) -> list[str]:
    """The operators that read a weight and stay in float."""
    chosen = {node.name for node in readers(model, keep_float)}
    return [node.name for node in readers(model) if node.name not in chosen]


def _ranges(model: Any, how: Quantization, feeds: Feeds | None) -> Mapping[str, Range]:
    """The range of what every quantized product reads, and of the embeddings' outputs, which are their tables'."""
    if feeds is None:
        raise ParityError(f"{how.scheme}: needs calibration rows, got none; give the stage its training rows")
    chosen, constants = readers(model, how.keep_float), {item.name for item in model.graph.initializer}
    wanted = [name for node in chosen if node.op_type != "Gather" for name in node.input if name not in constants]
    gathered = [node.output[0] for node in chosen if node.op_type == "Gather"]
    levels = 1 << (16 if how.scheme == "w8a16" else 8)
    ranges = activation_ranges(model, list(dict.fromkeys(wanted)), feeds, how.method, levels)
    return {**activation_ranges(model, gathered, feeds, "min_max", levels), **ranges}


def _fp16(model: Any, kept: list[str]) -> Any:
    with needs("compress"), quiet():
        from onnxruntime.transformers.float16 import convert_float_to_float16
    with quiet():
        return convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)


def _by_file(write: Callable[[Path], None]) -> Any:
    """What a writer of files writes, as a model."""
    import onnx

    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "model.onnx"
        write(path)
        return onnx.load(str(path))


def _dynamic(source: Path, how: Quantization, kept: list[str]) -> Any:
    """`MatMulConstBOnly` leaves the products of two activations in attention alone: they have no weights, and
    quantizing them costs accuracy and time.
    """
    with needs("compress"), quiet():
        from onnxruntime.quantization import QuantType, quantize_dynamic
    return _by_file(
        lambda path: quantize_dynamic(
            source,
            path,
            weight_type=QuantType.QInt8,
            per_channel=how.granularity == "per_channel",
            nodes_to_exclude=[*kept, *(f"{name}_MatMul" for name in kept)],  # what it makes of a Gemm
            extra_options={"MatMulConstBOnly": True},
        )
    )


def _static(source: Path, how: Quantization, ranges: Mapping[str, Range]) -> Any:
    """What products give is left in float: a bias and a norm, or GELU, follow, and quantizing it again brings nothing
    but a second error. `QDQQuantizer` is taken in place of `quantize_static` because that one keeps the activations of
    all calibration rows in memory.
    """
    with needs("compress"), quiet():
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
    signed = how.activations != "unsigned"
    kinds = {
        ("w8a8", False): QuantType.QUInt8,
        ("w8a8", True): QuantType.QInt8,
        ("w8a16", False): QuantType.QUInt16,
        ("w8a16", True): QuantType.QInt16,
    }
    seen = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}

    def write(path: Path) -> None:
        model = load_model_with_shape_infer(source)
        chosen = readers(model, how.keep_float)
        tables = {node.input[0]: [{"quant_type": QuantType.QInt8}] for node in chosen if node.op_type == "Gather"}
        worker = QDQQuantizer(
            model,
            how.granularity == "per_channel",
            False,
            QuantType.QInt8,
            kinds[how.scheme, signed],
            TensorsData(CalibrationMethod.MinMax, seen),
            [node.name for node in chosen],
            [],
            list(READ_WEIGHTS),
            {
                "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
                "ActivationSymmetric": how.activations == "symmetric",
                "UseQDQContribOps": how.scheme == "w8a16",
                "TensorQuantOverrides": tables if how.scheme == "w8a16" else {},  # a table is no activation
            },
        )
        worker.quantize_model()
        worker.model.save_model_to_file(str(path))

    return _by_file(write)


def _blocks(model: Any, bits: int, kept: list[str]) -> Any:
    """Weights in blocks of 32 along the input, each with a scale of its own, but those of the `kept` operators.

    `accuracy_level` 4 lets the kernel round activations to 8 bits, which is what makes it faster than float.
    """
    with needs("compress"), quiet():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    _part_gemms(model, {node.name for node in readers(model)} - set(kept))
    with quiet():
        worker = MatMulNBitsQuantizer(
            model,
            bits=bits,
            block_size=GROUP,
            is_symmetric=True,
            accuracy_level=4,
            nodes_to_exclude=kept,
            op_types_to_quantize=("MatMul", "Gather") if bits == 4 else ("MatMul",),
        )
        worker.process()
    return worker.model.model


def _part_gemms(model: Any, names: set[str]) -> None:
    """Write a Gemm of these names as MatMul and Add, in place: blocks of 4 or 8 bits exist for MatMul alone."""
    import onnx
    from onnx import numpy_helper

    constants = {item.name: item for item in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        settings = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        plain = {name: value for name, value in settings.items() if name != "transB"}
        if node.op_type != "Gemm" or node.name not in names or any(value not in (0, 1.0) for value in plain.values()):
            nodes.append(node)
            continue
        weight, product = constants[node.input[1]], f"{node.output[0]}_product"
        if settings.get("transB"):
            turned = numpy_helper.from_array(numpy_helper.to_array(weight).T.copy(), f"{weight.name}_Transposed")
            node.input[1] = turned.name
            weight.CopyFrom(turned)
        nodes.append(onnx.helper.make_node("MatMul", node.input[:2], [product], node.name))
        nodes.append(onnx.helper.make_node("Add", [product, node.input[2]], node.output, f"{node.name}_bias"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _weights_int8(model: Any, how: Quantization) -> Any:
    """Products in 8-bit blocks; embeddings, which have no such operator, as int8 rows made float when they are read."""
    with needs("compress"), quiet():
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    tables = [node.name for node in readers(model, how.keep_float) if node.op_type == "Gather"]
    made = _blocks(model, 8, kept_names(model, how.keep_float))

    def write(path: Path) -> None:
        blocks = path.with_name("blocks.onnx")
        onnx.save(made, str(blocks))
        quantize_dynamic(blocks, path, ["Gather"], weight_type=QuantType.QInt8, nodes_to_quantize=tables)

    return _by_file(write) if tables else made
