"""Decoders in the schemes that make decoding faster: it reads every weight once a token, so bytes are time.

| scheme | products | embedding |
|--|--|--|
| `w8`, `w4` | MatMulNBits, blocks of 32 with a scale each | GatherBlockQuantized, of the same codes where tied |
| `w8a8_dynamic` | MatMulInteger, a scale per output; activations scaled for each input | int8 rows with a scale each |

Codes are chosen by `edgetf.algorithms.block_codes`, those of w4 by `gptq` and `block_descent` where texts are given;
`accuracy_level` 4 lets the kernels round activations to 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from edgetf.algorithms.block_codes import BlockCodes, encode_blocks
from edgetf.algorithms.block_descent import descend
from edgetf.algorithms.gptq import gptq_blocks
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ParityError, needs
from edgetf.core.quiet import quiet
from edgetf.core.schemes import GROUP, Scheme
from edgetf.formats.decoder.graph import MICROSOFT
from edgetf.formats.decoder.int8 import quantize_int8
from edgetf.formats.decoder.moments import Moments
from edgetf.formats.decoder.reads import Read, weight_reads
from edgetf.formats.onnx_files import save_onnx
from edgetf.runtime.decode.session import Ids

_INT64 = 7  # as ONNX numbers it
SMALL_EMBEDDING = 0.25  # share of the weights up to which 8 bits for it cost less than they save


@dataclass(frozen=True)
class Calibration:
    """Tokens (N, T) of texts like those that the model will write."""

    facts: DecoderFacts
    blocks: Ids


@dataclass(frozen=True)
class BlockWise:
    """How w4 is written. A tied embedding is read twice, and what it loses no later weight makes up for."""

    embedding_bits: Literal[4, 8, "auto"] = "auto"
    calibration: Calibration | None = None


def quantize_decoder(
    source: Path, target: Path, scheme: Scheme, embeddings: bool = True, how: BlockWise | None = None
) -> float:
    """Write `source` in a scheme; gives the share of its weights that are now quantized.

    `how` counts for w4: with a calibration its codes make up for one another's errors on the texts.

    Raises:
        ParityError: the scheme is not one for decoders, or nothing was there to quantize.
    """
    with needs("compress"), quiet():
        import onnx
    model, how = onnx.load(str(source)), how or BlockWise()
    reads = [read for read in weight_reads(model) if embeddings or not read.of_vocabulary]
    share = _share(model, reads)
    if not share:
        raise ParityError(f"onnx-{scheme}: no operator of this graph reads a weight that can be quantized")
    match scheme:
        case "w8" | "w4":
            moments = None
            if scheme == "w4" and how.calibration is not None:
                moments = Moments(source, model, reads, how.calibration.facts, how.calibration.blocks)
            made = _blocks(model, reads, _bits(model, reads, scheme, how), moments)
        case "w8a8_dynamic":
            made = quantize_int8(model, reads)
        case "fp32" | "fp16" | "w8a8" | "w8a16" | "fp8_e4m3":
            raise ParityError(f"quantize.schemes: got {scheme}, allowed for decoders: w8a8_dynamic, w8, w4")
        case _:
            assert_never(scheme)
    del made.graph.value_info[:]
    save_onnx(made, target)
    return share


def _share(model: Any, reads: list[Read]) -> float:
    """Share of the numbers in matrices that these read."""
    sizes = {item.name: int(np.prod(item.dims)) for item in model.graph.initializer if len(item.dims) == 2}
    return sum(sizes[name] for name in {read.weight for read in reads}) / max(sum(sizes.values()), 1)


def _bits(model: Any, reads: list[Read], scheme: Scheme, how: BlockWise) -> dict[str, int]:
    """Of every weight that is read."""
    sizes = {item.name: int(np.prod(item.dims)) for item in model.graph.initializer}
    vocabulary = {read.weight for read in reads if read.of_vocabulary}
    share = sum(sizes[name] for name in vocabulary) / sum(sizes[name] for name in {read.weight for read in reads})
    of_embedding = how.embedding_bits if how.embedding_bits != "auto" else 8 if share <= SMALL_EMBEDDING else 4
    return {read.weight: 8 if scheme == "w8" else of_embedding if read.weight in vocabulary else 4 for read in reads}


def _blocks(model: Any, reads: list[Read], bits: Mapping[str, int], moments: Moments | None) -> Any:
    """Every read by the operator of its kind, over one stored copy of each weight.

    A table is looked up too, and what it gives shall be near the weights themselves: its codes make up for nothing.
    """
    from onnx import numpy_helper

    constants = {item.name: item for item in model.graph.initializer}
    coded: dict[str, BlockCodes] = {}
    tables = {read.weight for read in reads if read.kind == "table"}
    for read in reads:
        if read.weight not in coded:
            weight = numpy_helper.to_array(constants[read.weight])
            weight = weight if read.rows_out else weight.T
            moment = None if moments is None or read.weight in tables else moments.of(read.node.input[0])
            coded[read.weight] = _coded(weight, bits[read.weight], moment)
    multiplied = {read.weight for read in reads if read.kind == "product"}
    by_output = {read.node.output[0]: read for read in reads}
    gone = {read.turned.output[0] for read in reads if read.turned is not None}
    nodes: list[Any] = []
    for node in model.graph.node:
        found = by_output.get(node.output[0])
        if found is None:
            nodes += [] if node.output[0] in gone else [node]
        elif found.kind == "product":
            nodes.append(_product(found, coded[found.weight]))
        else:
            nodes += _table(found, coded[found.weight], shared=found.weight in multiplied)
    read_still = {name for node in nodes for name in node.input}
    kept = [item for name, item in constants.items() if name in read_still]
    for name, codes in coded.items():
        packed = codes.packed() if name in multiplied else codes.packed().reshape(len(codes.codes), -1)
        kept.append(numpy_helper.from_array(packed, f"{name}_Q{codes.bits}"))
        kept.append(numpy_helper.from_array(codes.scales, f"{name}_scales"))
        zeros = codes.packed_zeros()
        kept += [numpy_helper.from_array(zeros, f"{name}_zero_points")] if zeros is not None else []
    for field, items in ((model.graph.node, nodes), (model.graph.initializer, kept)):
        copies = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(copies)
    if MICROSOFT not in {item.domain for item in model.opset_import}:
        model.opset_import.add(domain=MICROSOFT, version=1)
    return model


def _coded(weight: NDArray[np.float32], bits: int, moments: NDArray[np.float32] | None) -> BlockCodes:
    """The codes of a weight (N, K), which make up for one another's errors where its inputs' moments are known."""
    if moments is None:
        return encode_blocks(weight, bits, GROUP)
    return descend(gptq_blocks(weight, moments, bits, GROUP), weight, moments)


def _product(read: Read, codes: BlockCodes) -> Any:
    """x W by codes of the outputs (N, B, S)."""
    from onnx import helper

    zeros = "" if codes.packed_zeros() is None else f"{read.weight}_zero_points"
    inputs = [read.node.input[0], f"{read.weight}_Q{codes.bits}", f"{read.weight}_scales", zeros, "", read.bias or ""]
    while not inputs[-1]:
        inputs.pop()
    return helper.make_node(
        "MatMulNBits",
        inputs,
        read.node.output,
        read.node.name,
        domain=MICROSOFT,
        K=codes.width,
        N=len(codes.codes),
        bits=codes.bits,
        block_size=codes.codes.shape[2],
        accuracy_level=4,
    )


def _table(read: Read, codes: BlockCodes, shared: bool) -> list[Any]:
    """Rows by codes (V, B * S); those of an output layer, which are (V, B, S), are seen in that shape."""
    from onnx import helper

    stem, out = read.weight, read.node.output[0]
    rows, blocks, size = codes.codes.shape
    by_row, nodes = f"{stem}_Q{codes.bits}", []
    if shared:
        shape = helper.make_tensor(f"{stem}/row_shape", _INT64, [2], [rows, blocks * size * codes.bits // 8])
        nodes.append(helper.make_node("Constant", [], [shape.name], value=shape))
        nodes.append(helper.make_node("Reshape", [by_row, shape.name], [f"{stem}/by_row"]))
        by_row = f"{stem}/by_row"
    filled = codes.width < blocks * size
    given = f"{out}/filled" if filled else out
    gather = {"bits": codes.bits, "block_size": size, "gather_axis": 0, "quantize_axis": 1}
    inputs = [by_row, read.node.input[1], f"{stem}_scales"]
    inputs += [] if codes.packed_zeros() is None else [f"{stem}_zero_points"]
    nodes.append(helper.make_node("GatherBlockQuantized", inputs, [given], read.node.name, domain=MICROSOFT, **gather))
    if filled:
        bounds = [
            helper.make_tensor(f"{stem}/{k}", _INT64, [1], [n])
            for k, n in (("from", 0), ("to", codes.width), ("axis", -1))
        ]
        nodes += [helper.make_node("Constant", [], [bound.name], value=bound) for bound in bounds]
        nodes.append(helper.make_node("Slice", [given, *(bound.name for bound in bounds)], [out]))
    return nodes
