"""SmoothQuant folded into checkpoints: the same answers, the same operators, and less lost to INT8."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
from rounding import fake_activation, fake_weight
from tiny import (
    FAMILY_NAMES,
    LABELS,
    random_batch,
    tiny_classifier,
    tiny_config,
    tiny_dataset,
    tiny_split,
    torch_logits,
)
from torch import Tensor, nn
from torch.nn import functional as F

from edgetf.config.recipe import Recipe
from edgetf.config.tasks import PoolingConfig
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.formats.write import write_graph
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, load_classifier
from edgetf.models.families import family_of
from edgetf.models.families.family import Link
from edgetf.models.heads import Head, build
from edgetf.models.links import links_of, move_factors
from edgetf.models.modules import FactorizedEmbedding
from edgetf.models.slicing import (
    factorize_words,
    feed_forwards_of,
    layers_of,
    linear_at,
    narrow_feed_forward,
    narrow_heads,
)
from edgetf.runtime.encoder import Encoder
from edgetf.stages.context import Context
from edgetf.stages.smooth import run, smooth
from edgetf.training.batches import Collator, TensorBatch, encode_split, in_order

torch.set_num_threads(1)

every_family = pytest.mark.parametrize("family", FAMILY_NAMES)


@cache
def folder_of(family: str) -> Path:
    return tiny_classifier(family, Path(mkdtemp(prefix=f"smooth-{family}-")), seed=4)


def model_of(family: str) -> Any:
    return load_classifier(folder_of(family))


def made(config: Any, head: Head | None = None, seed: int = 0) -> Any:
    """A random model of a config, with random biases and norms."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(config, head or Head())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def batches_of(family: str, count: int = 48, size: int = 32) -> list[TensorBatch]:
    folder = folder_of(family)
    encoder = Encoder(folder, 32, "truncate", int(model_of(family).config.pad_token_id or 0))
    rows = encode_split(tiny_split(count), encoder)
    return [batch for _, batch in in_order(rows, encoder, batch_size=size)]


def answers(model: Any) -> np.ndarray[Any, Any]:
    return np.asarray(torch_logits(model, random_batch(6, 24, int(model.config.pad_token_id or 0), seed=5)))


def answers_alike(model: Any, family: str, alpha: float = 0.5) -> int:
    """Smooth it, in both precisions, hold its answers against those before; gives the number of links."""
    for precise, most in ((model.double(), 1e-9), (copy.deepcopy(model).float(), 1e-5)):
        before, weights = answers(precise), copy.deepcopy(precise.state_dict())
        report = smooth(precise, batches_of(family), alpha)
        np.testing.assert_allclose(answers(precise), before, rtol=0, atol=most)
        for link in report.links:  # not because nothing was done
            for name in (f"{link.source}.weight", *(f"{path}.weight" for path in link.readers)):
                assert not torch.allclose(precise.state_dict()[name], weights[name], rtol=1e-2)
    return len(report.links)


class TestSmooth:
    @every_family
    @pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
    def test_answers_stay(self, family: str, alpha: float) -> None:
        wanted = {"bert": 3, "roberta": 3, "distilbert": 4, "mobilebert": 17}
        assert answers_alike(model_of(family), family, alpha) == wanted[family]

    @pytest.mark.parametrize("family", ["bert", "distilbert"])
    def test_relu_lets_factors_through(self, family: str) -> None:
        config = tiny_config(family, LABELS)
        setattr(config, "activation" if family == "distilbert" else "hidden_act", "relu")
        model = made(config)
        assert sum(link.activation is not None for link in links_of(model)) == 2
        assert answers_alike(model, family) == len(links_of(model)) > 4

    @pytest.mark.parametrize("field", ["use_bottleneck_attention", "key_query_shared_bottleneck"])
    def test_other_wirings_of_mobilebert(self, field: str) -> None:
        config = tiny_config("mobilebert", LABELS)
        setattr(config, field, not getattr(config, field))
        model = made(config)
        _widen(model)
        assert answers_alike(model, "mobilebert") > 10

    def test_mobilebert_with_layer_norms_keeps_its_residuals(self) -> None:
        config = tiny_config("mobilebert", LABELS)
        config.normalization_type = "layer_norm"
        model = made(config)
        assert all(link.beside is None for link in links_of(model))
        assert answers_alike(model, "mobilebert") == len(links_of(model)) > 5

    @every_family
    def test_pruned_models(self, family: str) -> None:
        model = model_of(family)
        first, second = layers_of(model)
        narrow_heads(model, first, [])
        narrow_heads(model, second, [1, 3])
        for part in feed_forwards_of(model):
            narrow_feed_forward(first, part, torch.tensor([], dtype=torch.long))
            narrow_feed_forward(second, part, torch.arange(0, 64, 3))
        assert answers_alike(model, family) >= 2

    def test_factorized_words(self) -> None:
        model = model_of("bert")
        factorize_words(model, 8)
        assert isinstance(model.get_submodule("bert.embeddings.word_embeddings"), FactorizedEmbedding)
        assert answers_alike(model, "bert") == 4

    @every_family
    def test_heads_of_other_tasks(self, family: str) -> None:
        """A token's answer reads the last norm; an embedding is the last norm, which has to stay."""
        tokens = made(tiny_config(family, LABELS), Head("token_classification"))
        last = links_of(tokens)[-1]
        assert last.readers == ("classifier",)
        assert answers_alike(tokens, family) == len(links_of(tokens))
        vectors = made(tiny_config(family, LABELS), Head("sentence_embeddings", PoolingConfig()))
        last_norm = f"{family_of(family).layers}.1.{family_of(family).last_norm}"
        assert last_norm not in {link.source for link in links_of(vectors)}
        assert answers_alike(vectors, family) == len(links_of(vectors)) >= 2

    @pytest.mark.parametrize("family", ["bert", "mobilebert"])
    def test_the_graph_has_no_operator_more(self, family: str, tmp_path: Path) -> None:
        model = model_of(family)
        before = operators(model, tmp_path / "before.onnx")
        smooth(model, batches_of(family), 0.5)
        assert operators(model, tmp_path / "after.onnx") == before

    def test_alpha_shares_the_range(self) -> None:
        whole = smooth(model_of("bert"), batches_of("bert"), 1.0).links[0]
        half = smooth(model_of("bert"), batches_of("bert"), 0.5).links[0]
        assert whole.activation_after == pytest.approx(1.0) and half.activation_after > 1.1
        assert half.activation_after == pytest.approx(half.weight_after)

    def test_ranges_are_those_of_all_batches(self) -> None:
        """Whatever the batches, and whatever their padding."""
        one, many = model_of("bert"), model_of("bert")
        together = smooth(one, batches_of("bert", size=48), 0.5)
        assert smooth(many, iter(batches_of("bert", size=5)), 0.5) == together
        padded = [_padded(batch, 7) for batch in batches_of("bert")]
        assert smooth(model_of("bert"), padded, 0.5) == together


def _widen(model: Any) -> None:
    """Query, key and value as wide as what they read: transformers builds them for the shared bottleneck only."""
    torch.manual_seed(6)
    for layer in layers_of(model):
        attention: Any = layer.get_submodule("attention.self")
        wide = 16 if model.config.use_bottleneck_attention else 32
        for name in ("query", "key", "value"):
            setattr(attention, name, nn.Linear(wide, 16))


def _padded(batch: TensorBatch, tokens: int) -> TensorBatch:
    wider = {
        name: F.pad(getattr(batch, name), (0, tokens)) for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    return replace(batch, **wider)


def operators(model: Any, path: Path) -> Counter[str]:
    import onnx

    write_graph(model, "onnx", path, 20, (), True)
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


class TestWhatIsNoLink:
    """The rule is not stricter than it has to be: moved there, factors change the answers."""

    @pytest.mark.parametrize(
        "link",
        [
            Link("bert.encoder.layer.0.intermediate.dense", ("bert.encoder.layer.0.output.dense",)),
            Link(
                "bert.encoder.layer.0.output.LayerNorm",
                tuple(f"bert.encoder.layer.1.attention.self.{name}" for name in ("query", "key", "value")),
            ),
        ],
        ids=["gelu", "residual"],
    )
    def test_factors_change_the_answers(self, link: Link) -> None:
        model = model_of("bert").double()
        assert link.source not in {known.source for known in links_of(model)}
        before = answers(model)
        width = model.get_submodule(link.readers[0]).in_features
        move_factors(model, link, torch.linspace(0.5, 2, width, dtype=torch.float64))
        assert np.abs(answers(model) - before).max() > 1e-3

    def test_a_norm_that_feeds_its_readers_alone_is_one(self) -> None:
        """As in pre-norm models: ``x + up(norm(x))``."""
        torch.manual_seed(0)
        block = nn.ModuleDict({"norm": nn.LayerNorm(8), "up": nn.Linear(8, 8), "gate": nn.Linear(8, 8)}).double()
        x = torch.randn(5, 8, dtype=torch.float64)

        def forward() -> Tensor:
            normed = block["norm"](x)
            summed: Tensor = x + block["up"](normed) * block["gate"](normed)
            return summed

        before = forward()
        move_factors(block, Link("norm", ("up", "gate")), torch.linspace(0.1, 9, 8, dtype=torch.float64))
        torch.testing.assert_close(forward(), before, rtol=0, atol=1e-12)


class TestOutlier:
    def test_in_the_values_costs_nothing_any_more(self) -> None:
        """A channel of values 50 times as large, and its column as much smaller: the same model, hard to quantize."""
        model = model_of("bert").double()
        layer = layers_of(model)[0]
        plant = torch.ones(32, dtype=torch.float64)
        plant[3] = 1 / 50
        move_factors(layer, Link("attention.self.value", ("attention.output.dense",)), plant)
        before = self.quantization_error(model)
        (link, *_) = smooth(model, batches_of("bert"), 0.5).links
        assert link.source.endswith("0.attention.self.value")
        assert link.activation_before > 10 and link.activation_after < 2
        assert link.weight_after < 2
        assert self.quantization_error(model) < before / 10

    def quantization_error(self, model: Any) -> float:
        """Of the first output projection in INT8, by the size of what it gives."""
        output, (batch,) = linear_at(layers_of(model)[0], "attention.output.dense"), batches_of("bert", count=32)
        heard: list[Tensor] = []
        hook = output.register_forward_pre_hook(lambda module, arguments: heard.append(arguments[0]))
        with torch.no_grad():
            model(**batch.inputs(True))
            hook.remove()
            exact = heard[0] @ output.weight.T
            rounded = fake_activation(heard[0]) @ fake_weight(output.weight).T
        return float((rounded - exact).norm() / exact.norm())


def context_of() -> Context:
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "teacher": {"source": "somewhere"},
            "data": {"source": "somewhere.csv", "max_length": 32},
            "stages": [{"stage": "export", "formats": ["onnx"]}],
        }
    )
    return Context(recipe, tiny_dataset(), report=lambda done, total, note: None, say=lambda remark: None)


class TestRun:
    def sealed(self, top: Path) -> Artifact:
        context = context_of()

        def copied(out: Path) -> tuple[Spec, float]:
            params = copy_checkpoint(folder_of("bert"), out)
            return Spec("torch", WEIGHTS, params, details=context.input_details(0)), 0.0

        return seal(top / "source", stage="test", key="source", parents=(), made={}, write=copied)

    def test_writes_a_checkpoint_that_answers_the_same(self, tmp_path: Path) -> None:
        source, context = self.sealed(tmp_path), context_of()
        smoothed = seal(
            tmp_path / "smooth", stage="smooth", key="smooth", parents=(source,), made={},
            write=lambda out: run(source, context, out, alpha=0.5, rows=40),
        )  # fmt: skip
        before, after = load_classifier(source.path), load_classifier(smoothed.path)
        np.testing.assert_allclose(answers(after), answers(before), rtol=0, atol=1e-5)
        name = "bert.encoder.layer.0.attention.output.dense.weight"
        assert not torch.allclose(after.state_dict()[name], before.state_dict()[name], rtol=1e-2)
        assert smoothed.spec.params == source.spec.params
        assert smoothed.spec.metrics[0].name == "dev_accuracy"
        assert smoothed.spec.details["pad_id"] == 0
        assert [link["source"] for link in smoothed.spec.details["smoothing"]["links"]] == [
            link.source for link in links_of(before)
        ]

    def test_asks_so_many_rows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, asked = self.sealed(tmp_path), []
        original = Collator.__call__
        monkeypatch.setattr("edgetf.stages.fit.dev_exam", lambda *_: lambda model: 0.5)
        monkeypatch.setattr(Collator, "__call__", lambda self, k: (asked.extend(k), original(self, k))[1])
        (tmp_path / "out").mkdir()
        run(source, context_of(), tmp_path / "out", alpha=0.5, rows=40)
        assert len(asked) == len(set(asked)) == 40
        assert max(asked) > 180  # of 192: spread over all
