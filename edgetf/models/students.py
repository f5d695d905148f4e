"""Build a student from its recipe and its teacher, and say what it will cost before any training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgetf.config.stages import PruneConfig
from edgetf.config.student import FromTeacher, MobileBert, Student
from edgetf.core.errors import ConfigError
from edgetf.core.quiet import quiet
from edgetf.models.families import family_of
from edgetf.models.families.family import Config, Cost, LayerShape, Shape
from edgetf.models.heads import CLASSIFIER, Head, build
from edgetf.models.shapes import narrowed_layers, shape_of, with_shape

HIDDEN_MULTIPLE = 32  # kept hidden dimensions are a multiple of at most this: it is narrow, and half a head is no head


def spread_layers(teacher_layers: int, student_layers: int) -> list[int]:
    """Evenly spread teacher layers, the last one always among them.

    >>> spread_layers(6, 3), spread_layers(12, 1)
    ([1, 3, 5], [11])
    """
    return [round((k + 1) * teacher_layers / student_layers) - 1 for k in range(student_layers)]


def student_config(student: Student, teacher: Config) -> dict[str, Any]:
    """The Hugging Face config of the student, as a mapping.

    Raises:
        ConfigError: more layers, heads or width than the teacher has, or a layer that it lacks.
    """
    match student:
        case FromTeacher():
            return _config_from_teacher(student, teacher)
        case MobileBert():
            shape = student.model_dump(exclude={"architecture"})
            shape["true_hidden_size"] = student.intra_bottleneck_size
            carried = (
                "vocab_size", "pad_token_id", "max_position_embeddings", "id2label", "label2id", "num_labels",
                "problem_type",
            )  # fmt: skip
            kept = {name: teacher[name] for name in carried if name in teacher}
            return {"model_type": "mobilebert", "type_vocab_size": 2, **kept, **shape}


def _config_from_teacher(student: FromTeacher, teacher: Config) -> dict[str, Any]:
    shape = shape_of(teacher)
    layers = len(shape.layers)
    if student.num_hidden_layers > layers:
        raise ConfigError(
            f"student.num_hidden_layers: got {student.num_hidden_layers}, allowed: up to the teacher's {layers}"
        )
    wrong = [layer for layer in student.layers or () if not 0 <= layer < layers]
    if wrong:
        raise ConfigError(f"student.layers: got {wrong[0]}, allowed: 0 to {layers - 1}")
    most = {
        "hidden_size": shape.hidden_size,
        "intermediate_size": max(max(layer.neurons) for layer in shape.layers),
        "num_attention_heads": max(layer.heads for layer in shape.layers),
    }
    problems = [
        f"student.{name}: got {getattr(student, name)}, allowed: up to the teacher's {limit}"
        for name, limit in most.items()
        if (getattr(student, name) or 0) > limit
    ]
    if problems:
        raise ConfigError(problems)
    chosen = replace(shape, layers=tuple(shape.layers[k] for k in chosen_layers(student, layers)))
    narrow = narrowed_layers(chosen, student.num_attention_heads, student.intermediate_size)
    return with_shape(teacher, replace(narrow, hidden_size=student.hidden_size or shape.hidden_size))


def chosen_layers(student: FromTeacher, teacher_layers: int) -> list[int]:
    """The teacher layers that a student starts from, bottom first."""
    return list(student.layers or spread_layers(teacher_layers, student.num_hidden_layers))


def pruned_config(config: Config, prune: PruneConfig) -> dict[str, Any]:
    """The config after structured pruning by ratios, for costing."""
    return with_shape(config, pruned_shape(shape_of(config), prune))


def pruned_shape(shape: Shape, prune: PruneConfig) -> Shape:
    """What the ratios leave of every layer; with a target, about what it leaves, of a family's first member."""

    ffn_ratio, head_ratio = prune.ffn_ratio, prune.head_ratio
    if prune.target is not None:  # a search will shape each layer; all alike is what can be said before
        ffn_ratio = head_ratio = 1 - prune.target.left

    def narrow(layer: LayerShape) -> LayerShape:
        neurons = tuple(kept_width(width, ffn_ratio, prune.round_to) for width in layer.neurons)
        return LayerShape(kept_heads(layer.heads, head_ratio), neurons)

    hidden = kept_width(shape.hidden_size, prune.hidden_ratio, min(prune.round_to, HIDDEN_MULTIPLE))
    return replace(shape, hidden_size=hidden, layers=tuple(narrow(layer) for layer in shape.layers))


def kept_width(width: int, ratio: float, round_to: int) -> int:
    """Neurons that stay: a multiple of `round_to`, at least one multiple, never more than there are.

    >>> kept_width(1536, 0.75, 64), kept_width(100, 0.5, 64), kept_width(48, 0.9, 64)
    (384, 64, 48)
    """
    if ratio == 0:
        return width
    wanted = width * (1 - ratio)
    return min(width, max(round_to, round(wanted / round_to) * round_to))


def kept_heads(heads: int, ratio: float) -> int:
    """Heads that stay, at least one.

    >>> kept_heads(12, 0.5), kept_heads(2, 0.9)
    (6, 1)
    """
    return max(1, round(heads * (1 - ratio)))


# Milliseconds of fp32 ONNX Runtime on one x86-64 core, fitted to MiniLM-L6 and MobileBERT at 128 tokens: 31.5 ms for
# 1.51 GMAC and 240 ops, 62 ms for 2.8 GMAC and 2,472 ops. Only their ratio is used.
_MS_PER_GMAC = 20.5
_MS_PER_OP = 0.002


def relative_ms(cost: Cost) -> float:
    """A latency in arbitrary units, good for comparing two models before either exists."""
    return cost.macs / 1e9 * _MS_PER_GMAC + cost.ops * _MS_PER_OP


def build_student(student: Student, teacher: Any, head: Head = CLASSIFIER) -> Any:
    """The student, initialized from the teacher (a loaded model), and as wide as it where that is to shrink."""
    match student:
        case FromTeacher():
            return _copy_layers(student, teacher)
        case MobileBert():
            return _mobilebert(student, teacher, head)


def _copy_layers(student: FromTeacher, teacher: Any) -> Any:
    """Chosen layers, embeddings and head of the teacher."""
    import copy

    from torch import nn

    from edgetf.models.slicing import layers_of, record_shapes

    made = copy.deepcopy(teacher)
    every = layers_of(made)
    kept = [every[k] for k in chosen_layers(student, len(every))]
    made.set_submodule(family_of(teacher.config.model_type).layers, nn.ModuleList(kept))
    record_shapes(made)
    return made


def _mobilebert(student: MobileBert, teacher: Any, head: Head) -> Any:
    """A MobileBERT whose word embedding holds the principal directions of the teacher's.

    The teacher's embedding E (V, H) is centred and projected on its first `embedding_size` right singular vectors,
    so that words near in the teacher are near in the student from the first step.
    """
    import torch

    from edgetf.models.slicing import word_table

    with quiet():
        from transformers import MobileBertConfig

    record = student_config(student, teacher.config.to_dict())
    for name in ("model_type", "num_labels"):
        record.pop(name, None)
    config = MobileBertConfig(**record, use_bottleneck=True, key_query_shared_bottleneck=True)
    made = build(config, head)
    words = word_table(teacher)  # (V, H)
    size = min(student.embedding_size, words.shape[1])
    centred = words - words.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred.T @ centred)  # rows are the right singular vectors of E
    projected = centred @ directions[:size].T  # (V, size)
    target = made.get_input_embeddings().weight
    with torch.no_grad():
        target[:, :size] = projected / projected.std() * target.std()
        # Zero, as MobileBERT has it: a token also reads its neighbors' embeddings, so the last one would else tell
        # padding from the end of the input, and a padded batch answer otherwise than a single text.
        target[config.pad_token_id] = 0
    return made
