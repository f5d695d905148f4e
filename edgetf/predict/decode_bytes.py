"""What an exported decoder reads for one token: its weights once, but of the embedding table a single row.

A table that is also the output layer (tied) is read whole, once. Weights that are dequantized, cast, turned or reshaped
when they are used count as they are stored. The keys and values of the tokens so far come on top, with the context.

Source: the file itself, its tensors by type and shape; what a lookup is stands in onnxruntime's ContribOperators.md and
TensorFlow Lite's schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgetf.core.errors import ArtifactError
from edgetf.core.quiet import quiet

PASSING = frozenset(  # what a stored tensor goes through on the way to its use
    ("DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "DEQUANTIZE", "TRANSPOSE",
     "RESHAPE", "CAST")
)  # fmt: skip
LOOKUPS = frozenset(("Gather", "GatherBlockQuantized", "EMBEDDING_LOOKUP", "GATHER"))
VIEWS = frozenset(("Shape", "Constant", "ConstantOfShape", "Range", "RESHAPE", "SHAPE", "EXPAND_DIMS", "SQUEEZE"))


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in the file: its bytes, and its rows along the first axis."""

    size_bytes: float
    rows: int


@dataclass(frozen=True)
class Use:
    """One operator: its kind, the names that it reads, in order, and those that it gives."""

    kind: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True)
class TokenCost:
    """What a token costs: bytes of weights that are read, those of one context token's keys and values, operators."""

    weight_bytes: float
    cache_bytes: float
    ops: int

    def bytes_at(self, context: int) -> float:
        """Bytes of a token behind so many others.

        >>> TokenCost(1000.0, 8.0, 3).bytes_at(100)
        1800.0
        """
        return self.weight_bytes + self.cache_bytes * context


def token_cost(path: Path, cache_bytes: float) -> TokenCost:
    """Of a model file whose cache holds `cache_bytes` for each token.

    Raises:
        ArtifactError: the file cannot be read, or is no decoder.
        DeviceError: the package that reads it is not installed.
    """
    with quiet():
        if path.suffix == ".onnx":
            from edgetf.predict.decode_onnx import read_onnx

            stored, uses = read_onnx(path)
        elif path.suffix == ".tflite":
            from edgetf.predict.decode_tflite import read_tflite

            stored, uses = read_tflite(path)
        else:
            raise ArtifactError(f"{path}: got {path.suffix or 'no suffix'}, allowed: .onnx, .tflite")
    computing = sum(use.kind not in VIEWS for use in uses)
    return TokenCost(read_bytes(stored, uses), cache_bytes, computing)


def read_bytes(stored: dict[str, Stored], uses: Iterable[Use]) -> float:
    """Bytes of the stored tensors that one token reads.

    >>> stored = {"table": Stored(1000, 10), "head": Stored(500, 5)}
    >>> read_bytes(stored, [Use("Gather", ("table", "ids"), ("x",)), Use("MatMul", ("x", "head"), ("y",))])
    600.0
    >>> read_bytes(stored, [Use("Gather", ("table", "ids"), ("x",)), Use("MatMul", ("x", "table"), ("y",))])
    1000.0
    """
    sources = {name: frozenset((name,)) for name in stored}  # what lies behind a name, with only PASSING between
    whole: set[str] = set()
    looked_up: set[str] = set()
    for use in uses:
        held = frozenset[str]().union(*(sources.get(name, ()) for name in use.reads))
        if use.kind in PASSING and use.reads and use.reads[0] in sources:
            sources |= dict.fromkeys(use.gives, held)  # scales and zero points go where their weights go
        elif use.kind in LOOKUPS:
            looked_up |= held
        else:
            whole |= held
    once = sum(stored[name].size_bytes for name in whole)
    return float(once + sum(stored[name].size_bytes / max(1, stored[name].rows) for name in looked_up - whole))
