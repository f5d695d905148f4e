"""The words of quantization: which schemes there are and what each stores and computes, by format and runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Runtime = Literal["ort", "litert", "tflite_runtime", "tensorrt", "torch_cuda"]
Format = Literal["onnx", "tflite"]  # of exported files
Kind = Literal["torch", "onnx", "tflite"]  # of artifacts
Scheme = Literal["fp32", "fp16", "w8a8_dynamic", "w8a8", "w8a16", "w8", "w4", "fp8_e4m3"]
Granularity = Literal["per_channel", "per_tensor"]
Signedness = Literal["unsigned", "signed", "symmetric"]  # symmetric: signed, with zero points 0
Writer = Literal["onnxruntime", "nncf"]
CalibrationMethod = Literal["min_max", "entropy", "percentile", "mse"]

GROUP = 32  # weights that share a scale in w4: per_group(32)


@dataclass(frozen=True)
class Meaning:
    """How a scheme stores weights, embeddings among them, and what activations are when they meet them."""

    weights: str
    activations: str
    calibrated: bool = False  # needs to see texts before it can be written


MEANINGS: dict[Scheme, Meaning] = {
    "fp32": Meaning("float32", "float32"),
    "fp16": Meaning("float16", "float16"),
    "w8a8_dynamic": Meaning("int8", "int8, scaled anew for every input"),
    "w8a8": Meaning("int8", "int8, scaled once by calibration", calibrated=True),
    "w8a16": Meaning("int8", "int16, scaled once by calibration", calibrated=True),
    "w8": Meaning("int8", "float32"),
    "w4": Meaning(f"int4, a scale for every {GROUP}", "float32, or int8 inside the runtime"),
    "fp8_e4m3": Meaning("float8 E4M3", "float8 E4M3, scaled once by calibration", calibrated=True),
}
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
FORMATS: tuple[Format, ...] = get_args(Format)
