"""Exported files answer as torch does, at shapes that were never traced; quantizing is seen to have happened."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from tiny import FAMILY_NAMES, random_batch, tiny_classifier, torch_logits
from torch import Tensor, nn

from edgetf.core.errors import ParityError
from edgetf.core.metrics import cosine
from edgetf.formats import onnx as onnx_format
from edgetf.formats import tflite as tflite_format
from edgetf.formats.quantization import GraphSummary, Quantization
from edgetf.formats.quantize import quantize_file, summarize_file
from edgetf.formats.wrapper import LogitsOnly
from edgetf.models.checkpoint import load_classifier
from edgetf.models.families import family_of
from edgetf.models.slicing import feed_forwards_of, layers_of, narrow_feed_forward, narrow_heads
from edgetf.runtime.backend import Session
from edgetf.runtime.inputs import Batch
from edgetf.runtime.litert import LitertBackend
from edgetf.runtime.ort import OrtBackend
from edgetf.stages.quantize import quantized_share

torch.set_num_threads(1)

LENGTHS = (8, 24)


def difference(model: Any, session: Session, batch: Batch) -> float:
    return float(np.abs(torch_logits(model, batch) - session.run(batch)).max())


def load(family: str, folder: Path) -> Any:
    return load_classifier(tiny_classifier(family, folder))


@dataclass(frozen=True)
class Exported:
    """A model, the file it was written to, and the names that its writer gave back."""

    model: Any
    path: Path
    names: tuple[str, ...]

    @property
    def pad_id(self) -> int:
        return int(self.model.config.pad_token_id)


class TestWrapper:
    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_answers_as_the_model_does(self, family: str, tmp_path: Path) -> None:
        model = load(family, tmp_path)
        graph = LogitsOnly(model)
        batch = random_batch(3, 9, model.config.pad_token_id)
        feed = [torch.from_numpy(array) for array in batch.named(graph.input_names).values()]
        with torch.no_grad():
            np.testing.assert_allclose(graph(*feed).numpy(), torch_logits(model, batch), atol=1e-6)

    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_samples_fit_its_inputs(self, family: str, tmp_path: Path) -> None:
        graph = LogitsOnly(load(family, tmp_path))
        sample = graph.sample(2, 7, torch.int32)
        assert len(sample) == len(graph.input_names) == (3 if family in {"bert", "mobilebert"} else 2)
        assert all(tensor.shape == (2, 7) and tensor.dtype == torch.int32 for tensor in sample)


class TestOnnx:
    @pytest.fixture(scope="class", params=FAMILY_NAMES)
    def exported(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
        folder = tmp_path_factory.mktemp(request.param)
        model = load(request.param, folder)
        return Exported(model, folder / "model.onnx", onnx_format.export_onnx(model, folder / "model.onnx", 20))

    @pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 5), (3, 23), (5, 64)])
    def test_any_batch_and_length_answers_as_torch(self, exported: Exported, rows: int, tokens: int) -> None:
        session = OrtBackend().load(exported.path, 1)
        assert difference(exported.model, session, random_batch(rows, tokens, exported.pad_id)) <= 1e-4

    def test_padding_changes_nothing(self, exported: Exported) -> None:
        session = OrtBackend().load(exported.path, 1)
        short = random_batch(1, 9, exported.pad_id)
        columns = ((0, 0), (0, 11))
        long = Batch(
            np.pad(short.input_ids, columns, constant_values=exported.pad_id),
            np.pad(short.attention_mask, columns),
            np.pad(short.token_type_ids, columns),
        )
        np.testing.assert_allclose(session.run(long), session.run(short), atol=1e-5)

    def test_inputs_are_those_the_family_takes(self, exported: Exported) -> None:
        wanted = ("input_ids", "attention_mask", "token_type_ids")
        if not family_of(exported.model.config.model_type).takes_token_types:
            wanted = wanted[:2]
        assert exported.names == OrtBackend().load(exported.path, 1).input_names == wanted

    def test_file_is_whole_and_has_the_opset(self, exported: Exported) -> None:
        graph = onnx.load(str(exported.path))
        onnx.checker.check_model(graph)
        assert [item.version for item in graph.opset_import if item.domain in {"", "ai.onnx"}] == [20]
        assert [output.name for output in graph.graph.output] == ["logits"]
        assert list(exported.path.parent.glob("*.data")) == []

    def test_no_node_says_where_in_the_code_it_came_from(self, exported: Exported) -> None:
        nodes = onnx.load(str(exported.path)).graph.node
        assert nodes
        assert not [node.name for node in nodes if node.metadata_props or node.doc_string]

    def test_quantized_file_answers_nearly_the_same(self, exported: Exported, tmp_path: Path) -> None:
        path = tmp_path / "int8.onnx"
        quantize_file("onnx", exported.path, path, Quantization("w8a8_dynamic"))
        summary = summarize_file("onnx", path)
        assert quantized_share(summary, "onnx-w8a8_dynamic") == 1.0
        assert summary.quantizable >= 2 * 6
        assert path.stat().st_size < exported.path.stat().st_size
        assert not onnx.load(str(path)).graph.value_info  # bytes that no runtime reads
        batch = random_batch(16, 20, exported.pad_id)
        ours, theirs = OrtBackend().load(path, 1).run(batch), torch_logits(exported.model, batch)
        assert cosine(ours.reshape(1, -1), theirs.reshape(1, -1))[0] > 0.99

    def test_no_weight_of_two_dimensions_stays_in_float(self, exported: Exported, tmp_path: Path) -> None:
        path = tmp_path / "int8.onnx"
        quantize_file("onnx", exported.path, path, Quantization("w8a8_dynamic"))
        kinds = {item.data_type for item in onnx.load(str(path)).graph.initializer if len(item.dims) == 2}
        assert TensorProto.FLOAT not in kinds and TensorProto.INT8 in kinds

    def test_what_was_not_quantized_is_seen(self, exported: Exported) -> None:
        summary = summarize_file("onnx", exported.path)
        assert summary.quantized == 0 < summary.quantizable
        assert summary.ops["Softmax"] == 2
        with pytest.raises(ParityError, match=f"fp32: 0 of {summary.quantizable} weighted operators were quantized"):
            quantized_share(summary, "fp32")

    def test_pruned_model(self, tmp_path: Path) -> None:
        model = load("bert", tmp_path)
        for index, layer in enumerate(layers_of(model)):
            narrow_heads(model, layer, [0, 3][: 1 + index])
            for part in feed_forwards_of(model):
                narrow_feed_forward(layer, part, torch.arange(8 * (index + 2)))
        onnx_format.export_onnx(model, tmp_path / "model.onnx", 20)
        session = OrtBackend().load(tmp_path / "model.onnx", 1)
        assert difference(model, session, random_batch(3, 11, 0)) <= 1e-4

    @pytest.mark.parametrize("opset", [18, 23])
    def test_other_opsets(self, tmp_path: Path, opset: int) -> None:
        model = load("distilbert", tmp_path)
        onnx_format.export_onnx(model, tmp_path / "model.onnx", opset)
        versions = {item.domain: item.version for item in onnx.load(str(tmp_path / "model.onnx")).opset_import}
        assert versions[""] == opset
        session = OrtBackend().load(tmp_path / "model.onnx", 1)
        assert difference(model, session, random_batch(3, 11, 0)) <= 1e-4

    def test_what_torch_cannot_write_is_told_in_a_line(self, tmp_path: Path) -> None:
        with pytest.raises(ParityError, match="export: torch cannot write this model as ONNX") as caught:
            onnx_format.export_onnx(Stubborn(), tmp_path / "model.onnx", 20)
        message = str(caught.value)
        assert "\n" not in message and "\x1b" not in message and len(message) < 400
        assert "data-dependent" in message  # why, rather than what to read next


class Stubborn(nn.Module):
    """Looks like a BERT, but branches on its data, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="bert")
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Any:
        sign = 1.0 if int(input_ids.sum()) % 3 == 1 else -1.0
        return SimpleNamespace(logits=sign * self.scale * attention_mask.sum())


def write_graph(path: Path, nodes: list[Any], weights: dict[str, np.ndarray[Any, Any]]) -> Path:
    """A graph from x (2, 4) to y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", [x], [y], initializers)), str(path))
    return path


class TestQuantizedShare:
    def test_a_graph_without_weights_is_refused(self, tmp_path: Path) -> None:
        path = write_graph(tmp_path / "model.onnx", [helper.make_node("Add", ["x", "x"], ["y"])], {})
        summary = summarize_file("onnx", path)
        assert (summary.ops, summary.quantized, summary.quantizable) == ({"Add": 1}, 0, 0)
        with pytest.raises(ParityError, match="onnx-w8a8_dynamic: 0 of 0 weighted operators were quantized"):
            quantized_share(summary, "onnx-w8a8_dynamic")

    def test_products_of_activations_hold_no_weights(self, tmp_path: Path) -> None:
        nodes = [helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])]
        assert summarize_file("onnx", write_graph(tmp_path / "model.onnx", nodes, {})).quantizable == 0

    def test_a_table_of_integers_is_no_float_weight(self, tmp_path: Path) -> None:
        """Positions that are gathered from a constant are not left in float by the scheme: they never were."""
        weight = np.ones((4, 3), dtype=np.float32)
        nodes = [
            helper.make_node("Gather", ["positions", "row"], ["p"], axis=1),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ]
        tables = {"positions": np.arange(8)[None], "row": np.array([0]), "w": weight}
        assert summarize_file("onnx", write_graph(tmp_path / "model.onnx", nodes, tables)).quantizable == 1

    @pytest.mark.parametrize(("quantized", "quantizable", "share"), [(4, 4, 1.0), (2, 4, 0.5), (2, 3, 0.6667)])
    def test_half_is_enough(self, quantized: int, quantizable: int, share: float) -> None:
        assert quantized_share(GraphSummary({}, quantized, quantizable), "name") == share

    def test_less_than_half_is_refused(self) -> None:
        with pytest.raises(ParityError, match="name: 1 of 3 .* the scheme does not fit this graph") as caught:
            quantized_share(GraphSummary({}, 1, 3), "name")
        assert caught.value.exit_code == 5


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def optimized(path: Path) -> Counter[str]:
    """The operators that onnxruntime really runs."""
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    options.log_severity_level = 3
    InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return operators(path.with_suffix(".optimized.onnx"))


def norms_after(path: Path, operator: str) -> int:
    """Layer norms whose input comes from such an operator."""
    graph = onnx.load(str(path)).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    return sum(node.op_type == "LayerNormalization" and made_by.get(node.input[0]) == operator for node in graph.node)


class TestPartNorms:
    @dataclass(frozen=True)
    class Parted:
        """A model, its file as torch writes it, and the one whose sums and norms were parted."""

        model: Any
        plain: Path
        path: Path

    @pytest.fixture(scope="class", params=[*FAMILY_NAMES, "mobilebert, layer norm"])
    def parted(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parted:
        folder = tmp_path_factory.mktemp(request.param.replace(", ", "-").replace(" ", "-"))
        family, _, norm = request.param.partition(", ")
        checkpoint = tiny_classifier(family, folder)
        if norm:
            config = json.loads((checkpoint / "config.json").read_text())
            (checkpoint / "config.json").write_text(json.dumps({**config, "normalization_type": "layer_norm"}))
        made = self.Parted(load_classifier(checkpoint), folder / "plain.onnx", folder / "parted.onnx")
        onnx_format.export_onnx(made.model, made.plain, 20)
        shutil.copyfile(made.plain, made.path)
        onnx_format.part_norms(made.path)
        return made

    def test_there_is_a_sum_for_each_norm_of_an_addition(self, parted: Parted) -> None:
        before, after = operators(parted.plain), operators(parted.path)
        norms = norms_after(parted.plain, "Add")
        assert (norms >= 5) == (parted.model.config.model_type != "mobilebert" or before["LayerNormalization"] > 0)
        assert before["Sum"] == norms_after(parted.path, "Add") == 0
        assert after["Sum"] == norms_after(parted.path, "Sum") == norms
        assert after == before + Counter(Sum=norms) - Counter(Add=norms)

    def test_all_else_stays(self, parted: Parted) -> None:
        """Other additions too: of biases, positions and masks."""
        before, after = (onnx.load(str(path)) for path in (parted.plain, parted.path))
        for node in after.graph.node:
            if node.op_type == "Sum":
                node.op_type = "Add"
        assert after.SerializeToString(deterministic=True) == before.SerializeToString(deterministic=True)
        assert operators(parted.path)["Add"] > 0

    def test_answers_stay(self, parted: Parted) -> None:
        ours, theirs = (OrtBackend().load(path, 1) for path in (parted.path, parted.plain))
        for rows, tokens in ((1, 1), (4, 19)):
            batch = random_batch(rows, tokens, int(parted.model.config.pad_token_id))
            np.testing.assert_allclose(ours.run(batch), theirs.run(batch), rtol=0, atol=1e-6)

    def test_the_runtime_joins_nothing(self, parted: Parted) -> None:
        after = optimized(parted.path)
        assert after["SkipLayerNormalization"] == after["EmbedLayerNormalization"] == 0
        assert after["LayerNormalization"] == operators(parted.plain)["LayerNormalization"]

    def test_the_runtime_joined_them_before(self, parted: Parted) -> None:
        """Or there is nothing to part."""
        joined = optimized(parted.plain)["SkipLayerNormalization"]
        assert (joined >= 4) == (norms_after(parted.plain, "Add") > 0)

    def test_quantizing_finds_all_weights(self, parted: Parted, tmp_path: Path) -> None:
        path = tmp_path / "int8.onnx"
        quantize_file("onnx", parted.path, path, Quantization("w8a8_dynamic"))
        summary = summarize_file("onnx", path)
        assert quantized_share(summary, "onnx-w8a8_dynamic") == 1.0
        assert summary.quantizable == summarize_file("onnx", parted.plain).quantizable
        assert optimized(path)["SkipLayerNormalization"] == 0

    @pytest.mark.parametrize("opset", range(18, 24))
    def test_every_opset(self, tmp_path: Path, opset: int) -> None:
        model, path = load("distilbert", tmp_path), tmp_path / "model.onnx"
        onnx_format.export_onnx(model, path, opset)
        norms = norms_after(path, "Add")
        onnx_format.part_norms(path)
        onnx.checker.check_model(onnx.load(str(path)), full_check=True)
        versions = {item.domain: item.version for item in onnx.load(str(path)).opset_import}
        assert versions[""] == opset and operators(path)["Sum"] == norms == 5
        assert difference(model, OrtBackend().load(path, 1), random_batch(3, 11, 0)) <= 1e-4

    def test_a_pruned_model(self, tmp_path: Path) -> None:
        """What is left of an empty part is a bias, which the sum still has to spread over the tokens."""
        model, path = load("bert", tmp_path), tmp_path / "model.onnx"
        narrow_heads(model, layers_of(model)[0], [])
        for part in feed_forwards_of(model):
            narrow_feed_forward(layers_of(model)[1], part, torch.arange(0))
        onnx_format.export_onnx(model, path, 20)
        onnx_format.part_norms(path)
        assert operators(path)["Sum"] == 5
        assert difference(model, OrtBackend().load(path, 1), random_batch(3, 11, 0)) <= 1e-5

    @staticmethod
    def norm(entry: str, result: str, scale: str = "scale") -> Any:
        return helper.make_node("LayerNormalization", [entry, scale, "shift"], [result], name=f"norm_{result}")

    @pytest.mark.parametrize(
        ("nodes", "wanted"),
        [
            (lambda norm, make: [make("Add", ["x", "v"], ["s"]), norm("s", "y")], ["Sum", "LayerNormalization"]),
            (lambda norm, make: [make("Add", ["v", "x"], ["s"]), norm("s", "n"), make("Add", ["n", "s"], ["y"])],
             ["Sum", "LayerNormalization", "Add"]),
            (lambda norm, make: [make("Add", ["x", "v"], ["s"]), norm("s", "n"), norm("s", "m"),
                                 make("Mul", ["n", "m"], ["y"])],
             ["Sum", "LayerNormalization", "LayerNormalization", "Mul"]),
            (lambda norm, make: [make("Add", ["x", "v"], ["a"]), make("Add", ["a", "x"], ["s"]), norm("s", "y")],
             ["Add", "Sum", "LayerNormalization"]),
            (lambda norm, make: [make("Mul", ["x", "v"], ["s"]), norm("s", "y")], ["Mul", "LayerNormalization"]),
            (lambda norm, make: [norm("x", "y")], ["LayerNormalization"]),
            (lambda norm, make: [make("Add", ["v", "scale"], ["k"]), norm("x", "y", "k")],
             ["Add", "LayerNormalization"]),
        ],
        ids=["one", "read twice", "of two norms", "of a sum", "a product", "an input", "a scale"],
    )  # fmt: skip
    def test_only_what_a_norm_normalizes(self, tmp_path: Path, nodes: Callable[..., Any], wanted: list[str]) -> None:
        rng = np.random.default_rng(0)
        weights = {name: rng.normal(size=4).astype(np.float32) for name in ("v", "scale", "shift")}
        path = write_graph(tmp_path / "model.onnx", nodes(self.norm, helper.make_node), weights)
        x = rng.normal(size=(2, 4)).astype(np.float32)
        (before,) = InferenceSession(str(path)).run(None, {"x": x})
        onnx_format.part_norms(path)
        assert [node.op_type for node in onnx.load(str(path)).graph.node] == wanted
        np.testing.assert_allclose(InferenceSession(str(path)).run(None, {"x": x})[0], before, rtol=0, atol=1e-6)
        once = path.read_bytes()
        onnx_format.part_norms(path)  # a second time there is nothing left to do
        assert path.read_bytes() == once


@pytest.mark.slow
class TestTflite:
    @pytest.fixture(scope="class", params=["bert", "mobilebert"])
    def exported(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
        folder = tmp_path_factory.mktemp(request.param)
        model = load(request.param, folder)
        path = folder / "model.tflite"
        return Exported(model, path, tflite_format.export_tflite(model, path, LENGTHS))

    @pytest.fixture(scope="class")
    def quantized(self, exported: Exported) -> Path:
        path = exported.path.with_name("int8.tflite")
        quantize_file("tflite", exported.path, path, Quantization("w8a8_dynamic"))
        return path

    @pytest.mark.parametrize("tokens", LENGTHS)
    def test_every_length_answers_as_torch(self, exported: Exported, tokens: int) -> None:
        session = LitertBackend().load(exported.path, 1)
        assert session.lengths == LENGTHS
        assert session.input_names == exported.names == ("input_ids", "attention_mask", "token_type_ids")
        assert difference(exported.model, session, random_batch(5, tokens, exported.pad_id)) <= 1e-4

    def test_weights_are_seen(self, exported: Exported) -> None:
        summary = summarize_file("tflite", exported.path)
        assert summary.quantized == 0 < summary.quantizable
        assert summary.ops["FULLY_CONNECTED"] >= 2 * 6
        with pytest.raises(ParityError, match="0 of"):
            quantized_share(summary, "tflite-fp32")

    @pytest.mark.parametrize("tokens", LENGTHS)
    def test_quantized_file_answers_nearly_the_same(self, exported: Exported, quantized: Path, tokens: int) -> None:
        session = LitertBackend().load(quantized, 1)
        assert session.lengths == LENGTHS
        batch = random_batch(8, tokens, exported.pad_id)
        ours, theirs = session.run(batch), torch_logits(exported.model, batch)
        assert cosine(ours.reshape(1, -1), theirs.reshape(1, -1))[0] > 0.99

    def test_quantizing_is_seen(self, exported: Exported, quantized: Path) -> None:
        assert quantized_share(summarize_file("tflite", quantized), "tflite-w8a8_dynamic") == 1.0
        assert quantized.stat().st_size < exported.path.stat().st_size


@pytest.mark.parametrize(
    "refused",
    [
        lambda path: tflite_format.export_tflite(Stubborn(), path, (8,)),
        lambda path: onnx_format.export_onnx(Stubborn(), path, 20),
    ],
    ids=["tflite", "onnx"],
)
def test_a_refused_export_leaves_no_file(refused: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="export: "):
        refused(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
