"""The quantize stage on ONNX: what it puts down, and the broken files that it does not let through.

Faults are planted in the file behind the real writer, so that the stage meets them as it would meet those of a library.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exported import CALIBRATED, Exported, trained
from onnx import TensorProto, helper, numpy_helper

from edgetf.core.artifact import Artifact, seal
from edgetf.core.errors import ConfigError, ParityError
from edgetf.core.schemes import Scheme
from edgetf.formats.quantization import Feeds, GraphSummary, Quantization
from edgetf.runtime.model import Model
from edgetf.stages import quantize
from edgetf.stages.quantize import SHIFT, SHIFT_DYNAMIC, hold_shifts, hold_types, quantized_share
from edgetf.validation.golden import deployable_model, golden_of

INTEGERS: tuple[Scheme, ...] = ("w8a8_dynamic", "w8a8", "w8a16", "w8", "w4")
SCHEMES: tuple[Scheme, ...] = (*INTEGERS, "fp16", "fp8_e4m3")
Damage = Callable[[Any], None]


@pytest.fixture(scope="module")
def source() -> Exported:
    return trained()


def how_of(scheme: Scheme, **settings: Any) -> Quantization:
    return Quantization(scheme, "per_tensor" if scheme == "fp8_e4m3" else "per_channel", **settings)


def quantized(source: Exported, how: Quantization, folder: Path) -> Artifact:
    """What the stage makes of the trained file."""
    feeds = source.feeds() if how.scheme in CALIBRATED else None
    return seal(
        folder, stage="quantize", key="quantize", parents=[source.artifact], made={},
        write=lambda out: quantize.run(how, source.artifact, source.context, out, feeds),
    )  # fmt: skip


def plant(monkeypatch: pytest.MonkeyPatch, damage: Damage) -> None:
    """Damage every file right after it is written."""
    real = quantize.quantize_file

    def write(kind: Any, source: Path, path: Path, how: Quantization, feeds: Feeds | None = None) -> None:
        real(kind, source, path, how, feeds)
        model = onnx.load(str(path))
        damage(model)
        onnx.save(model, str(path))

    monkeypatch.setattr(quantize, "quantize_file", write)


def refused(source: Exported, scheme: Scheme, tmp_path: Path, message: str) -> None:
    """The stage refuses what it made, with this message, and leaves nothing behind."""
    with pytest.raises(ParityError, match=message) as found:
        quantized(source, how_of(scheme), tmp_path / "out")
    assert found.value.exit_code == 5
    assert not list(tmp_path.iterdir())


class TestWhole:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_the_manifest_says_how_it_was_quantized(self, source: Exported, scheme: Scheme, tmp_path: Path) -> None:
        made = quantized(source, how_of(scheme), tmp_path / "out")
        details = made.spec.details
        assert (made.spec.kind, made.spec.scheme, made.spec.params) == ("onnx", scheme, source.artifact.spec.params)
        assert details["quantization"] == {**how_of(scheme).record(), "keep_float": []}
        assert details["parity"]["cosine"] > 0.99
        assert details["part_bytes"]["embeddings"] > 0
        if scheme == "fp16":
            assert details["quantized_share"] is None
        else:
            assert details["quantized_share"] == (0.8235 if scheme == "fp8_e4m3" else 1.0)
        most = SHIFT_DYNAMIC if scheme == "w8a8_dynamic" else SHIFT
        assert all(0 <= details["shifts"][name] <= most for name in ("batch", "padding"))
        assert {"model.onnx", "config.json", "tokenizer.json", "golden.jsonl"} <= {p.name for p in made.path.iterdir()}

    def test_golden_answers_are_the_quantized_files(self, source: Exported, tmp_path: Path) -> None:
        before, after = golden_of(source.artifact), golden_of(quantized(source, how_of("w4"), tmp_path / "out"))
        assert after.texts == before.texts
        np.testing.assert_array_equal(after.torch_logits, before.torch_logits)
        assert 0 < np.abs(after.logits - before.logits).max() < 1

    def test_a_checkpoint_is_exported_first(self, source: Exported, tmp_path: Path) -> None:
        with pytest.raises(ParityError, match="quantize: got a torch artifact, allowed: onnx, tflite; export it first"):
            quantize.run(how_of("w8"), source.checkpoint, source.context, tmp_path)

    def test_a_pattern_that_fits_nothing_is_refused(self, source: Exported, tmp_path: Path) -> None:
        """What it should spare would be quantized, and nobody would know."""
        how = how_of("w8a8_dynamic", keep_float=("*.layer.0.*", "*.layer.7.*"))
        with pytest.raises(ConfigError, match=r"quantize.keep_float: \*\.layer\.7\.\* fits no operator with weights"):
            quantized(source, how, tmp_path / "out")

    def test_what_is_to_stay_in_float_is_not_missed(self, source: Exported, tmp_path: Path) -> None:
        """More than half is told to stay; without that it would be a scheme that does not fit."""
        how = how_of("w8a8_dynamic", keep_float=("*.layer.*",))
        made = quantized(source, how, tmp_path / "out")
        assert made.spec.details["quantized_share"] == pytest.approx(5 / 17, abs=1e-4)

    def test_but_something_must_be_quantized(self, source: Exported, tmp_path: Path) -> None:
        with pytest.raises(ParityError, match="onnx-w8: 0 of 17 weighted operators"):
            quantized(source, how_of("w8", keep_float=("*",)), tmp_path / "out")


class TestFlavour:
    @pytest.mark.parametrize("scheme", ["w8a8", "w8a8_dynamic", "w4"])
    def test_raw_integers_that_come_out(
        self, source: Exported, scheme: Scheme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def damage(model: Any) -> None:
            (output,) = model.graph.output
            last = next(node for node in model.graph.node if "logits" in node.output)
            last.output[list(last.output).index("logits")] = "numbers"
            scale, zero = np.float32(0.05), np.int8(0)
            model.graph.initializer.extend([numpy_helper.from_array(np.asarray(scale), "raw_scale"),
                                            numpy_helper.from_array(np.asarray(zero), "raw_zero")])  # fmt: skip
            names = ["numbers", "raw_scale", "raw_zero"]
            model.graph.node.append(helper.make_node("QuantizeLinear", names, ["logits"], "raw"))
            output.type.tensor_type.elem_type = TensorProto.INT8

        plant(monkeypatch, damage)
        refused(source, scheme, tmp_path, f"onnx-{scheme}: its output logits is int8, allowed: float32")

    def test_an_input_of_another_type(self, source: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def damage(model: Any) -> None:
            for node in model.graph.node:
                node.input[:] = ["wide" if name == "input_ids" else name for name in node.input]
            first = helper.make_node("Cast", ["input_ids"], ["wide"], to=TensorProto.INT64)
            nodes = [first, *model.graph.node]
            del model.graph.node[:]
            model.graph.node.extend(nodes)
            model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32

        plant(monkeypatch, damage)
        refused(source, "w8a8", tmp_path, "its input input_ids is int32, allowed: int64, as in the fp32 file")

    def test_a_value_that_is_called_otherwise(
        self, source: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def damage(model: Any) -> None:
            model.graph.output[0].name = "Identity"
            last = next(node for node in model.graph.node if "logits" in node.output)
            last.output[list(last.output).index("logits")] = "Identity"

        plant(monkeypatch, damage)
        refused(source, "w8a8", tmp_path, "its output logits is gone, allowed: float32")

    def test_more_inputs_than_before_are_no_fault_of_types(self) -> None:
        plain = GraphSummary({}, 0, 1, inputs={"a": "int64"}, outputs={"y": "float32"})
        hold_types(replace(plain, outputs={"y": "float32", "z": "float32"}), plain, "name")


class TestNothingQuantized:
    @pytest.mark.parametrize("scheme", [*INTEGERS, "fp8_e4m3"])
    def test_a_writer_that_does_nothing_and_says_nothing(
        self, source: Exported, scheme: Scheme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def copy(kind: Any, plain: Path, path: Path, how: Quantization, feeds: Feeds | None = None) -> None:
            shutil.copyfile(plain, path)

        monkeypatch.setattr(quantize, "quantize_file", copy)
        refused(source, scheme, tmp_path, f"onnx-{scheme}: 0 of 17 weighted operators were quantized; the scheme does")

    def test_a_writer_that_leaves_most_in_float(
        self, source: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = quantize.quantize_file

        def lazy(kind: Any, plain: Path, path: Path, how: Quantization, feeds: Feeds | None = None) -> None:
            real(kind, plain, path, replace(how, keep_float=("*.layer.*",)), feeds)

        monkeypatch.setattr(quantize, "quantize_file", lazy)
        refused(source, "w8a8_dynamic", tmp_path, "onnx-w8a8_dynamic: 5 of 17 weighted operators were quantized")

    @pytest.mark.parametrize(
        ("quantized", "kept", "fine"), [(1, 16, True), (8, 0, False), (9, 0, True), (0, 17, False)]
    )
    def test_half_of_what_was_not_to_stay(self, quantized: int, kept: int, fine: bool) -> None:
        summary = GraphSummary({}, quantized, 17)
        if fine:
            assert quantized_share(summary, "name", kept) == round(quantized / 17, 4)
        else:
            with pytest.raises(ParityError, match=f"name: {quantized} of 17 weighted operators"):
                quantized_share(summary, "name", kept)


def scale_of(model: Any, weight: str) -> Any:
    """The scale of a weight, whatever a scheme calls it."""
    found = [item for item in model.graph.initializer if item.name.startswith(weight) and "scale" in item.name]
    (item,) = found
    return item


def times(factor: float, weight: str = "model.classifier.weight") -> Damage:
    def damage(model: Any) -> None:
        item = scale_of(model, weight)
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.float32(factor), item.name))

    return damage


class TestNumbers:
    @pytest.mark.parametrize("factor", [8.0, 1 / 8])
    @pytest.mark.parametrize("scheme", [*INTEGERS, "fp8_e4m3"])
    def test_a_broken_scale(
        self, source: Exported, scheme: Scheme, factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the classifier: all answers grow alike, and no decision changes, so that an accuracy would not tell."""
        plant(monkeypatch, times(factor))
        size = "7" if factor > 1 else "0.8[78]"
        refused(
            source, scheme, tmp_path,
            f"onnx-{scheme}: model.classifier.weight, made float again, is {size} of its size away from the weight",
        )  # fmt: skip

    @pytest.mark.parametrize("scheme", [*INTEGERS, "fp8_e4m3"])
    @pytest.mark.parametrize("part", ["attention.self.query", "intermediate.dense", "output.dense"])
    def test_a_broken_scale_that_norms_hide(
        self, source: Exported, scheme: Scheme, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Inside, where the answers of an easy task stay what they were."""
        weight = f"model.bert.encoder.layer.0.{part}.weight"
        plant(monkeypatch, times(8.0, weight))
        refused(source, scheme, tmp_path, f"onnx-{scheme}: {weight}, made float again, is 7 of its size away")

    @pytest.mark.parametrize("scheme", [*INTEGERS, "fp8_e4m3"])
    def test_a_scale_of_the_wrong_sign(
        self, source: Exported, scheme: Scheme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(monkeypatch, times(-1.0))
        refused(source, scheme, tmp_path, f"onnx-{scheme}: model.classifier.weight, made float again, is 2 of its size")

    @pytest.mark.parametrize("scheme", [*INTEGERS, "fp8_e4m3"])
    def test_weights_that_are_not_numbers(
        self, source: Exported, scheme: Scheme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(monkeypatch, times(float("nan")))
        refused(source, scheme, tmp_path, "texts give NaN or infinite logits; the model is broken")

    def test_half_precision_that_overflows(
        self, source: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def damage(model: Any) -> None:
            item = next(item for item in model.graph.initializer if item.name == "model.classifier.weight")
            whole = np.full_like(numpy_helper.to_array(item), np.float16("inf"))
            item.CopyFrom(numpy_helper.from_array(whole, item.name))

        plant(monkeypatch, damage)
        refused(source, "fp16", tmp_path, "texts give NaN or infinite logits; the model is broken")


class TestShifts:
    def test_a_scheme_of_fixed_scales_must_not_move_like_a_dynamic_one(
        self, source: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fault that answers fine: the mean of the batch is taken off, which of one text alone is nothing."""
        plant(monkeypatch, lean_on_mates(0.05))
        refused(source, "w8a8", tmp_path, "onnx-w8a8: answers move by .* standard deviations with their batch, allowed")

    def test_padding_that_is_looked_at(self, source: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plant(monkeypatch, count_tokens(1e-3))
        message = "onnx-w8a16: answers move by .* standard deviations with their (batch|padding), allowed: 0.01; an app"
        refused(source, "w8a16", tmp_path, message)

    @pytest.mark.parametrize(("scheme", "fine"), [("w8a8_dynamic", True), ("w8a8", False), ("fp8_e4m3", False)])
    def test_what_is_scaled_for_each_input_may_move_more(
        self, source: Exported, scheme: Scheme, fine: bool, tmp_path: Path
    ) -> None:
        model = damaged(source, tmp_path, lean_on_mates(0.05))
        if fine:
            moved = hold_shifts(model, golden_of(source.artifact), scheme)
            assert SHIFT < (moved["batch"] or 0) <= SHIFT_DYNAMIC
        else:
            with pytest.raises(ParityError, match="with their batch, allowed: 0.01"):
                hold_shifts(model, golden_of(source.artifact), scheme)

    def test_but_not_without_end(self, source: Exported, tmp_path: Path) -> None:
        model = damaged(source, tmp_path, lean_on_mates(1.0))
        with pytest.raises(ParityError, match="with their batch, allowed: 0.5"):
            hold_shifts(model, golden_of(source.artifact), "w8a8_dynamic")


def damaged(source: Exported, folder: Path, damage: Damage) -> Model:
    """The fp32 file with a fault."""
    model = onnx.load(str(source.path))
    damage(model)
    onnx.save(model, str(folder / "damaged.onnx"))
    return replace(deployable_model(source.artifact), model_file=str(folder / "damaged.onnx"))


def _behind(model: Any, nodes: list[Any], constants: dict[str, Any]) -> None:
    """Put operators between the last one and the output; they read `plain` and give `logits`."""
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "plain"
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    model.graph.node.extend(nodes)


def lean_on_mates(share: float) -> Damage:
    """Answers with a share of their distance from the batch's mean added: a text alone has none."""

    def damage(model: Any) -> None:
        nodes = [
            helper.make_node("ReduceMean", ["plain", "batch_axis"], ["batch_mean"], "mean", keepdims=1),
            helper.make_node("Sub", ["plain", "batch_mean"], ["from_mean"], "from"),
            helper.make_node("Mul", ["from_mean", "batch_share"], ["added"], "share"),
            helper.make_node("Add", ["plain", "added"], ["logits"], "leaning"),
        ]
        _behind(model, nodes, {"batch_axis": np.array([0]), "batch_share": np.float32(share)})

    return damage


def count_tokens(each: float) -> Damage:
    """Answers with something added for every token, padding too."""

    def damage(model: Any) -> None:
        nodes = [
            helper.make_node("Shape", ["input_ids"], ["tokens"], "tokens", start=1, end=2),
            helper.make_node("Cast", ["tokens"], ["tokens_float"], "cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", ["tokens_float", "token_share"], ["added"], "share"),
            helper.make_node("Add", ["plain", "added"], ["logits"], "counting"),
        ]
        _behind(model, nodes, {"token_share": np.float32(each)})

    return damage
