"""The table of what runs where, and what devices make of it."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from edgetf.config.quantization import QuantizeConfig
from edgetf.core.device import DeviceProfile, device_names, load_device
from edgetf.core.schemes import FORMATS, MEANINGS, SCHEMES, CalibrationMethod, Format, Granularity, Runtime, Scheme
from edgetf.core.support import HERE, RUNTIMES_OF, SUPPORT
from edgetf.pipeline.settings import granularity, quantization


def profile(**fields: Any) -> DeviceProfile:
    """A board that nobody can reach."""
    given = {"description": "", "target": "none", "architecture": "aarch64", "runtimes": ("ort",), **fields}
    return DeviceProfile(name="board", **given)


class TestTable:
    def test_every_runtime_has_a_row_of_known_schemes(self) -> None:
        assert set(SUPPORT) == set(get_args(Runtime))
        for schemes in SUPPORT.values():
            assert schemes and set(schemes) <= set(SCHEMES)

    def test_every_scheme_has_a_meaning_and_a_runtime(self) -> None:
        assert set(MEANINGS) == set(SCHEMES)
        for scheme in SCHEMES:
            assert any(scheme in schemes for schemes in SUPPORT.values())

    def test_every_runtime_runs_the_files_that_are_quantized(self) -> None:
        assert all("fp32" in schemes for schemes in SUPPORT.values())

    def test_every_runtime_has_one_format(self) -> None:
        assert sorted(runtime for runtimes in RUNTIMES_OF.values() for runtime in runtimes) == sorted(SUPPORT)
        assert set(HERE) == set(FORMATS)
        assert set(RUNTIMES_OF) == {*FORMATS, "torch"}
        assert all(HERE[kind] in RUNTIMES_OF[kind] for kind in FORMATS)

    def test_only_what_is_scaled_once_is_calibrated(self) -> None:
        assert {scheme for scheme in SCHEMES if MEANINGS[scheme].calibrated} == {"w8a8", "w8a16", "fp8_e4m3"}
        assert all("scaled once" in MEANINGS[scheme].activations for scheme in ("w8a8", "w8a16", "fp8_e4m3"))

    @pytest.mark.parametrize("name", device_names())
    def test_every_shipped_device_runs_some_file(self, name: str) -> None:
        device = load_device(name)
        kinds = [kind for kind in RUNTIMES_OF if device.runtime_of(kind)]
        assert kinds
        for kind in kinds:
            for scheme in SCHEMES:  # a refusal has a reason, and what is not refused has a runtime
                refusal = device.refuses(kind, scheme)
                assert (refusal is None) == (device.runtime_of(kind, scheme) is not None)
                assert (refusal is None) == (device.support(kind, scheme) is not None)


class TestFloat8:
    @pytest.mark.parametrize("name", ["raspberry_pi_4", "raspberry_pi_5", "raspberry_pi_zero_2w"])
    def test_a_processor_without_it_is_refused(self, name: str) -> None:
        assert load_device(name).refuses("onnx", "fp8_e4m3") == (
            f"fp8_e4m3 has no hardware on {name}, where ort would compute it in float"
        )

    def test_a_gpu_of_before_is_refused_with_what_it_lacks(self) -> None:
        assert load_device("jetson_orin_nano").refuses("onnx", "fp8_e4m3") is not None
        orin = profile(runtimes=("tensorrt",), facts=load_device("jetson_orin_nano").facts)
        assert orin.refuses("onnx", "fp8_e4m3") == "fp8_e4m3 needs compute capability 8.9, board has 8.7"

    @pytest.mark.parametrize("name", ["jetson_thor", "nvidia_ada", "nvidia_hopper"])
    def test_a_gpu_that_has_it_runs_it(self, name: str) -> None:
        device = load_device(name)
        assert device.refuses("onnx", "fp8_e4m3") is None
        support = device.support("onnx", "fp8_e4m3")
        assert support is not None and support.how == "runs"
        assert device.runtime_of("onnx", "fp8_e4m3") == "tensorrt"

    def test_this_machine_simulates_it(self) -> None:
        support = load_device("host").support("onnx", "fp8_e4m3")
        assert support is not None and support.how == "simulated"

    def test_an_unknown_gpu_is_not_guessed(self) -> None:
        assert profile(runtimes=("tensorrt",)).refuses("onnx", "fp8_e4m3") == (
            "fp8_e4m3 needs compute capability 8.9, board has none that is known"
        )

    @pytest.mark.parametrize("name", device_names())
    def test_there_is_none_in_tflite(self, name: str) -> None:
        assert load_device(name).refuses("tflite", "fp8_e4m3") is not None

    def test_what_is_recorded_of_a_device_has_its_source(self) -> None:
        for name in ("jetson_thor", "nvidia_ada", "nvidia_hopper", "jetson_orin_nano"):
            fact = load_device(name).facts["compute_capability"]
            assert fact.unit == "major.minor" and "NVIDIA" in fact.source


class TestSign:
    """x86 multiplies unsigned by signed bytes, Arm signed by signed ones."""

    @pytest.mark.parametrize(
        ("architecture", "machine", "sign"),
        [
            ("x86_64", "aarch64", "unsigned"),
            ("aarch64", "x86_64", "signed"),
            ("any", "x86_64", "unsigned"),
            ("any", "AMD64", "unsigned"),
            ("any", "aarch64", "signed"),
            ("any", "arm64", "signed"),
        ],
    )
    def test_is_the_devices_or_this_machines(
        self, architecture: str, machine: str, sign: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platform.machine", lambda: machine)
        assert profile(architecture=architecture).activations == sign

    def test_of_the_shipped_boards(self) -> None:
        assert load_device("raspberry_pi_5").activations == "signed"
        assert load_device("nvidia_hopper").activations == "symmetric"  # TensorRT takes no other

    @pytest.mark.parametrize(("devices", "sign"), [(["x", "a"], "unsigned"), (["a", "x"], "signed")], ids=str)
    def test_auto_is_that_of_the_first_device(self, devices: list[str], sign: str) -> None:
        known = {"x": profile(architecture="x86_64"), "a": profile(architecture="aarch64")}
        found = quantization(QuantizeConfig(), "w8a8", "onnx", [known[name] for name in devices])
        assert found.activations == sign

    def test_auto_is_that_of_the_first_device_that_runs_such_files(self) -> None:
        phone = profile(architecture="aarch64", runtimes=("litert",))
        server = profile(architecture="x86_64", runtimes=("ort",))
        assert quantization(QuantizeConfig(), "w8a8", "onnx", [phone, server]).activations == "unsigned"
        assert quantization(QuantizeConfig(), "w8a8", "tflite", [phone, server]).activations == "signed"

    @pytest.mark.parametrize("sign", ["signed", "unsigned"])
    def test_what_the_recipe_says_goes_first(self, sign: Any) -> None:
        stage = QuantizeConfig(activations=sign)
        for architecture in ("x86_64", "aarch64"):
            assert quantization(stage, "w8a8", "onnx", [profile(architecture=architecture)]).activations == sign


OLD = {"architecture": "aarch64", "runtimes": ("tflite_runtime",)}


class TestGranularity:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_auto_on_this_machine(self, scheme: Scheme) -> None:
        found = granularity(QuantizeConfig(), scheme, "onnx", [load_device("host")])
        assert found == ("per_tensor" if scheme == "fp8_e4m3" else "per_channel")

    @pytest.mark.parametrize(("model_format", "wanted"), [("tflite", "per_tensor"), ("onnx", "per_channel")], ids=str)
    def test_auto_beside_a_runtime_that_is_wrong_with_channels(self, model_format: Format, wanted: str) -> None:
        """One device of several is enough; and only the format that it runs."""
        devices = [load_device("host"), profile(**OLD)]
        assert granularity(QuantizeConfig(), "w8a8_dynamic", model_format, devices) == wanted

    @pytest.mark.parametrize("asked", ["per_channel", "per_tensor"])
    def test_what_the_recipe_says_goes_first(self, asked: Granularity) -> None:
        stage = QuantizeConfig(granularity=asked)
        assert granularity(stage, "fp8_e4m3", "onnx", [load_device("host")]) == asked
        assert granularity(stage, "w8a8_dynamic", "tflite", [profile(**OLD)]) == asked

    def test_but_a_device_that_would_be_wrong_refuses_it(self) -> None:
        refusal = profile(**OLD).refuses("tflite", "w8a8_dynamic", "per_channel")
        assert refusal == "tflite_runtime gives wrong answers for w8a8_dynamic per_channel; allowed: per_tensor"
        assert profile(**OLD).refuses("tflite", "w8a8_dynamic", "per_tensor") is None
        assert profile(**OLD).refuses("tflite", "w8a8_dynamic") is None


class TestMethod:
    def test_is_the_stages_for_a_scheme_that_is_calibrated(self) -> None:
        stage, host = QuantizeConfig(calibration={"method": "mse"}), [load_device("host")]
        assert quantization(stage, "w8a8", "onnx", host).method == "mse"
        assert quantization(stage, "w8a8", "onnx", host, "entropy").method == "entropy"

    @pytest.mark.parametrize("method", get_args(CalibrationMethod))
    def test_of_a_scheme_that_is_not_changes_no_key(self, method: CalibrationMethod) -> None:
        stage, host = QuantizeConfig(calibration={"method": method}), [load_device("host")]
        assert quantization(stage, "w8a8_dynamic", "onnx", host).method == "min_max"

    def test_patterns_go_along(self) -> None:
        stage = QuantizeConfig(keep_float=("*.classifier",))
        assert quantization(stage, "w4", "onnx", [load_device("host")]).keep_float == ("*.classifier",)


def test_two_runtimes_of_one_device_share_the_work() -> None:
    """What one does not run, the other may."""
    device = profile(runtimes=("ort", "tensorrt"))
    assert device.runtime_of("onnx", "w4") == "ort"
    assert device.runtime_of("onnx", "w8a8") == "ort"
    assert isinstance(device, DeviceProfile)
