"""Decoders in the schemes that make decoding faster: it reads every weight once a token, so bytes are time.

| scheme | products | embedding |
|--|--|--|
| `w8`, `w4` | MatMulNBits, blocks of 32 with a scale each | GatherBlockQuantized, of the output layer's codes where tied |
| `w8a8_dynamic` | MatMulInteger, a scale per output; activations scaled for each input | int8 rows with a scale each |

Codes are chosen by `edgetf.algorithms.block_codes`; `accuracy_level` 4 lets the kernels round activations to 8 bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_never

import numpy as np

from edgetf.algorithms.block_codes import BlockCodes, encode_blocks
from edgetf.core.errors import ParityError, needs
from edgetf.core.quiet import quiet
from edgetf.core.schemes import GROUP, Scheme
from edgetf.formats.decoder.graph import MICROSOFT, save_model
from edgetf.formats.decoder.int8 import quantize_int8
from edgetf.formats.decoder.reads import Read, weight_reads


def quantize_decoder(source: Path, target: Path, scheme: Scheme, embeddings: bool = True) -> float:
    """Write `source` in a scheme; gives the share of its weights that are now quantized.

    Raises:
        ParityError: the scheme is not one for decoders, or nothing was there to quantize.
    """
    with needs("compress"), quiet():
        import onnx
    model = onnx.load(str(source))
    reads = [read for read in weight_reads(model) if embeddings or not read.of_vocabulary]
    share = _share(model, reads)
    if not share:
        raise ParityError(f"onnx-{scheme}: no operator of this graph reads a weight that can be quantized")
    match scheme:
        case "w8" | "w4":
            made = _blocks(model, reads, 8 if scheme == "w8" else 4)
        case "w8a8_dynamic":
            made = quantize_int8(model, reads)
        case "fp32" | "fp16" | "w8a8" | "w8a16" | "fp8_e4m3":
            raise ParityError(f"quantize.schemes: got {scheme}, allowed for decoders: w8a8_dynamic, w8, w4")
        case _:
            assert_never(scheme)
    del made.graph.value_info[:]
    save_model(made, target)
    return share


def _share(model: Any, reads: list[Read]) -> float:
    """Share of the numbers in matrices that these read."""
    sizes = {item.name: int(np.prod(item.dims)) for item in model.graph.initializer if len(item.dims) == 2}
    return sum(sizes[name] for name in {read.weight for read in reads}) / max(sum(sizes.values()), 1)


def _blocks(model: Any, reads: list[Read], bits: int) -> Any:
    """Every read by the operator of its kind, over one stored copy of each weight."""
    from onnx import numpy_helper

    constants = {item.name: item for item in model.graph.initializer}
    coded: dict[str, BlockCodes] = {}
    for read in reads:
        if read.weight not in coded:
            weight = numpy_helper.to_array(constants[read.weight])
            coded[read.weight] = encode_blocks(weight if read.rows_out else weight.T, bits, GROUP)
    by_output = {read.node.output[0]: read for read in reads}
    gone = {id(read.turned) for read in reads if read.turned is not None}
    nodes: list[Any] = []
    for node in model.graph.node:
        read = by_output.get(node.output[0])
        if read is not None:
            nodes += _by_codes(read, coded[read.weight])
        elif id(node) not in gone:
            nodes.append(node)
    kept = [item for name, item in constants.items() if name not in coded]
    kept += [item for name, codes in coded.items() for item in _stored(name, codes)]
    for field, items in ((model.graph.node, nodes), (model.graph.initializer, kept)):
        copies = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(copies)
    _import_microsoft(model)
    return model


def _stored(name: str, codes: BlockCodes) -> list[Any]:
    """Codes and scales as constants, and the shape in which a table reads them."""
    from onnx import numpy_helper

    packed = codes.packed()
    return [
        numpy_helper.from_array(packed, f"{name}_Q{codes.bits}"),
        numpy_helper.from_array(codes.scales, f"{name}_scales"),
    ]


def _by_codes(read: Read, codes: BlockCodes) -> list[Any]:
    from onnx import helper

    node, stem = read.node, read.weight
    rows, blocks, size = codes.codes.shape
    stored = [f"{stem}_Q{codes.bits}", f"{stem}_scales"]
    if read.kind == "product":
        inputs = [node.input[0], *stored] + (["", "", read.bias] if read.bias is not None else [])
        settings = {"K": codes.width, "N": rows, "bits": codes.bits, "block_size": size, "accuracy_level": 4}
        return [helper.make_node("MatMulNBits", inputs, node.output, node.name, domain=MICROSOFT, **settings)]
    flat, padded = f"{stem}/by_row", codes.width < blocks * size
    shape = helper.make_tensor(f"{stem}/row_shape", 7, [2], [rows, blocks * size * codes.bits // 8])
    given = f"{node.output[0]}/padded" if padded else node.output[0]
    nodes = [
        helper.make_node("Constant", [], [f"{stem}/row_shape"], value=shape),
        helper.make_node("Reshape", [stored[0], f"{stem}/row_shape"], [flat]),
        helper.make_node(
            "GatherBlockQuantized",
            [flat, node.input[1], stored[1]],
            [given],
            node.name,
            domain=MICROSOFT,
            bits=codes.bits,
            block_size=size,
            gather_axis=0,
            quantize_axis=1,
        ),
    ]
    if padded:
        bounds = {"first": 0, "width": codes.width, "axis": -1}
        for name, value in bounds.items():
            tensor = helper.make_tensor(f"{stem}/{name}", 7, [1], [value])
            nodes.append(helper.make_node("Constant", [], [f"{stem}/{name}"], value=tensor))
        nodes.append(helper.make_node("Slice", [given, *(f"{stem}/{name}" for name in bounds)], node.output))
    return nodes


def _import_microsoft(model: Any) -> None:
    from onnx import helper

    if MICROSOFT not in {item.domain for item in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
