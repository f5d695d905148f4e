"""What a graph does for one input: its operators, with the work and the bytes of each, whatever the file's format.

Operators fall into a few groups that cost alike. A product with weights reads them from memory; one of two activations,
as in attention, does not, and is many small ones. Arithmetic, row-wise functions (softmax, norms, GELU), moves of data,
and changes between float and integer each cost by the element; a view costs nothing but its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

from edgetf.core.errors import ArtifactError

Group = Literal["product", "attention", "arithmetic", "function", "layout", "rounding", "view"]
GROUPS: tuple[Group, ...] = get_args(Group)
Shape = tuple[int, ...]

PRODUCTS = frozenset(
    ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "QGemm", "MatMulNBits", "FusedMatMul", "FusedGemm",
     "Attention", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "FULLY_CONNECTED", "BATCH_MATMUL")
)  # fmt: skip
_KINDS: dict[Group, str] = {
    "arithmetic": "Add Sub Mul Div Sum Neg Abs Min Max Where Not And Or Equal Greater Less Relu Clip Mean ADD "
    "SUB MUL DIV NEG ABS MINIMUM MAXIMUM SELECT SELECT_V2 EQUAL GREATER LESS LOGICAL_AND LOGICAL_NOT RELU "
    "SQUARED_DIFFERENCE",
    "function": "Softmax LayerNormalization SimplifiedLayerNormalization SkipLayerNormalization RMSNormalization "
    "SkipSimplifiedLayerNormalization EmbedLayerNormalization Gelu FastGelu BiasGelu QuickGelu Erf Tanh Exp Log Pow "
    "Sqrt Reciprocal Sigmoid Silu ReduceMean ReduceSum ReduceMax LogSoftmax SOFTMAX GELU TANH EXP LOG POW SQRT RSQRT "
    "LOGISTIC MEAN SUM REDUCE_MAX L2_NORMALIZATION LOG_SOFTMAX ERF",
    "layout": "Transpose Gather GatherElements GatherBlockQuantized Concat Slice Split Expand Tile Pad ScatterND "
    "TRANSPOSE GATHER GATHER_ND EMBEDDING_LOOKUP CONCATENATION SLICE STRIDED_SLICE SPLIT BROADCAST_TO TILE PAD",
    "rounding": "Cast QuantizeLinear DequantizeLinear DynamicQuantizeLinear CAST QUANTIZE DEQUANTIZE",
    "view": "Reshape Flatten Squeeze Unsqueeze Identity Shape Constant ConstantOfShape Range Dropout RESHAPE SQUEEZE "
    "EXPAND_DIMS SHAPE PACK UNPACK RANGE FILL",
}
_GROUP_OF: dict[str, Group] = {kind: group for group, kinds in _KINDS.items() for kind in kinds.split()}


@dataclass(frozen=True)
class Op:
    """One operator at a given length: FLOPs (two for a multiply-add), bytes of weights, bytes read and written."""

    kind: str
    group: Group
    flops: float
    weight_bytes: float
    activation_bytes: float
    elements: int  # of its output
    dtype: str  # of what it multiplies by, or gives


def group_of(kind: str) -> Group:
    """The group of an operator that is no product; one that nobody has heard of is taken for arithmetic.

    >>> group_of("Softmax"), group_of("RESHAPE"), group_of("MyOwnOp")
    ('function', 'view', 'arithmetic')
    """
    return _GROUP_OF.get(kind, "arithmetic")


def product_flops(left: Shape, output: Shape) -> float:
    """Of a product (…, M, K) by (…, K, N), from its left side and what it gives: 2·M·K·N.

    >>> product_flops((1, 100, 256), (1, 100, 1024)) == 2 * 100 * 256 * 1024
    True
    """
    return 2.0 * prod(output) * left[-1]


def known_shape(place: str, name: str, shape: Sequence[int | None] | None) -> Shape:
    """A shape without a gap.

    Raises:
        ArtifactError: it depends on more than batch and length.
    """
    if shape is None or any(size is None for size in shape):
        raise ArtifactError(
            f"{place}: the shape of {name} depends on more than batch and length; export the model with edgetf"
        )
    return tuple(int(size) for size in shape if size is not None)
