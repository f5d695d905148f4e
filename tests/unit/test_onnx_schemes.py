"""ONNX in every scheme, for every family: what is quantized and how it is stored, and that the answers hardly move."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from exported import CALIBRATED, answers, exported, quantized, top
from onnx import TensorProto, helper, numpy_helper
from tiny import FAMILY_NAMES

from edgetf.core.errors import ParityError
from edgetf.core.metrics import cosine
from edgetf.core.schemes import Granularity, Scheme, Signedness
from edgetf.formats.onnx_calibrate import activation_ranges
from edgetf.formats.onnx_quantize import kept_names, readers
from edgetf.formats.parts import part_of
from edgetf.formats.quantization import GraphSummary, Quantization
from edgetf.formats.quantize import quantize_file, summarize_file
from edgetf.stages.quantize import quantized_share
from edgetf.stages.sensitivity import groups_of

KINDS = TensorProto
INTEGERS: tuple[Scheme, ...] = ("w8a8_dynamic", "w8a8", "w8a16", "w8", "w4")
ALL: tuple[Scheme, ...] = (*INTEGERS, "fp16", "fp8_e4m3")
# Of the file with rounded weights, by how much answers move: root mean square in standard deviations of each class's
MOVES = {"w8a8_dynamic": 0.5, "w8a8": 0.8, "w8a16": 0.5, "w8": 0.4, "w4": 4.0, "fp16": 0.02, "fp8_e4m3": 1.6}
every_family = pytest.mark.parametrize("family", FAMILY_NAMES)


def how_of(scheme: Scheme, **settings: Any) -> Quantization:
    """A scheme with what `auto` means for it on this machine."""
    return Quantization(scheme, **{"granularity": "per_tensor" if scheme == "fp8_e4m3" else "per_channel", **settings})


def graph_of(path: Path) -> Any:
    return onnx.load(str(path)).graph


def summary_of(path: Path) -> GraphSummary:
    return summarize_file("onnx", path)


def constants_of(path: Path) -> dict[str, Any]:
    return {item.name: item for item in graph_of(path).initializer}


def kind_of(item: Any) -> str:
    return str(KINDS.DataType.Name(item.data_type))


def moved(family: str, path: Path) -> float:
    """How far answers are from those of the fp32 file, in standard deviations."""
    batch = exported(family).batch()
    plain, other = answers(exported(family).path, batch), answers(path, batch)
    return float(np.sqrt(np.mean(((other - plain) / plain.std(axis=0)) ** 2)))


class TestEveryFamily:
    @pytest.mark.parametrize("scheme", INTEGERS)
    @every_family
    def test_every_weighted_operator_is_quantized(self, family: str, scheme: Scheme) -> None:
        plain, summary = summary_of(exported(family).path), summary_of(quantized(family, how_of(scheme)))
        assert quantized_share(summary, scheme) == 1.0
        assert summary.quantized == summary.quantizable == plain.quantizable == len(plain.weighted)

    @pytest.mark.parametrize("scheme", INTEGERS)
    @every_family
    def test_no_weight_stays_in_float(self, family: str, scheme: Scheme) -> None:
        """But for scales, of which a block or a channel has one."""
        path = quantized(family, how_of(scheme))
        plain = {item.name for item in graph_of(exported(family).path).initializer if len(item.dims) == 2}
        assert not [n for n, item in constants_of(path).items() if n in plain and item.data_type == KINDS.FLOAT]

    @every_family
    def test_fp8_quantizes_all_but_tables(self, family: str) -> None:
        plain, path = graph_of(exported(family).path), quantized(family, how_of("fp8_e4m3"))
        tables = sum(node.op_type == "Gather" for node in readers(onnx.load(str(exported(family).path))))
        summary = summary_of(path)
        assert tables >= 2
        assert summary.quantizable - summary.quantized == tables
        kept = [item for item in graph_of(path).initializer if len(item.dims) == 2 and item.data_type == KINDS.FLOAT]
        assert len(kept) == tables
        assert plain.node

    @every_family
    def test_fp16_stores_every_weight_in_half(self, family: str) -> None:
        kinds = {kind_of(item) for item in constants_of(quantized(family, how_of("fp16"))).values()}
        assert "FLOAT16" in kinds and "FLOAT" not in kinds

    @pytest.mark.parametrize("scheme", ALL)
    @every_family
    def test_answers_hardly_move(self, family: str, scheme: Scheme) -> None:
        path, batch = quantized(family, how_of(scheme)), exported(family).batch()
        plain, other = (answers(each, batch).reshape(1, -1) for each in (exported(family).path, path))
        assert cosine(plain, other)[0] > (0.95 if scheme == "w4" else 0.99)
        assert 0 < moved(family, path) < MOVES[scheme]

    @pytest.mark.parametrize("scheme", ALL)
    @every_family
    def test_is_fed_and_read_as_before(self, family: str, scheme: Scheme) -> None:
        plain, other = (graph_of(path) for path in (exported(family).path, quantized(family, how_of(scheme))))
        assert [value.name for value in other.output] == ["logits"]
        for side in ("input", "output"):
            before, after = (
                [(value.name, value.type.tensor_type.elem_type) for value in getattr(graph, side)]
                for graph in (plain, other)
            )
            assert before == after

    @pytest.mark.parametrize("scheme", ALL)
    @every_family
    def test_is_smaller(self, family: str, scheme: Scheme) -> None:
        before, after = (path.stat().st_size for path in (exported(family).path, quantized(family, how_of(scheme))))
        assert after < 0.65 * before

    @pytest.mark.parametrize("scheme", ALL)
    def test_carries_no_shapes_that_every_runtime_infers(self, scheme: Scheme) -> None:
        assert not graph_of(quantized("bert", how_of(scheme))).value_info

    @pytest.mark.parametrize("scheme", ALL)
    @every_family
    def test_products_of_activations_stay_float(self, family: str, scheme: Scheme) -> None:
        """Two in each layer, of queries with keys and of weights with values; they read no quantized number."""
        graph = graph_of(quantized(family, how_of(scheme)))
        constants = {item.name for item in graph.initializer}
        made_by = {name: node.op_type for node in graph.node for name in node.output}
        plain = [
            node
            for node in graph.node
            if node.op_type == "MatMul"
            and not any(made_by.get(name) == "DequantizeLinear" or name in constants for name in node.input)
        ]
        assert len(plain) == 4
        softmaxed = [node for node in plain if any(made_by.get(name) == "Softmax" for name in node.input)]
        assert len(softmaxed) == 2


LAST = {"query", "key", "value", "output", "up", "down"}  # of a layer that answers for the first token only


class TestNames:
    @every_family
    def test_what_reads_weights_is_called_after_its_module(self, family: str) -> None:
        source = exported(family)
        modules = dict(source.model.named_modules())
        nodes = readers(onnx.load(str(source.path)))
        names = [node.name for node in nodes]
        assert len(names) == len(set(names))
        known = [name for name in names if hasattr(modules.get(name.removeprefix("model.")), "weight")]
        assert len(known) >= len(names) - 6  # the last layer, where only the first token is read, has other modules
        assert {name.rpartition(".layer.1.")[2] for name in set(names) - set(known)} <= LAST
        for node in nodes:
            weight = next(value for value in node.input if value in constants_of(source.path))
            assert weight == f"{node.name}.weight"

    @every_family
    def test_weights_are_those_of_the_module(self, family: str) -> None:
        source = exported(family)
        modules, constants = dict(source.model.named_modules()), constants_of(source.path)
        checked = 0
        for node in readers(onnx.load(str(source.path))):
            module = modules.get(node.name.removeprefix("model."))
            if not hasattr(module, "weight"):
                continue
            stored = numpy_helper.to_array(constants[f"{node.name}.weight"])
            weight = module.weight.detach().numpy()
            np.testing.assert_array_equal(stored.T if node.op_type == "MatMul" else stored, weight)
            checked += 1
        assert checked >= 9

    @every_family
    def test_every_weight_has_its_part(self, family: str) -> None:
        groups = groups_of(summary_of(exported(family).path).weighted)
        assert {"embeddings", "0.attention", "0.feed_forward", "1.attention", "1.feed_forward"} <= set(groups)
        for layer in ("0", "1"):
            assert len(groups[f"{layer}.attention"]) >= 4  # query, key, value, and what joins the heads
        assert sum(map(len, groups.values())) == len(summary_of(exported(family).path).weighted)
        assert all(part_of(f"{name}.weight") == part_of(name) for names in groups.values() for name in names)


KEPT = {
    "one layer": ("*.layer.0.*",),
    "the embeddings": ("*embeddings*",),
    "the classifier": ("*.classifier", "*.pooler.*"),
    "both": ("*.layer.1.*", "*embeddings*"),
}


class TestKeepFloat:
    @pytest.mark.parametrize("patterns", KEPT.values(), ids=KEPT)
    @pytest.mark.parametrize("scheme", ALL)
    def test_leaves_exactly_those_in_float(self, scheme: Scheme, patterns: tuple[str, ...]) -> None:
        plain = onnx.load(str(exported("bert").path))
        path = quantized("bert", how_of(scheme, keep_float=patterns))
        floats = [name for name, item in constants_of(path).items() if item.data_type == KINDS.FLOAT]
        left = {name.removesuffix("_Transposed") for name in floats}
        weights = {f"{node.name}.weight": node.op_type for node in readers(plain)}
        kept = {f"{name}.weight" for name in kept_names(plain, patterns)}
        assert kept
        tables = {name for name, op in weights.items() if op == "Gather" and scheme == "fp8_e4m3"}
        assert left & set(weights) == kept | tables
        if scheme != "fp16":
            summary = summary_of(path)
            assert summary.quantizable - summary.quantized == len(kept | tables)

    @pytest.mark.parametrize("scheme", ALL)
    def test_what_stays_stays_bit_for_bit(self, scheme: Scheme) -> None:
        source = constants_of(exported("bert").path)
        for name, item in constants_of(quantized("bert", how_of(scheme, keep_float=KEPT["one layer"]))).items():
            if ".layer.0." in name and name in source and len(item.dims) == 2:
                np.testing.assert_array_equal(numpy_helper.to_array(item), numpy_helper.to_array(source[name]))

    @pytest.mark.parametrize("scheme", ALL)
    def test_of_everything_leaves_nothing_to_quantize(self, scheme: Scheme) -> None:
        """Which is an error: a recipe that quantizes nothing has failed in silence."""
        with pytest.raises(ParityError, match=f"onnx-{scheme}: 0 of 17 weighted operators would be quantized"):
            quantize_file(
                "onnx", exported("bert").path, top() / "none.onnx", how_of(scheme, keep_float=("*",)),
                exported("bert").feeds(),
            )  # fmt: skip


def scales_of(path: Path, weight: str) -> int:
    """How many scales a weight has."""
    return next(
        int(np.prod(item.dims) or 1)
        for name, item in constants_of(path).items()
        if name.startswith(weight) and "scale" in name
    )


class TestGranularity:
    QUERY = "model.bert.encoder.layer.0.intermediate.dense.weight"

    @pytest.mark.parametrize("scheme", ["w8a8_dynamic", "w8a8", "w8a16", "fp8_e4m3"])
    @pytest.mark.parametrize(("granularity", "count"), [("per_tensor", 1), ("per_channel", 64)])
    def test_says_how_many_scales_a_weight_has(self, scheme: Scheme, granularity: Granularity, count: int) -> None:
        assert scales_of(quantized("bert", how_of(scheme, granularity=granularity)), self.QUERY) == count

    @pytest.mark.parametrize("scheme", ["w8a8_dynamic", "w8a8"])
    def test_one_scale_a_channel_loses_less(self, scheme: Scheme, tmp_path: Path) -> None:
        """Where one neuron is much larger than the others."""
        model = onnx.load(str(exported("bert").path))
        item = next(item for item in model.graph.initializer if item.name == self.QUERY)
        weight = numpy_helper.to_array(item).copy()
        weight[:, 0] *= 100
        item.CopyFrom(numpy_helper.from_array(weight, item.name))
        onnx.save(model, str(tmp_path / "uneven.onnx"))
        stored = {}
        for granularity in ("per_tensor", "per_channel"):
            path = tmp_path / f"{granularity}.onnx"
            quantize_file(
                "onnx", tmp_path / "uneven.onnx", path, how_of(scheme, granularity=granularity),
                exported("bert").feeds(),
            )  # fmt: skip
            found = [item for name, item in constants_of(path).items() if name.startswith(self.QUERY)]
            codes = next(item for item in found if item.data_type == KINDS.INT8 and len(item.dims) == 2)
            stored[granularity] = len(np.unique(numpy_helper.to_array(codes)[:, 1:]))
        assert stored["per_tensor"] < 8 < 64 < stored["per_channel"]

    @pytest.mark.parametrize("scheme", ["w8", "w4", "fp16"])
    def test_is_not_asked_where_blocks_have_scales(self, scheme: Scheme) -> None:
        one, other = (quantized("bert", Quantization(scheme, each)) for each in ("per_tensor", "per_channel"))
        assert one.read_bytes() == other.read_bytes()


class TestActivations:
    @pytest.mark.parametrize(
        ("scheme", "sign", "kind"),
        [
            ("w8a8", "unsigned", "UINT8"),
            ("w8a8", "signed", "INT8"),
            ("w8a16", "unsigned", "UINT16"),
            ("w8a16", "signed", "INT16"),
        ],
    )
    def test_have_the_sign_that_was_asked_for(self, scheme: Scheme, sign: Signedness, kind: str) -> None:
        path = quantized("bert", how_of(scheme, activations=sign))
        constants, graph = constants_of(path), graph_of(path)
        made_by = {name: node for node in graph.node for name in node.output}
        read = [made_by[node.input[0]] for node in graph.node if node.op_type in {"MatMul", "Gemm"}
                and made_by[node.input[1]].op_type == "DequantizeLinear"]  # fmt: skip
        assert len(read) == 14
        assert {kind_of(constants[node.input[2]]) for node in read} == {kind}

    @pytest.mark.parametrize("sign", ["unsigned", "signed"])
    @pytest.mark.parametrize("scheme", ["w8a8", "w8a16"])
    @every_family
    def test_of_either_sign_give_the_same_answers(self, family: str, scheme: Scheme, sign: Signedness) -> None:
        """Also behind a Relu, whose zero is the least that an unsigned number can be, but not a signed one."""
        assert moved(family, quantized(family, how_of(scheme, activations=sign))) < MOVES[scheme]

    @pytest.mark.parametrize("sign", ["unsigned", "signed"])
    @pytest.mark.parametrize("scheme", ["w8a8", "w8a16"])
    def test_weights_and_tables_have_eight_bits_whatever_they_are(self, scheme: Scheme, sign: Signedness) -> None:
        constants = constants_of(quantized("bert", how_of(scheme, activations=sign)))
        kinds = Counter(kind_of(item) for item in constants.values() if len(item.dims) == 2)
        assert sum(kinds[kind] for kind in ("INT8", "UINT8")) == 17
        assert not kinds["INT16"] and not kinds["UINT16"]


class TestFourBits:
    @every_family
    def test_weights_lie_in_blocks_of_32(self, family: str) -> None:
        nodes = graph_of(quantized(family, how_of("w4"))).node
        counts = Counter(node.op_type for node in nodes)
        plain = Counter(node.op_type for node in readers(onnx.load(str(exported(family).path))))
        assert counts["GatherBlockQuantized"] == plain["Gather"]
        assert counts["MatMulNBits"] == plain["MatMul"] + plain["Gemm"] and plain["Gemm"] == 2
        assert counts["Gemm"] == 0
        for node in nodes:
            settings = {item.name: item.i for item in node.attribute}
            if node.op_type in {"MatMulNBits", "GatherBlockQuantized"}:
                assert settings["block_size"] == 32 and settings.get("bits", 4) == 4

    def test_a_gemm_without_its_bias_would_answer_otherwise(self) -> None:
        """The bias that a Gemm adds is added behind the product, so that the answers do not lack it."""
        source = exported("bert")
        bias = numpy_helper.to_array(constants_of(source.path)["model.classifier.bias"])
        assert np.abs(bias).max() > 0.05
        batch = source.batch()
        gap = answers(quantized("bert", how_of("w8")), batch).mean(0) - answers(source.path, batch).mean(0)
        assert np.abs(gap).max() < 0.02

    def test_eight_bits_have_blocks_too_and_rows_for_tables(self) -> None:
        path = quantized("bert", how_of("w8"))
        counts = Counter(node.op_type for node in graph_of(path).node)
        assert counts["MatMulNBits"] == 14 and counts["GatherBlockQuantized"] == 0
        tables = [item for name, item in constants_of(path).items() if "embeddings." in name and "quantized" in name]
        assert {kind_of(item) for item in tables} <= {"INT8", "UINT8"} and len(tables) == 3


class TestTraps:
    """What is known to go wrong with this library, and does not here."""

    def test_static_works_on_our_graph_as_it_is(self) -> None:
        """No symbolic shape inference goes before, and no file is written beside the source."""
        before = sorted(path.name for path in exported("bert").path.parent.iterdir())
        assert summary_of(quantized("bert", how_of("w8a8"))).quantized == 17
        assert sorted(path.name for path in exported("bert").path.parent.iterdir()) == before

    @pytest.mark.parametrize("scheme", CALIBRATED)
    def test_calibrated_schemes_ask_for_rows(self, scheme: Scheme, tmp_path: Path) -> None:
        with pytest.raises(ParityError, match=f"{scheme}: needs calibration rows, got none"):
            quantize_file("onnx", exported("bert").path, tmp_path / "out.onnx", how_of(scheme))

    @pytest.mark.parametrize("scheme", CALIBRATED)
    def test_no_rows_are_no_calibration(self, scheme: Scheme, tmp_path: Path) -> None:
        with pytest.raises(ParityError, match="calibration: got no rows"):
            quantize_file("onnx", exported("bert").path, tmp_path / "out.onnx", how_of(scheme), lambda: iter(()))

    @pytest.mark.parametrize("scheme", CALIBRATED)
    def test_a_model_that_gives_nan_is_not_calibrated(self, scheme: Scheme, tmp_path: Path) -> None:
        model = onnx.load(str(exported("bert").path))
        name = "model.bert.encoder.layer.0.intermediate.dense.weight"
        item = next(item for item in model.graph.initializer if item.name == name)
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.float32("nan"), name))
        onnx.save(model, str(tmp_path / "broken.onnx"))
        with pytest.raises(ParityError, match="is not a finite number for some row; the model is broken"):
            quantize_file(
                "onnx", tmp_path / "broken.onnx", tmp_path / "out.onnx", how_of(scheme), exported("bert").feeds()
            )

    def test_fp32_is_no_scheme_to_quantize_to(self, tmp_path: Path) -> None:
        with pytest.raises(ParityError, match="quantize.schemes: got fp32, which is how the file already is"):
            quantize_file("onnx", exported("bert").path, tmp_path / "out.onnx", Quantization("fp32"))

    def test_a_table_of_integers_is_no_weight(self) -> None:
        """Positions gathered from a constant of two dimensions are asked for neither a range nor a scale."""
        node = helper.make_node("Gather", ["positions", "row"], ["p"], name="positions", axis=1)
        tables = [numpy_helper.from_array(np.arange(8)[None], "positions")]
        model = helper.make_model(helper.make_graph([node], "graph", [], [], tables))
        assert readers(model) == []

    @pytest.mark.parametrize("scheme", ALL)
    def test_two_files_of_one_model_are_the_same(self, scheme: Scheme) -> None:
        source, path = exported("distilbert"), top() / f"again-{scheme}.onnx"
        quantize_file("onnx", source.path, path, how_of(scheme), source.feeds())
        ours, theirs = (onnx.load(str(each)) for each in (path, quantized("distilbert", how_of(scheme))))
        assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)

    def test_calibration_methods_write_other_scales(self) -> None:
        files = {
            method: quantized("bert", how_of("w8a8", method=method))
            for method in ("min_max", "entropy", "percentile", "mse")
        }
        assert len({path.read_bytes() for path in files.values()}) >= 3
        for path in files.values():
            assert moved("bert", path) < 1.0


def test_the_runtime_runs_what_was_written() -> None:
    """Integer kernels, not float ones behind a DequantizeLinear."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(top() / "optimized.onnx")
    path = quantized("bert", how_of("w8a8"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in graph_of(top() / "optimized.onnx").node)
    assert counts["MatMulIntegerToFloat"] + counts["QLinearMatMul"] + counts["QGemm"] >= 13, counts


@pytest.mark.parametrize("method", ["min_max", "entropy", "percentile", "mse"])
def test_a_value_that_is_nearly_always_zero_has_its_ends(method: Any) -> None:
    """Numbers so small that no histogram has bins for them."""
    node = helper.make_node("Mul", ["x", "tiny"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
    constant = numpy_helper.from_array(np.float32(1e-40), "tiny")
    graph = helper.make_graph([node], "graph", values[:1], values[1:], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)

    def feeds() -> Any:
        yield {"x": np.array([-1.0, 3.0], np.float32)}

    assert activation_ranges(model, ["y"], feeds, method, 256)["y"] == pytest.approx((-1e-40, 3e-40), rel=1e-3)
