"""Build a student from its recipe and its teacher, and say what it will cost before any training."""

from __future__ import annotations

from typing import Any

from edgetf.config.recipe import FromTeacher, MobileBert, PruneConfig, Student
from edgetf.core.errors import ConfigError
from edgetf.core.quiet import quiet
from edgetf.models.families import family_of
from edgetf.models.families.family import ATTENTION_WIDTH, Config, Cost


def spread_layers(teacher_layers: int, student_layers: int) -> list[int]:
    """Evenly spread teacher layers, the last one always among them.

    >>> spread_layers(6, 3), spread_layers(12, 1)
    ([1, 3, 5], [11])
    """
    return [round((k + 1) * teacher_layers / student_layers) - 1 for k in range(student_layers)]


def student_config(student: Student, teacher: Config) -> dict[str, Any]:
    """The Hugging Face config of the student, as a mapping.

    Raises:
        ConfigError: more layers than the teacher has, or one that it lacks.
    """
    family = family_of(teacher["model_type"])
    match student:
        case FromTeacher():
            layers = int(teacher[family.num_hidden_layers])
            if student.num_hidden_layers > layers:
                raise ConfigError(
                    f"student.num_hidden_layers: got {student.num_hidden_layers}, allowed: up to the teacher's {layers}"
                )
            wrong = [layer for layer in student.layers or () if not 0 <= layer < layers]
            if wrong:
                raise ConfigError(f"student.layers: got {wrong[0]}, allowed: 0 to {layers - 1}")
            return {**teacher, family.num_hidden_layers: student.num_hidden_layers}
        case MobileBert():
            shape = student.model_dump(exclude={"architecture"})
            shape["true_hidden_size"] = student.intra_bottleneck_size
            carried = ("vocab_size", "pad_token_id", "max_position_embeddings", "id2label", "label2id", "num_labels")
            kept = {name: teacher[name] for name in carried if name in teacher}
            return {"model_type": "mobilebert", "type_vocab_size": 2, **kept, **shape}


def pruned_config(config: Config, prune: PruneConfig) -> dict[str, Any]:
    """The config after structured pruning, for costing: fewer neurons, and a narrower attention for fewer heads."""
    family = family_of(config["model_type"])
    neurons, heads = family.intermediate_size, int(config[family.num_attention_heads])
    width = int(config.get("intra_bottleneck_size", config[family.hidden_size]))
    return {
        **config,
        neurons: kept_width(int(config[neurons]), prune.ffn_ratio, prune.round_to),
        ATTENTION_WIDTH: width // heads * kept_heads(heads, prune.head_ratio),
    }


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


def cost_of(config: Config, seq_len: int) -> Cost:
    """Weights, multiply-accumulates and operators of one forward pass of `seq_len` tokens."""
    return family_of(config["model_type"]).cost(config, seq_len)


# Milliseconds of fp32 ONNX Runtime on one x86-64 core, fitted to MiniLM-L6 and MobileBERT at 128 tokens: 31.5 ms for
# 1.51 GMAC and 240 ops, 62 ms for 2.8 GMAC and 2,472 ops. Only their ratio is used.
_MS_PER_GMAC = 20.5
_MS_PER_OP = 0.002


def relative_ms(cost: Cost) -> float:
    """A latency in arbitrary units, good for comparing two models before either exists."""
    return cost.macs / 1e9 * _MS_PER_GMAC + cost.ops * _MS_PER_OP


def build_student(student: Student, teacher: Any) -> Any:
    """The student, initialized from the teacher (a loaded classifier)."""
    match student:
        case FromTeacher():
            return _copy_layers(student, teacher)
        case MobileBert():
            return _mobilebert(student, teacher)


def _copy_layers(student: FromTeacher, teacher: Any) -> Any:
    """Chosen layers, embeddings and head of the teacher."""
    import copy

    from torch import nn

    from edgetf.models.slicing import layers_of

    family = family_of(teacher.config.model_type)
    every = layers_of(teacher)
    chosen = list(student.layers or spread_layers(len(every), student.num_hidden_layers))
    made = copy.deepcopy(teacher)
    kept = [layers_of(made)[k] for k in chosen]
    made.set_submodule(family.layers, nn.ModuleList(kept))
    setattr(made.config, family.num_hidden_layers, len(kept))
    record = getattr(made.config, "edgetf", None)
    if record:
        made.config.edgetf = {"layers": [record["layers"][k] for k in chosen]}
    return made


def _mobilebert(student: MobileBert, teacher: Any) -> Any:
    """A MobileBERT whose word embedding holds the principal directions of the teacher's.

    The teacher's embedding E (V, H) is centred and projected on its first `embedding_size` right singular vectors,
    so that words near in the teacher are near in the student from the first step.
    """
    import torch

    with quiet():
        from transformers import AutoModelForSequenceClassification, MobileBertConfig

    record = student_config(student, teacher.config.to_dict())
    for name in ("model_type", "num_labels"):
        record.pop(name, None)
    config = MobileBertConfig(**record, use_bottleneck=True, key_query_shared_bottleneck=True)
    with quiet():  # transformers loads the family's module, and what that brings, only now
        made = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    words = teacher.get_input_embeddings().weight.detach().float()  # (V, H)
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
