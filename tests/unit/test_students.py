"""Students: their layers, widths and embeddings come from the teacher as the recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import FAMILY_NAMES, LABELS, tiny_classifier
from torch.utils.flop_counter import FlopCounterMode

from edgetf.config.stages import PruneConfig
from edgetf.config.student import FromTeacher, MobileBert
from edgetf.core.errors import ConfigError
from edgetf.models.checkpoint import load_classifier, save_classifier
from edgetf.models.families import family_of
from edgetf.models.shapes import cost_of
from edgetf.models.slicing import feed_forwards_of as parts_of
from edgetf.models.slicing import layers_of, narrow_feed_forward, narrow_heads
from edgetf.models.students import (
    build_student,
    kept_heads,
    kept_width,
    pruned_config,
    relative_ms,
    spread_layers,
    student_config,
)

torch.set_num_threads(1)

SMALL = MobileBert(
    architecture="mobilebert", num_hidden_layers=2, hidden_size=32, intra_bottleneck_size=16, embedding_size=16,
    intermediate_size=32,
)  # fmt: skip


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of four layers."""
    return tiny_classifier(request.param, tmp_path_factory.mktemp(request.param), num_layers=4)


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Any:
    return load_classifier(folder)


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(5, 17).repeat(2, 1)
    with torch.no_grad():
        answer: torch.Tensor = model.eval()(input_ids=ids).logits
    return answer


def same_weights(one: Any, other: Any) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class TestSpreadLayers:
    @given(st.integers(1, 48).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
    def test_is_ascending_inside_and_ends_at_the_last(self, sizes: tuple[int, int]) -> None:
        layers, wanted = sizes
        chosen = spread_layers(layers, wanted)
        assert len(chosen) == wanted
        assert all(a < b for a, b in zip(chosen, chosen[1:], strict=False))
        assert chosen[0] >= 0 and chosen[-1] == layers - 1

    @given(st.integers(1, 48))
    def test_all_layers_are_themselves(self, layers: int) -> None:
        assert spread_layers(layers, layers) == list(range(layers))

    def test_is_even(self) -> None:
        assert spread_layers(12, 4) == [2, 5, 8, 11]
        assert spread_layers(6, 2) == [2, 5]


class TestStudentConfig:
    def test_keeps_all_but_the_layers(self, teacher: Any) -> None:
        config = teacher.config.to_dict()
        name = family_of(config["model_type"]).num_hidden_layers
        assert student_config(FromTeacher(num_hidden_layers=2), config) == {**config, name: 2}

    def test_refuses_more_layers_than_the_teacher_has(self, teacher: Any) -> None:
        with pytest.raises(ConfigError, match=r"student.num_hidden_layers: got 5, allowed: up to the teacher's 4"):
            student_config(FromTeacher(num_hidden_layers=5), teacher.config.to_dict())

    @pytest.mark.parametrize("layer", [4, -1])
    def test_refuses_a_layer_that_the_teacher_lacks(self, teacher: Any, layer: int) -> None:
        with pytest.raises(ConfigError, match=rf"student.layers: got {layer}, allowed: 0 to 3"):
            student_config(FromTeacher(num_hidden_layers=2, layers=(0, layer)), teacher.config.to_dict())

    def test_mobilebert_takes_vocabulary_and_classes_from_the_teacher(self, teacher: Any) -> None:
        config = student_config(SMALL, teacher.config.to_dict())
        assert config["vocab_size"] == teacher.config.vocab_size
        assert config["max_position_embeddings"] == teacher.config.max_position_embeddings
        assert config["pad_token_id"] == teacher.config.pad_token_id
        assert list(config["id2label"].values()) == list(LABELS)
        assert config["true_hidden_size"] == 16

    def test_mobilebert_cost_is_that_of_the_model(self, teacher: Any) -> None:
        cost = cost_of(student_config(SMALL, teacher.config.to_dict()), 32)
        made = build_student(SMALL, teacher)
        assert cost.params == sum(parameter.numel() for parameter in made.parameters())

    def test_from_teacher_cost_is_that_of_the_model(self, teacher: Any) -> None:
        student = FromTeacher(num_hidden_layers=2)
        cost = cost_of(student_config(student, teacher.config.to_dict()), 32)
        assert cost.params == sum(parameter.numel() for parameter in build_student(student, teacher).parameters())
        assert relative_ms(cost) < relative_ms(cost_of(teacher.config.to_dict(), 32))


class TestFromTeacher:
    def test_copies_the_layers_that_are_spread(self, teacher: Any) -> None:
        made = build_student(FromTeacher(num_hidden_layers=2), teacher)
        ours, theirs = layers_of(made), layers_of(teacher)
        assert len(ours) == 2
        assert same_weights(ours[0], theirs[1]) and same_weights(ours[1], theirs[3])

    def test_copies_the_layers_that_are_listed(self, teacher: Any) -> None:
        made = build_student(FromTeacher(num_hidden_layers=3, layers=(3, 0, 2)), teacher)
        assert all(
            same_weights(ours, layers_of(teacher)[k]) for ours, k in zip(layers_of(made), (3, 0, 2), strict=True)
        )

    def test_copies_embeddings_and_head(self, teacher: Any) -> None:
        made = build_student(FromTeacher(num_hidden_layers=1), teacher)
        layers = f"{family_of(teacher.config.model_type).layers}."
        theirs = teacher.state_dict()
        shared = {name: tensor for name, tensor in made.state_dict().items() if not name.startswith(layers)}
        assert len(shared) >= 6
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in shared.items())

    def test_of_all_layers_is_the_teacher(self, teacher: Any) -> None:
        assert torch.equal(logits(build_student(FromTeacher(num_hidden_layers=4), teacher)), logits(teacher))

    def test_does_not_share_its_weights(self, teacher: Any) -> None:
        before = logits(teacher)
        made = build_student(FromTeacher(num_hidden_layers=2), teacher)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.zero_()
        assert torch.equal(logits(teacher), before)
        assert len(layers_of(teacher)) == 4

    def test_reloads(self, teacher: Any, folder: Path, tmp_path: Path) -> None:
        made = build_student(FromTeacher(num_hidden_layers=2), teacher)
        save_classifier(made, tmp_path, folder)
        again = load_classifier(tmp_path)
        assert len(layers_of(again)) == 2
        assert torch.equal(logits(again), logits(made))

    def test_of_a_pruned_teacher_keeps_its_shapes(self, folder: Path, tmp_path: Path) -> None:
        pruned = load_classifier(folder)
        for index, layer in enumerate(layers_of(pruned)):
            narrow_heads(pruned, layer, range(1 + index % 3))
            for part in parts_of(pruned):
                narrow_feed_forward(layer, part, torch.arange(8 * (index + 1)))
        save_classifier(pruned, tmp_path / "pruned", folder)
        reloaded = load_classifier(tmp_path / "pruned")
        made = build_student(FromTeacher(num_hidden_layers=2), reloaded)
        assert same_weights(layers_of(made)[1], layers_of(reloaded)[3])
        save_classifier(made, tmp_path / "student", folder)
        assert torch.equal(logits(load_classifier(tmp_path / "student")), logits(made))


class TestMobileBert:
    def test_has_the_shape_of_the_recipe(self, teacher: Any) -> None:
        config = build_student(SMALL, teacher).config
        assert (config.hidden_size, config.intra_bottleneck_size, config.embedding_size) == (32, 16, 16)
        assert (config.num_hidden_layers, config.intermediate_size, config.num_attention_heads) == (2, 32, 4)
        assert (config.vocab_size, config.pad_token_id) == (teacher.config.vocab_size, teacher.config.pad_token_id)
        assert [config.id2label[k] for k in range(3)] == list(LABELS)

    def test_answers_and_reloads(self, teacher: Any, folder: Path, tmp_path: Path) -> None:
        made = build_student(SMALL, teacher)
        assert logits(made).shape == (2, 3)
        save_classifier(made, tmp_path, folder)
        assert torch.equal(logits(load_classifier(tmp_path)), logits(made))

    def test_embedding_keeps_the_neighbours(self, teacher: Any) -> None:
        """Words near in the teacher are near in the student before any training."""
        made = build_student(SMALL, teacher)
        assert correlation(words_of(made), words_of(teacher)) > 0.5

    def test_a_wide_embedding_keeps_the_neighbours_too(self, teacher: Any) -> None:
        made = build_student(SMALL.model_copy(update={"embedding_size": 48}), teacher)
        assert correlation(words_of(made), words_of(teacher)) > 0.5

    def test_padding_changes_no_answer(self, teacher: Any) -> None:
        """A token reads its neighbors too, so the padding after the last one must look like the end of the input."""
        made = build_student(SMALL, teacher).eval()
        ids = torch.arange(10, 22)[None]
        padded = torch.nn.functional.pad(ids, (0, 5), value=made.config.pad_token_id)
        mask = (torch.arange(17) < 12).long()[None]
        with torch.no_grad():
            alone = made.mobilebert(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            beside = made.mobilebert(input_ids=padded, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(beside[:, :12], alone, rtol=0, atol=1e-6)

    def test_embedding_has_the_size_of_a_fresh_one(self, teacher: Any) -> None:
        torch.manual_seed(0)
        made = build_student(SMALL, teacher)
        assert words_of(made).std().item() == pytest.approx(made.config.initializer_range, rel=0.2)


def words_of(model: Any) -> torch.Tensor:
    """The word embedding (V, E) without its padding row."""
    words: torch.Tensor = model.get_input_embeddings().weight.detach()
    return words[5:]


def correlation(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Of the cosines between every two words in both embeddings."""

    def cosines(words: torch.Tensor) -> torch.Tensor:
        centred = torch.nn.functional.normalize(words - words.mean(dim=0), dim=1)
        rows, columns = torch.triu_indices(len(words), len(words), offset=1)
        return (centred @ centred.T)[rows, columns]

    return torch.corrcoef(torch.stack([cosines(ours), cosines(theirs)]))[0, 1].item()


class TestKept:
    @given(width=st.integers(1, 5000), ratio=st.floats(0, 0.999), round_to=st.integers(1, 256))
    def test_width_is_a_multiple_that_there_is(self, width: int, ratio: float, round_to: int) -> None:
        kept = kept_width(width, ratio, round_to)
        assert 1 <= kept <= width
        assert kept == width or kept % round_to == 0
        assert kept >= min(width, round_to)
        assert kept == width or abs(kept - width * (1 - ratio)) <= max(
            round_to / 2 + 1e-6, round_to - width * (1 - ratio)
        )

    @given(width=st.integers(1, 5000), round_to=st.integers(1, 256))
    def test_nothing_is_removed_when_nothing_is_asked_for(self, width: int, round_to: int) -> None:
        assert kept_width(width, 0.0, round_to) == width

    @given(width=st.integers(1, 5000), a=st.floats(0, 0.999), b=st.floats(0, 0.999), round_to=st.integers(1, 256))
    def test_a_higher_ratio_never_keeps_more(self, width: int, a: float, b: float, round_to: int) -> None:
        low, high = sorted((a, b))
        assert kept_width(width, high, round_to) <= kept_width(width, low, round_to)

    @given(heads=st.integers(1, 64), ratio=st.floats(0, 0.999))
    def test_heads_stay_at_least_one(self, heads: int, ratio: float) -> None:
        kept = kept_heads(heads, ratio)
        assert 1 <= kept <= heads
        assert abs(kept - heads * (1 - ratio)) <= 1
        assert kept_heads(heads, 0.0) == heads

    @pytest.mark.parametrize(("ffn_ratio", "head_ratio"), [(0.5, 0.0), (0.0, 0.5), (0.75, 0.25)])
    def test_pruned_config_costs_what_the_pruned_model_does(
        self, folder: Path, teacher: Any, ffn_ratio: float, head_ratio: float
    ) -> None:
        settings = PruneConfig(ffn_ratio=ffn_ratio, head_ratio=head_ratio, round_to=8)
        cost = cost_of(pruned_config(teacher.config.to_dict(), settings), 32)
        model = load_classifier(folder)
        for layer in layers_of(model):
            narrow_heads(model, layer, range(kept_heads(4, head_ratio)))
            for part in parts_of(model):
                narrow_feed_forward(layer, part, torch.arange(kept_width(64, ffn_ratio, 8)))
        assert cost.params == sum(parameter.numel() for parameter in model.parameters())
        ids = torch.full((1, 32), 9)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(input_ids=ids)
        assert cost.macs == pytest.approx(counter.get_total_flops() / 2, rel=0.05)
