"""The last attention on the first token alone gives the logits of the whole model, and the graph has the rows to show.

What is compared is in double precision where a bound is tight, so that nothing hides behind the order of a sum.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnxruntime import InferenceSession, SessionOptions
from tiny import FAMILY_NAMES, LABELS, random_batch, tiny_classifier, tiny_config, tiny_dataset, torch_logits
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification
from transformers import __version__ as transformers_version

from edgetf.config.recipe import Recipe
from edgetf.config.stages import ExportConfig
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.formats import onnx as onnx_format
from edgetf.formats import tflite as tflite_format
from edgetf.formats.quantization import Quantization
from edgetf.formats.quantize import quantize_file, summarize_file
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, load_classifier
from edgetf.models.families import family_of
from edgetf.models.first_token import FirstTokenLayer, additive, first_token_only
from edgetf.models.slicing import feed_forwards_of, layers_of, narrow_feed_forward, narrow_heads
from edgetf.runtime.inputs import Batch
from edgetf.runtime.litert import LitertBackend
from edgetf.runtime.ort import OrtBackend
from edgetf.stages import export
from edgetf.stages.context import Context
from edgetf.stages.quantize import quantized_share

torch.set_num_threads(1)

REWRITTEN = ("bert", "roberta", "distilbert")
LAYERS, HEADS, HIDDEN, NEURONS = 3, 4, 32, 64
TUPLES = int(transformers_version.split(".")[0]) < 5  # layers gave tuples
every_family = pytest.mark.parametrize("family", REWRITTEN)

# name → the heads and the neurons of every layer that stay, and the layer that is cut (None: nothing is)
ALL, MANY = list(range(HEADS)), list(range(NEURONS))
SHAPES: dict[str, tuple[list[list[int]], list[list[int]], int | None]] = {
    "whole": ([ALL] * 3, [MANY] * 3, 2),
    "uneven": ([[0, 2, 3], [3], [1, 2]], [MANY[:40], MANY[5:6], MANY[::3]], 2),
    "one head": ([ALL, ALL, [2]], [MANY] * 3, 2),
    "no heads at the top": ([ALL, [0, 1, 3], []], [MANY, MANY[:8], MANY[8:]], 1),
    "heads at the bottom alone": ([[1, 3], [], []], [MANY, MANY, []], 0),
    "no neurons at the top": ([ALL, ALL, ALL], [MANY, MANY, []], 2),
    "no neurons": ([ALL, [0], [1, 2]], [[], [], []], 2),
    "nothing at the top": ([ALL, ALL, []], [MANY, MANY, []], 1),
    "no heads": ([[], [], []], [MANY] * 3, None),
    "nothing": ([[], [], []], [[], [], []], None),
}
every_shape = pytest.mark.parametrize("shape", SHAPES)
CUT = [name for name, (_, _, at) in SHAPES.items() if at is not None]


@cache
def checkpoint(family: str) -> Path:
    return tiny_classifier(family, Path(mkdtemp(prefix=f"tiny-{family}-")), num_layers=LAYERS)


@cache
def _whole(family: str) -> Any:
    return load_classifier(checkpoint(family))


def model_of(family: str, shape: str = "whole") -> Any:
    """A copy of the family's model, narrowed."""
    model, (heads, neurons, _) = copy.deepcopy(_whole(family)), SHAPES[shape]
    for index, layer in enumerate(layers_of(model)):
        narrow_heads(model, layer, heads[index])
        for part in feed_forwards_of(model):
            narrow_feed_forward(layer, part, torch.tensor(neurons[index], dtype=torch.long))
    return model


def batch_of(model: Any, lengths: Sequence[int], seed: int = 0) -> Batch:
    """Texts of these lengths, padded on the right to the longest, the second half of each of token type 1."""
    return random_batch(len(lengths), max(lengths), int(model.config.pad_token_id), seed, lengths)


MIXED = (9, 1, 5, 2)  # one is a first token without anything behind it
BATCHES = {"one": (7,), "one token": (1,), "padded": MIXED, "first tokens": (1, 1), "long": (64, 3)}


class TestLogits:
    @every_family
    @every_shape
    @pytest.mark.parametrize("lengths", BATCHES.values(), ids=BATCHES)
    @pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-9)], ids=str)
    def test_are_those_of_the_whole_model(
        self, family: str, shape: str, lengths: tuple[int, ...], dtype: torch.dtype, bound: float
    ) -> None:
        model = model_of(family, shape).to(dtype)
        batch = batch_of(model, lengths)
        np.testing.assert_allclose(
            torch_logits(first_token_only(model), batch), torch_logits(model, batch), rtol=0, atol=bound
        )

    @every_family
    def test_without_a_mask(self, family: str) -> None:
        model, ids = model_of(family).double(), torch.arange(5, 25).view(2, 10)
        with torch.no_grad():
            torch.testing.assert_close(first_token_only(model)(ids).logits, model(ids).logits, rtol=0, atol=1e-9)

    @every_family
    def test_token_types_and_padding_matter_here(self, family: str) -> None:
        """The tests above can fail: the batch has types that the logits depend on, and padding that they must not."""
        model = first_token_only(model_of(family).double())
        batch = batch_of(model, MIXED)
        before = torch_logits(model, batch)
        seen = Batch(batch.input_ids, np.ones_like(batch.attention_mask), batch.token_type_ids)
        assert np.abs(torch_logits(model, seen) - before)[1:].max() > 1e-4
        other_padding = np.where(batch.attention_mask == 1, batch.input_ids, 7)
        if family != "roberta":  # its positions count what is not padding
            padded = Batch(other_padding, batch.attention_mask, batch.token_type_ids)
            np.testing.assert_allclose(torch_logits(model, padded), before, rtol=0, atol=1e-9)
        if family == "bert":
            untyped = Batch(batch.input_ids, batch.attention_mask, np.zeros_like(batch.token_type_ids))
            assert np.abs(torch_logits(model, untyped) - before).max() > 1e-4

    @every_family
    def test_every_projection_of_the_cut_layer_counts(self, family: str) -> None:
        """No weight of the layer is left out: each one moves the logits, of both models alike."""
        model = model_of(family).double()
        batch, layer = batch_of(model, MIXED), layers_of(model)[-1]
        before = torch_logits(model, batch)
        names = [name for name, _ in layer.named_parameters()]
        assert len(names) == 16
        for name in names:
            changed = copy.deepcopy(model)
            with torch.no_grad():
                parameter = layers_of(changed)[-1].get_parameter(name)
                parameter += torch.linspace(-0.5, 1.0, parameter.numel(), dtype=torch.float64).view_as(parameter)
            after = torch_logits(changed, batch)
            np.testing.assert_allclose(torch_logits(first_token_only(changed), batch), after, rtol=0, atol=1e-9)
            key_bias = "k_lin.bias" in name or "key.bias" in name  # which no softmax sees
            assert (np.abs(after - before).max() < 1e-9) == key_bias, name

    @pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
    @pytest.mark.parametrize("family", ["bert", "roberta"])
    def test_relative_positions(self, family: str, kind: str) -> None:
        """BERT and RoBERTa could be trained with them, before transformers 5."""
        config = tiny_config(family, LABELS)
        config.position_embedding_type = kind
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
        batch = batch_of(model, MIXED)
        np.testing.assert_allclose(
            torch_logits(first_token_only(model), batch), torch_logits(model, batch), rtol=0, atol=1e-6
        )


class TestWhatIsCut:
    @every_family
    @pytest.mark.parametrize("shape", CUT)
    def test_is_the_last_layer_with_heads(self, family: str, shape: str) -> None:
        """It and what is above see one token, what is below sees all."""
        at, cut = SHAPES[shape][2], first_token_only(model_of(family, shape))
        assert at is not None
        assert [isinstance(layer, FirstTokenLayer) for layer in layers_of(cut)] == [k == at for k in range(LAYERS)]
        assert tokens_given(cut, 9) == [9] * at + [1] * (LAYERS - at)

    @every_family
    @pytest.mark.parametrize("shape", [name for name in SHAPES if name not in CUT])
    def test_a_model_without_heads_is_given_back(self, family: str, shape: str) -> None:
        model = model_of(family, shape)
        assert first_token_only(model) is model

    def test_a_mobilebert_is_given_back(self) -> None:
        model = load_classifier(checkpoint("mobilebert"))
        assert first_token_only(model) is model
        with pytest.raises(ValueError, match="mobilebert: its layers are not"):
            FirstTokenLayer(model, layers_of(model)[0], TUPLES)

    @every_family
    @pytest.mark.parametrize("shape", ["whole", "no heads at the top"])
    def test_the_model_stays_as_it_was(self, family: str, shape: str) -> None:
        """Not even its weights are shared: what happens to the copy does not happen to it."""
        model = model_of(family, shape)
        modules, batch = list(model.modules()), batch_of(model, MIXED)
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        before = torch_logits(model, batch)
        cut = first_token_only(model)
        assert cut is not model and not cut.training
        with torch.no_grad():
            for parameter in cut.parameters():
                parameter.zero_()
        assert all(one is other for one, other in zip(model.modules(), modules, strict=True))
        assert model.state_dict().keys() == weights.keys()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
        assert np.array_equal(torch_logits(model, batch), before)

    @every_family
    def test_weights_are_as_many(self, family: str) -> None:
        model = model_of(family)
        cut = first_token_only(model)
        assert sum(p.numel() for p in cut.parameters()) == sum(p.numel() for p in model.parameters())


def tokens_given(model: Any, tokens: int) -> list[int]:
    """Tokens of what every layer gives."""
    found: list[int] = []

    def listen(layer: nn.Module, arguments: Any, output: Any) -> None:
        found.append((output[0] if isinstance(output, tuple) else output).shape[1])

    hooks = [layer.register_forward_hook(listen) for layer in layers_of(model)]
    torch_logits(model, batch_of(model, (tokens, tokens)))
    for hook in hooks:
        hook.remove()
    return found


class TestMasks:
    """A layer gets one of these, as the family and the version of transformers have it."""

    LENGTHS = (7, 1, 4)

    def real(self) -> Tensor:
        return torch.tensor([[position < length for position in range(7)] for length in self.LENGTHS])

    def outputs(self, mask: Tensor | None) -> Tensor:
        """What a cut BERT layer gives in double precision, (3, 1, H)."""
        model = model_of("bert").double()
        layer = FirstTokenLayer(model, layers_of(model)[-1], in_tuple=False)
        hidden = torch.randn(3, 7, HIDDEN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        with torch.no_grad():
            given: Tensor = layer(hidden, mask)
        return given

    def wanted(self) -> Tensor:
        """Each text on its own, without its padding and without a mask."""
        model = model_of("bert").double()
        layer = FirstTokenLayer(model, layers_of(model)[-1], in_tuple=False)
        hidden = torch.randn(3, 7, HIDDEN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        with torch.no_grad():
            return torch.cat([layer(hidden[k : k + 1, :length]) for k, length in enumerate(self.LENGTHS)])

    @pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.float32, torch.float64], ids=str)
    def test_of_two_dimensions_says_what_is_real(self, kind: torch.dtype) -> None:
        torch.testing.assert_close(self.outputs(self.real().to(kind)), self.wanted(), rtol=0, atol=1e-9)

    @pytest.mark.parametrize("lowest", [torch.finfo(torch.float64).min, float("-inf"), -1e4], ids=str)
    def test_of_four_dimensions_is_added(self, lowest: float) -> None:
        mask = torch.zeros(3, 7, dtype=torch.float64).masked_fill(~self.real(), lowest)[:, None, None]
        for form in (mask, mask.expand(3, 1, 7, 7)):
            torch.testing.assert_close(self.outputs(form), self.wanted(), rtol=0, atol=1e-9)

    def test_of_which_every_token_has_its_own_row_gives_the_first(self) -> None:
        """As where the mask is causal: the first token then sees nothing but itself."""
        mask = torch.full((7, 7), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1).expand(3, 1, 7, 7)
        alone = torch.tensor([[True] + [False] * 6]).expand(3, 7)
        torch.testing.assert_close(self.outputs(mask), self.outputs(alone.long()), rtol=0, atol=1e-9)

    def test_none_lets_all_be_seen(self) -> None:
        torch.testing.assert_close(self.outputs(None), self.outputs(torch.ones(3, 7)), rtol=0, atol=1e-9)
        assert (self.outputs(None) - self.wanted()).abs().max() > 1e-3  # and a mask matters

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
    def test_adds_what_makes_padding_vanish(self, dtype: torch.dtype) -> None:
        added = additive(torch.tensor([[1, 1, 0]]), dtype)
        assert added.shape == (1, 1, 1, 3) and added.dtype == dtype and added.isfinite().all()
        assert added[0, 0, 0].softmax(0).tolist() == [0.5, 0.5, 0.0]


def products(path: Path, rows: int, tokens: int) -> tuple[int, int]:
    """Multiply-accumulates that a file really does for such a batch, with weights and between activations.

    Every input and output of a product is asked of the runtime, so that no shape is a guess.
    """
    model = onnx.load(str(path))
    weights = {item.name: numpy_helper.to_array(item).shape for item in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    wanted = {name for node in nodes for name in (*node.input[:2], *node.output)} - weights.keys()
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(wanted - known))
    options = SessionOptions()
    options.log_severity_level = 3
    session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = random_batch(rows, tokens, 0, lengths=[tokens] * rows).named([item.name for item in session.get_inputs()])
    shapes = {
        item.name: array.shape for item, array in zip(session.get_outputs(), session.run(None, given), strict=True)
    }
    held = between = 0
    for node in nodes:
        left = weights.get(node.input[0]) or shapes[node.input[0]]
        summed = left[0] if any(item.name == "transA" and item.i for item in node.attribute) else left[-1]
        macs = int(np.prod(shapes[node.output[0]])) * summed
        if any(name in weights for name in node.input[:2]):
            held += macs
        else:
            between += macs
    return held, between


def expected_products(family: str, shape: str, rows: int, tokens: int, cut: bool) -> tuple[int, int]:
    """The same, counted by hand: of the cut layer keys and values alone are of all tokens."""
    heads, neurons, at = SHAPES[shape]
    held = HIDDEN * HIDDEN + HIDDEN * len(LABELS)  # the dense layer of the head and the classifier
    between = 0
    for index in range(LAYERS):
        width = 8 * len(heads[index])
        queries = 1 if cut and at is not None and index >= at else tokens
        keys = tokens if not cut or at is None or index <= at else 1
        held += HIDDEN * (2 * width * queries + 2 * width * keys + 2 * len(neurons[index]) * queries)
        between += 2 * width * queries * keys
    return rows * held, rows * between


EXPORTED = [
    *((family, "whole") for family in REWRITTEN),
    ("distilbert", "no heads at the top"),
    ("roberta", "uneven"),
    ("bert", "no neurons at the top"),
]


class TestOnnx:
    @pytest.mark.parametrize(("family", "shape"), EXPORTED)
    def test_file_answers_as_torch_and_computes_one_row(self, family: str, shape: str, tmp_path: Path) -> None:
        """At shapes that were never traced; the trace is of 2 rows of 16 tokens."""
        model, path = model_of(family, shape), tmp_path / "model.onnx"
        onnx_format.export_onnx(first_token_only(model), path, 20)
        onnx_format.part_norms(path)
        session = OrtBackend().load(path, 1)
        for lengths in ((1,), (5,), (23, 1, 9), (64, 2), (16, 16)):
            batch = batch_of(model, lengths, seed=1)
            assert np.abs(session.run(batch) - torch_logits(model, batch)).max() <= 1e-5
        for rows, tokens in ((3, 11), (1, 1)):
            assert products(path, rows, tokens) == expected_products(family, shape, rows, tokens, cut=True)

    def test_quantizing_finds_all_weights(self, tmp_path: Path) -> None:
        paths = [tmp_path / name for name in ("plain.onnx", "cut.onnx", "int8.onnx")]
        model = model_of("bert")
        onnx_format.export_onnx(model, paths[0], 20)
        onnx_format.export_onnx(first_token_only(model), paths[1], 20)
        onnx_format.part_norms(paths[1])
        quantize_file("onnx", paths[1], paths[2], Quantization("w8a8_dynamic"))
        plain, quantized = (summarize_file("onnx", path) for path in (paths[0], paths[2]))
        assert quantized_share(quantized, "onnx-w8a8_dynamic") == 1.0
        assert quantized.quantizable == plain.quantizable
        batch = batch_of(model, (20, 9, 1))
        answers, wanted = OrtBackend().load(paths[2], 1).run(batch), torch_logits(model, batch)
        assert np.abs(answers - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.slow
class TestTflite:
    @pytest.mark.parametrize(("family", "shape"), EXPORTED[2:])
    def test_file_answers_as_torch_and_computes_one_row(self, family: str, shape: str, tmp_path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        model, path, lengths = model_of(family, shape), tmp_path / "model.tflite", (8, 24)
        tflite_format.export_tflite(first_token_only(model), path, lengths)
        session = LitertBackend().load(path, 1)
        assert session.lengths == lengths
        for length in lengths:
            batch = random_batch(3, length, int(model.config.pad_token_id), 1, (length, 1, 5))
            assert np.abs(session.run(batch) - torch_logits(model, batch)).max() <= 1e-5
        interpreter = Interpreter(model_path=str(path), experimental_default_delegate_latest_features=False)
        tensors = {item["index"]: item["shape"] for item in interpreter.get_tensor_details()}
        computed = 0
        for op in interpreter._get_ops_details():
            if op["op_name"] in ("FULLY_CONNECTED", "BATCH_MATMUL"):  # which of the two, the converter says
                computed += int(np.prod(tensors[op["outputs"][0]]) * tensors[op["inputs"][0]][-1])
        assert computed == sum(expected_products(family, shape, 1, lengths[0], cut=True))

    def test_quantizing_finds_all_weights(self, tmp_path: Path) -> None:
        paths = [tmp_path / name for name in ("plain.tflite", "cut.tflite", "int8.tflite")]
        model = model_of("bert")
        tflite_format.export_tflite(model, paths[0], (8,))
        tflite_format.export_tflite(first_token_only(model), paths[1], (8,))
        quantize_file("tflite", paths[1], paths[2], Quantization("w8a8_dynamic"))
        plain, quantized = (summarize_file("tflite", path) for path in (paths[0], paths[2]))
        assert quantized_share(quantized, "tflite-w8a8_dynamic") == 1.0
        assert quantized.quantizable == plain.quantizable


class TestStage:
    """`rewrite` of the export stage, through its own `run`."""

    def exported(self, family: str, top: Path, **settings: Any) -> Artifact:
        recipe = Recipe.model_validate(
            {
                "name": "tiny",
                "teacher": {"source": "somewhere"},
                "data": {"source": "somewhere.csv", "max_length": 16},
                "stages": [{"stage": "export", "formats": ["onnx"]}],
            }
        )
        context = Context(recipe, tiny_dataset(12, 6, 6), report=lambda *_: None, say=lambda remark: None)

        def copied(out: Path) -> tuple[Spec, float]:
            pad_id = int(load_classifier(checkpoint(family)).config.pad_token_id)
            details = context.input_details(pad_id)
            return Spec("torch", WEIGHTS, copy_checkpoint(checkpoint(family), out), details=details), 0.0

        source = seal(top / "source", stage="test", key="source", parents=(), made={}, write=copied)
        config = ExportConfig(formats=("onnx",), **settings)
        write = lambda out: export.run(config, source, context, out, "onnx")  # noqa: E731
        return seal(top / "made", stage="test", key="made", parents=(source,), made={}, write=write)

    def test_rewrites_unless_told_not_to(self, tmp_path: Path) -> None:
        assert ExportConfig().rewrite
        asked = {"rewritten": {}, "plain": {"rewrite": False}}
        made = {name: self.exported("bert", tmp_path / name, **settings).path for name, settings in asked.items()}
        for name, folder in made.items():
            cut = name == "rewritten"
            assert products(folder / "model.onnx", 2, 7) == expected_products("bert", "whole", 2, 7, cut), name
            operators = [node.op_type for node in onnx.load(str(folder / "model.onnx")).graph.node]
            assert operators.count("Sum") == (1 + 2 * LAYERS if cut else 0), name
        batch = batch_of(_whole("bert"), (12, 1, 7))
        plain, rewritten = (
            OrtBackend().load(made[name] / "model.onnx", 1).run(batch) for name in ("plain", "rewritten")
        )
        np.testing.assert_allclose(rewritten, plain, rtol=0, atol=1e-5)

        onnx_format.export_onnx(_whole("bert"), tmp_path / "model.onnx", 20)  # plain is what torch writes
        ours, theirs = (onnx.load(str(folder / "model.onnx")).graph for folder in (made["plain"], tmp_path))
        assert [node.SerializeToString() for node in ours.node] == [node.SerializeToString() for node in theirs.node]


def test_the_families_that_are_rewritten() -> None:
    assert tuple(name for name in FAMILY_NAMES if family_of(name).post_norms is not None) == REWRITTEN
