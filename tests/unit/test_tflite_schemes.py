"""TFLite in every scheme: what is asked for is in the file, its answers stay, an app feeds and reads it as before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import FAMILY_NAMES, random_batch, tiny_classifier, torch_logits

from edgetf.core.errors import ArtifactError, ParityError
from edgetf.core.metrics import cosine
from edgetf.core.schemes import CalibrationMethod, Granularity, Scheme
from edgetf.formats.quantization import Feed, Feeds, Quantization
from edgetf.formats.quantize import quantize_file, stored_errors, summarize_file
from edgetf.formats.tflite_graph import constant, op_name, read_graph, tensor_name, type_name, weight_reads, write_graph
from edgetf.runtime.inputs import Batch
from edgetf.stages.quantize import hold_types, hold_weights, quantized_share

pytest.importorskip("litert_torch", reason="needs edgetf[tflite]")
from edgetf.formats.tflite import export_tflite  # noqa: E402
from edgetf.models.checkpoint import load_classifier  # noqa: E402
from edgetf.runtime.litert import LitertBackend  # noqa: E402

LENGTHS = (8, 24)
INTEGER: tuple[Scheme, ...] = ("w8a8_dynamic", "w8a8", "w8a16", "w8", "w4")
STORED = {"w8a8_dynamic": "int8", "w8a8": "int8", "w8a16": "int8", "w8": "int8", "w4": "int4", "fp16": "float16"}


@dataclass(frozen=True)
class Exported:
    """A model and its fp32 file."""

    model: Any
    path: Path
    pad_id: int


def exported(family: str, folder: Path, lengths: tuple[int, ...] = LENGTHS) -> Exported:
    model = load_classifier(tiny_classifier(family, folder))
    export_tflite(model, folder / "model.tflite", lengths)
    return Exported(model, folder / "model.tflite", int(model.config.pad_token_id))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported("bert", tmp_path_factory.mktemp("bert"))


def rows(pad_id: int, count: int = 12, lengths: tuple[int, ...] = (6, 20, 31)) -> Feeds:
    """Calibration rows that are shorter than a signature, and longer ones."""

    def feeds() -> Iterator[Feed]:
        for seed in range(count):
            batch = random_batch(1, lengths[seed % len(lengths)], pad_id, seed)
            yield batch.named(("input_ids", "attention_mask", "token_type_ids"))

    return feeds


def two_inputs(feeds: Feeds) -> Feeds:
    """The rows for a family without token types."""
    return lambda: ({name: feed[name] for name in ("input_ids", "attention_mask")} for feed in feeds())


def quantized(source: Exported, folder: Path, how: Quantization) -> Path:
    path = folder / f"{how.scheme}.tflite"
    quantize_file("tflite", source.path, path, how, rows(source.pad_id))
    return path


def weights(path: Path) -> list[tuple[str, str]]:
    """Module path and element type of every weight, over all signatures."""
    model = read_graph(path)
    return [
        (re.sub(r"\.weight(;\d+)?$", "", tensor_name(weight)), type_name(weight))
        for subgraph in model.subgraphs
        for _, weight in weight_reads(model, subgraph)
    ]


def likeness(source: Exported, path: Path, tokens: int) -> float:
    """Cosine of a file's logits with those of torch."""
    batch = random_batch(16, tokens, source.pad_id, seed=99)
    ours, theirs = LitertBackend().load(path, 1).run(batch), torch_logits(source.model, batch)
    return float(cosine(ours.reshape(1, -1), theirs.reshape(1, -1))[0])


class TestEveryScheme:
    @pytest.fixture(scope="class", params=[*INTEGER, "fp16"])
    def scheme(self, request: pytest.FixtureRequest) -> Scheme:
        name: Scheme = request.param
        return name

    @pytest.fixture(scope="class")
    def path(self, scheme: Scheme, bert: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return quantized(bert, tmp_path_factory.mktemp(scheme), Quantization(scheme))

    @pytest.mark.parametrize("tokens", LENGTHS)
    def test_answers_stay(self, scheme: Scheme, path: Path, bert: Exported, tokens: int) -> None:
        assert likeness(bert, path, tokens) > (0.95 if scheme == "w4" else 0.99)

    def test_every_weight_is_stored_as_the_scheme_says(self, scheme: Scheme, path: Path) -> None:
        assert {kind for _, kind in weights(path)} == {STORED[scheme]}
        assert len(weights(path)) == len(LENGTHS) * 16

    def test_the_share_is_seen(self, scheme: Scheme, path: Path) -> None:
        summary = summarize_file("tflite", path)
        assert len(set(summary.weighted)) == 16
        assert {"model.bert.embeddings.word_embeddings", "model.classifier"} < set(summary.weighted)
        assert summary.quantizable == 16
        assert summary.quantized == (0 if scheme == "fp16" else 16)

    def test_an_app_feeds_and_reads_it_as_before(self, path: Path, bert: Exported) -> None:
        summary = summarize_file("tflite", path)
        assert summary.inputs == dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), "int32")
        assert summary.outputs == {"output_0": "float32"}
        hold_types(summary, summarize_file("tflite", bert.path), "tflite")

    def test_bytes_are_counted_where_they_are(self, scheme: Scheme, path: Path, bert: Exported) -> None:
        before, after = (summarize_file("tflite", each).part_bytes for each in (bert.path, path))
        bits = {"fp16": 16, "w4": 4}.get(scheme, 8)
        assert 0 < sum(after.values()) < path.stat().st_size
        for part in ("embeddings", "attention", "feed_forward"):
            assert bits / 32 < after[part] / before[part] < 0.8, part  # scales weigh much in a tiny model

    def test_the_file_is_no_program(self, path: Path, bert: Exported) -> None:
        assert path.stat().st_mode == bert.path.stat().st_mode


@pytest.mark.parametrize("scheme", ["w8a8_dynamic", "w8a8", "w8a16", "w8"])
@pytest.mark.parametrize(("granularity", "one"), [("per_tensor", True), ("per_channel", False)])
def test_granularity_decides_how_many_scales_a_weight_has(
    bert: Exported, tmp_path: Path, scheme: Scheme, granularity: Granularity, one: bool
) -> None:
    model = read_graph(quantized(bert, tmp_path, Quantization(scheme, granularity)))
    for subgraph in model.subgraphs:
        for _, weight in weight_reads(model, subgraph):
            assert len(weight.quantization.scale) == (1 if one else weight.shape[0])


class TestStoredWeights:
    @pytest.mark.parametrize(
        ("scheme", "granularity", "most"),
        [
            ("fp16", "per_channel", 1e-3),
            ("w8a8_dynamic", "per_channel", 0.02),
            ("w8", "per_tensor", 0.03),
            ("w8a8", "per_tensor", 0.03),
            ("w4", "per_channel", 0.15),
        ],
    )
    def test_they_are_nearly_those_of_the_model(
        self, bert: Exported, tmp_path: Path, scheme: Scheme, granularity: Granularity, most: float
    ) -> None:
        errors = stored_errors("tflite", bert.path, quantized(bert, tmp_path, Quantization(scheme, granularity)))
        assert len(errors) == 16 * len(LENGTHS)
        assert 0 < max(errors.values()) < most

    def test_what_stays_in_float_has_not_changed(self, bert: Exported) -> None:
        assert stored_errors("tflite", bert.path, bert.path) == {}

    def test_a_broken_scale_is_found_where_it_is(self, bert: Exported, tmp_path: Path) -> None:
        path = quantized(bert, tmp_path, Quantization("w8a8_dynamic"))
        model = read_graph(path)
        weight = next(w for _, w in weight_reads(model, model.subgraphs[1]) if "value" in tensor_name(w))
        weight.quantization.scale = [2 * scale for scale in weight.quantization.scale]
        write_graph(model, path)
        errors = stored_errors("tflite", bert.path, path)
        broken = [name for name, error in errors.items() if error > 0.1]
        assert broken == [tensor_name(weight)]
        assert errors[broken[0]] == pytest.approx(1.0, abs=0.02)
        with pytest.raises(ParityError, match="self.value.weight;1, made float again, is 1 of its size away"):
            hold_weights(errors, "tflite-w8a8_dynamic")


class TestStatic:
    def test_a_value_that_is_no_number_is_refused(self, tmp_path: Path) -> None:
        import torch

        model = load_classifier(tiny_classifier("distilbert", tmp_path))
        with torch.no_grad():
            model.distilbert.transformer.layer[0].ffn.lin1.bias[3] = float("nan")
        export_tflite(model, tmp_path / "model.tflite", (8,))
        with pytest.raises(ParityError, match="is not a finite number for some row; the model is broken"):
            quantize_file(
                "tflite", tmp_path / "model.tflite", tmp_path / "q.tflite", Quantization("w8a8"), two_inputs(rows(0, 2))
            )

    @pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
    def test_every_method_answers_nearly_the_same(
        self, bert: Exported, tmp_path: Path, method: CalibrationMethod
    ) -> None:
        assert likeness(bert, quantized(bert, tmp_path, Quantization("w8a8", method=method)), 24) > 0.98

    def test_only_products_compute_in_integers(self, bert: Exported, tmp_path: Path) -> None:
        model = read_graph(quantized(bert, tmp_path, Quantization("w8a8")))
        subgraph = model.subgraphs[0]
        given = {
            op_name(model, op): type_name(subgraph.tensors[op.outputs[0]])
            for op in subgraph.operators
            if op_name(model, op) != "QUANTIZE"
        }
        assert [name for name, kind in given.items() if kind == "int8"] == ["FULLY_CONNECTED"]

    @pytest.mark.parametrize("scheme", ["w8a8", "w8a16"])
    def test_a_longer_signature_gives_the_same_answer(self, bert: Exported, tmp_path: Path, scheme: Scheme) -> None:
        """Ranges of its own for each signature would move it: by a hundredth of the answers' spread in this model."""
        session = LitertBackend().load(quantized(bert, tmp_path, Quantization(scheme)), 1)
        short = random_batch(16, LENGTHS[0], bert.pad_id, seed=5)
        pad = LENGTHS[1] - LENGTHS[0]
        long = Batch(*(np.pad(rows_, ((0, 0), (0, pad))) for rows_ in vars(short).values()))
        ours, theirs = session.run(short), session.run(long)
        assert np.abs(ours - theirs).max() < 1e-4 * ours.std()

    def test_what_is_calibrated_on_decides_what_is_written(self, bert: Exported, tmp_path: Path) -> None:
        def write(name: str, feeds: Feeds) -> bytes:
            quantize_file("tflite", bert.path, tmp_path / name, Quantization("w8a8"), feeds)
            return (tmp_path / name).read_bytes()

        one = write("one", rows(0, 1))
        assert one == write("again", rows(0, 1))
        assert one != write("more", rows(0, 12))

    @pytest.mark.parametrize(("feeds", "message"), [(None, "needs calibration rows"), (rows(0, 0), "got no rows")])
    def test_no_rows_are_refused(self, bert: Exported, tmp_path: Path, feeds: Feeds | None, message: str) -> None:
        with pytest.raises(ParityError, match=message):
            quantize_file("tflite", bert.path, tmp_path / "model.tflite", Quantization("w8a8"), feeds)
        assert list(tmp_path.iterdir()) == []

    def test_rows_are_read_one_at_a_time(self, bert: Exported, tmp_path: Path) -> None:
        """A row is let go before the next one is asked for, but for the one at hand."""
        import gc
        import weakref

        alive: list[weakref.ref[Any]] = []
        most = 0

        def feeds() -> Iterator[Feed]:
            nonlocal most
            for feed in rows(0, 8)():
                alive.append(weakref.ref(feed["input_ids"]))
                yield feed
                del feed
                gc.collect()
                most = max(most, sum(ref() is not None for ref in alive))

        quantize_file("tflite", bert.path, tmp_path / "model.tflite", Quantization("w8a8"), feeds)
        assert len(alive) == 8
        assert most <= 2


class TestTraps:
    def test_a_recipe_that_quantizes_nothing_is_refused(self, bert: Exported, tmp_path: Path) -> None:
        """ai-edge-quantizer's int8 in blocks of 32 leaves all in float, and says nothing."""
        from ai_edge_quantizer import quantizer, recipe

        path = tmp_path / "model.tflite"
        worker = quantizer.Quantizer(str(bert.path), recipe.dynamic_wi8b32_afp32())
        worker.quantize(enable_progress_report=False).export_model(str(path))
        with pytest.raises(ParityError, match="w8: 0 of 16 weighted operators were quantized"):
            quantized_share(summarize_file("tflite", path), "w8")

    def test_logits_that_come_out_as_int8_are_refused(self, bert: Exported, tmp_path: Path) -> None:
        """The library's own static recipe quantizes the output too."""
        from ai_edge_quantizer import quantizer, recipe

        path, sample = tmp_path / "model.tflite", random_batch(1, 8, 0)
        feed = {name: rows_.astype(np.int32) for name, rows_ in vars(sample).items()}
        long = {name: np.pad(rows_, ((0, 0), (0, 16))) for name, rows_ in feed.items()}
        worker = quantizer.Quantizer(str(bert.path), recipe.static_wi8_ai8())
        ranges = worker.calibrate({"seq_8": [feed], "seq_24": [long]}, num_threads=1)
        worker.quantize(ranges, enable_progress_report=False).export_model(str(path))
        summary = summarize_file("tflite", path)
        assert summary.outputs == {"output_0": "int8"}
        with pytest.raises(ParityError, match="its output output_0 is int8, allowed: float32, as in the fp32 file"):
            hold_types(summary, summarize_file("tflite", bert.path), "tflite-w8a8")

    def test_what_the_library_does_not_write_is_one_sentence(self, bert: Exported, tmp_path: Path) -> None:
        with pytest.raises(ParityError, match="got fp8_e4m3, which ai-edge-quantizer does not write"):
            quantize_file("tflite", bert.path, tmp_path / "model.tflite", Quantization("fp8_e4m3"))

    def test_widths_that_blocks_do_not_divide_are_int8(self, tmp_path: Path) -> None:
        """The library would write such blocks wrongly or not at all; the tiny MobileBERT is 16 wide inside."""
        source = exported("mobilebert", tmp_path, (8,))
        path = quantized(source, tmp_path, Quantization("w4"))
        model = read_graph(path)
        kinds = {
            (weight.shape[-1] % 32 == 0, type_name(weight))
            for subgraph in model.subgraphs
            for _, weight in weight_reads(model, subgraph)
        }
        assert kinds == {(True, "int4"), (False, "int8")}
        assert likeness(source, path, 8) > 0.9


class TestKeepFloat:
    @pytest.mark.parametrize("scheme", [*INTEGER, "fp16"])
    def test_modules_that_a_pattern_names_stay(self, bert: Exported, tmp_path: Path, scheme: Scheme) -> None:
        patterns = ("model.bert.encoder.layer.0.attention.self.query", "*.classifier", "*word_embeddings")
        path = quantized(bert, tmp_path, Quantization(scheme, keep_float=patterns))
        kept = [module for module, kind in weights(path) if kind == "float32"]
        assert sorted(set(kept)) == [
            "model.bert.embeddings.word_embeddings",
            "model.bert.encoder.layer.0.attention.self.query",
            "model.classifier",
        ]
        assert len(kept) == 3 * len(LENGTHS)
        assert likeness(bert, path, 24) > 0.95

    def test_a_name_is_not_a_beginning(self, bert: Exported, tmp_path: Path) -> None:
        path = quantized(bert, tmp_path, Quantization("w8a8_dynamic", keep_float=("model.bert.encoder.layer.0",)))
        assert {kind for _, kind in weights(path)} == {"int8"}


class TestNames:
    @pytest.fixture(scope="class", params=FAMILY_NAMES)
    def family(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
        return exported(request.param, tmp_path_factory.mktemp(request.param), (8,))

    def test_weights_are_called_after_their_parameters(self, family: Exported) -> None:
        """Which they hold as they are, or times the scale of the norm before, input by input."""
        model, known = read_graph(family.path), dict(family.model.named_parameters())
        found: dict[str, int] = {}
        for subgraph in model.subgraphs:
            for _, weight in weight_reads(model, subgraph):
                name = re.sub(r";\d+$", "", tensor_name(weight))
                found[name] = found.get(name, 0) + 1
                ours = np.frombuffer(constant(model, weight), np.float32).reshape(weight.shape)
                theirs = known[name.removeprefix("model.")].detach().numpy()
                factors = np.divide(ours, theirs, out=np.zeros_like(ours), where=theirs != 0)
                spread = np.where(theirs != 0, np.abs(factors - np.median(factors, axis=0)), 0).max()
                assert spread < 0.02, name
        assert set(found.values()) == {1}
        assert len(found) >= 15

    def test_no_two_tensors_share_a_name(self, bert: Exported) -> None:
        """Not even tensors of two signatures."""
        names = [tensor_name(tensor) for subgraph in read_graph(bert.path).subgraphs for tensor in subgraph.tensors]
        assert len(names) == len(set(names)) > 100

    def test_no_name_tells_of_classes(self, family: Exported) -> None:
        raw = family.path.read_bytes()
        assert b"transformers.models" not in raw
        assert b"edgetf.formats" not in raw
        assert b"model.classifier" in raw


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_file_that_is_none_is_an_artifact_error(bert: Exported, tmp_path: Path, share: float) -> None:
    raw, path = bert.path.read_bytes(), tmp_path / "model.tflite"
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(ArtifactError, match="model.tflite: not a TFLite file, or cut"):
        summarize_file("tflite", path)
