"""What `auto` means in a quantize stage, for the devices of a recipe."""

from __future__ import annotations

from edgetf.config.quantization import NNCF_SCHEMES, QuantizeConfig
from edgetf.core.device import DeviceProfile
from edgetf.core.schemes import MEANINGS, CalibrationMethod, Format, Granularity, Scheme
from edgetf.core.support import SUPPORT
from edgetf.formats.quantization import Quantization


def quantization(
    stage: QuantizeConfig,
    scheme: Scheme,
    model_format: Format,
    devices: list[DeviceProfile],
    method: CalibrationMethod | None = None,
) -> Quantization:
    """A scheme with the settings of its stage; the `method` of calibration is the stage's too, if not given."""
    calibrated = MEANINGS[scheme].calibrated
    by_nncf = model_format == "onnx" and scheme in NNCF_SCHEMES and stage.writer == "nncf"
    first = next((device for device in devices if device.runtime_of(model_format)), devices[0])
    return Quantization(
        scheme,
        granularity(stage, scheme, model_format, devices),
        first.activations if stage.activations == "auto" else stage.activations,
        (method or stage.calibration.method) if calibrated else "min_max",
        stage.keep_float,
        "nncf" if by_nncf else "onnxruntime",
    )


def granularity(
    stage: QuantizeConfig, scheme: Scheme, model_format: Format, devices: list[DeviceProfile]
) -> Granularity:
    """What the stage says; else one scale a channel, unless a device has a runtime that is only right without."""
    if stage.granularity != "auto":
        return stage.granularity
    runtimes = [runtime for device in devices if (runtime := device.runtime_of(model_format, scheme))]
    found = [SUPPORT[runtime].get(scheme) for runtime in runtimes]
    asked = next((support.granularity for support in found if support and support.granularity), None)
    return asked or ("per_tensor" if scheme == "fp8_e4m3" else "per_channel")  # its steps grow with the numbers
