"""The quantize stage of a recipe: its defaults, its refusals in words, and the variants that it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgetf.config.load import load_recipe
from edgetf.config.quantization import RUNGS, CalibrationConfig, QuantizeConfig
from edgetf.config.recipe import Recipe
from edgetf.core.errors import ConfigError
from edgetf.core.schemes import SCHEMES

BOARD = "{name: board, description: '', target: none, architecture: aarch64, runtimes: [ort]}"


def recipe_with(tmp_path: Path, formats: tuple[str, ...] = ("onnx",), **quantize: Any) -> Recipe:
    """A recipe that quantizes so, with the problems that its author would see."""
    devices = quantize.pop("devices", None)
    tree: dict[str, Any] = {
        "teacher": {"source": "somewhere"},
        "data": {"source": "bbc_news"},
        "stages": [{"stage": "export", "formats": list(formats)}, {"stage": "quantize", **quantize}],
    }
    if devices:
        tree["validation"] = {"devices": devices}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    return load_recipe(str(tmp_path / "mine.yaml"))


def problems(tmp_path: Path, **quantize: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        recipe_with(tmp_path, **quantize)
    return caught.value.problems


class TestDefaults:
    def test_are_dynamic_int8_and_no_ladder(self) -> None:
        stage = QuantizeConfig()
        assert stage.named_schemes == ("w8a8_dynamic",)
        assert stage.accuracy_drop is None
        assert (stage.granularity, stage.activations, stage.keep_float) == ("auto", "auto", ())
        assert not stage.calibrates

    def test_of_calibration(self) -> None:
        assert CalibrationConfig() == CalibrationConfig(rows=128, method="min_max", source=None)

    def test_the_ladder_climbs_all_rungs_from_the_cheapest(self) -> None:
        assert QuantizeConfig().rungs == RUNGS == ("dynamic", "static", "smooth", "sensitive", "qat")

    def test_a_ladder_alone_names_no_scheme(self) -> None:
        stage = QuantizeConfig(accuracy_drop=0.01)
        assert stage.named_schemes == ()
        assert stage.calibrates

    def test_a_ladder_beside_named_schemes_leaves_them(self) -> None:
        assert QuantizeConfig(accuracy_drop=0.01, schemes=("w4", "fp16")).named_schemes == ("w4", "fp16")

    def test_fp32_is_there_already_and_nothing_is_made_twice(self) -> None:
        assert QuantizeConfig(schemes=("fp32", "w8", "w4", "w8")).named_schemes == ("w8", "w4")

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_only_some_schemes_need_rows(self, scheme: str) -> None:
        assert QuantizeConfig(schemes=(scheme,)).calibrates == (scheme in {"w8a8", "w8a16", "fp8_e4m3"})


class TestRefusals:
    def test_an_unknown_scheme_names_all(self, tmp_path: Path) -> None:
        (problem,) = problems(tmp_path, schemes=["w4a8"])
        assert problem.startswith("quantize.schemes.0: got 'w4a8', allowed: ")
        assert all(f"'{scheme}'" in problem for scheme in SCHEMES)

    @pytest.mark.parametrize(
        ("field", "message"),
        [
            ({"schemes": []}, "quantize.schemes: got"),
            ({"accuracy_drop": -0.01}, "quantize.accuracy_drop: got -0.01"),
            ({"accuracy_drop": 1}, "quantize.accuracy_drop: got 1"),
            ({"accuracy_drop": float("nan")}, "quantize.accuracy_drop: got nan"),
            ({"granularity": "per_row"}, "quantize.granularity: got 'per_row'"),
            ({"activations": "both"}, "quantize.activations: got 'both'"),
            ({"calibration": {"rows": 0}}, "quantize.calibration.rows: got 0"),
            ({"calibration": {"method": "max"}}, "quantize.calibration.method: got 'max', allowed: 'min_max'"),
            ({"calibration": {"row": 3}}, "quantize.calibration.row: not a field; did you mean rows?"),
            ({"rungs": []}, "quantize.rungs: got"),
            ({"rungs": ["static", "dynamic"]}, "rungs: give them in the order dynamic, static, smooth, sensitive, qat"),
            ({"rungs": ["dynamic", "dynamic"]}, "dynamic"),
            ({"rungs": ["dynamik"]}, "quantize.rungs.0: got 'dynamik'"),
            ({"qat": {"epochs": 0}}, "quantize.qat.epochs: got 0"),
            ({"scheme": ["w8"]}, "quantize.scheme: not a field; did you mean schemes?"),
        ],
        ids=str,
    )
    def test_are_worded_for_the_author(self, field: dict[str, Any], message: str, tmp_path: Path) -> None:
        (problem,) = problems(tmp_path, **field)
        assert message in problem

    @pytest.mark.parametrize("rungs", [["static"], ["dynamic", "sensitive"], ["smooth", "qat"]], ids=str)
    def test_some_rungs_may_be_left_out(self, rungs: list[str], tmp_path: Path) -> None:
        stage = recipe_with(tmp_path, accuracy_drop=0.01, rungs=rungs).ladder()
        assert stage is not None and list(stage.rungs) == rungs


class TestDevices:
    def test_fp8_on_a_board_is_refused_before_any_work(self, tmp_path: Path) -> None:
        (problem,) = problems(tmp_path, schemes=["fp8_e4m3"], devices=["raspberry_pi_5"])
        assert problem == (
            "validation.devices: onnx-fp8_e4m3 cannot run on raspberry_pi_5: fp8_e4m3 has no hardware on "
            "raspberry_pi_5, where ort would compute it in float"
        )

    def test_fp8_on_a_gpu_of_before_is_refused(self, tmp_path: Path) -> None:
        (problem,) = problems(tmp_path, schemes=["fp8_e4m3"], devices=["jetson_orin_nano"])
        assert "onnx-fp8_e4m3 cannot run on jetson_orin_nano" in problem

    @pytest.mark.parametrize("device", ["host", "jetson_thor", "nvidia_ada", "nvidia_hopper"])
    def test_fp8_where_it_is_run_or_simulated(self, device: str, tmp_path: Path) -> None:
        recipe = recipe_with(tmp_path, schemes=["fp8_e4m3"], devices=[device])
        assert recipe.variants() == [("onnx", "fp32"), ("onnx", "fp8_e4m3")]

    def test_every_scheme_and_device_that_do_not_fit_are_named_together(self, tmp_path: Path) -> None:
        found = problems(tmp_path, schemes=["fp8_e4m3", "w8a8"], formats=("tflite",), devices=["raspberry_pi_4"])
        assert len(found) == 1 and "tflite-fp8_e4m3" in found[0]

    def test_channels_where_a_runtime_is_wrong_with_them(self, tmp_path: Path) -> None:
        board = tmp_path / "board.yaml"
        board.write_text(BOARD.replace("[ort]", "[tflite_runtime]"))
        asked = {"formats": ("tflite",), "devices": [str(board)]}
        (problem,) = problems(tmp_path, granularity="per_channel", **asked)
        assert "tflite_runtime gives wrong answers for w8a8_dynamic per_channel; allowed: per_tensor" in problem
        for granularity in ("auto", "per_tensor"):
            assert recipe_with(tmp_path, granularity=granularity, **asked).variants()


class TestVariants:
    def test_the_ladders_file_is_called_auto_in_every_format(self, tmp_path: Path) -> None:
        recipe = recipe_with(tmp_path, formats=("onnx", "tflite"), accuracy_drop=0.01)
        assert recipe.variant_names() == ["onnx-fp32", "onnx-auto", "tflite-fp32", "tflite-auto"]

    def test_beside_the_named_schemes(self, tmp_path: Path) -> None:
        recipe = recipe_with(tmp_path, accuracy_drop=0.01, schemes=["w8a8", "w4"])
        assert recipe.variant_names() == ["onnx-fp32", "onnx-w8a8", "onnx-w4", "onnx-auto"]

    def test_without_a_ladder_there_is_none(self, tmp_path: Path) -> None:
        recipe = recipe_with(tmp_path, schemes=["fp32"])
        assert (recipe.ladder(), recipe.variant_names()) == (None, ["onnx-fp32"])

    def test_overrides_reach_every_field(self, tmp_path: Path) -> None:
        recipe_with(tmp_path)
        words = [
            "quantize.accuracy_drop=0.005", 'quantize.schemes=["w4"]', "quantize.calibration.rows=7",
            "quantize.calibration.method=mse",
            'quantize.rungs=["dynamic","smooth"]', 'quantize.keep_float=["*.pooler"]',
            "quantize.granularity=per_tensor", "quantize.activations=signed", "quantize.qat.epochs=0.5",
        ]  # fmt: skip
        stage = load_recipe(str(tmp_path / "mine.yaml"), words).ladder()
        assert stage is not None
        assert (stage.accuracy_drop, stage.schemes, stage.rungs) == (0.005, ("w4",), ("dynamic", "smooth"))
        assert stage.calibration == CalibrationConfig(rows=7, method="mse")
        assert (stage.granularity, stage.activations, stage.keep_float) == ("per_tensor", "signed", ("*.pooler",))
        assert stage.qat.epochs == 0.5
