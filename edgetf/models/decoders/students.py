"""Make a small decoder: of Llama's shape from nothing, with the teacher's embedding, or from some of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from edgetf.config.language.models import LanguageStudent, LikeTeacher, LlamaShape, TinyGpt
from edgetf.core.errors import ConfigError, needs
from edgetf.core.quiet import quiet
from edgetf.models.students import spread_layers

if TYPE_CHECKING:
    from torch import Tensor


def llama(shape: LlamaShape, vocab_size: int, max_length: int, eos_id: int | None) -> Any:
    """A Llama with random weights and an output layer that is its embedding; seed torch before.

    What writes into the residual stream starts 1 / √(2 L) smaller, as L layers add to it twice (Radford et al. 2019).
    """
    with needs("compress"), quiet():
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_width,
        max_position_embeddings=max_length,
        rope_theta=shape.rope_theta,
        tie_word_embeddings=True,
        bos_token_id=eos_id,
        eos_token_id=eos_id,
        pad_token_id=None,
    )
    model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            for writer in (layer.self_attn.o_proj, layer.mlp.down_proj):
                writer.weight.div_((2 * shape.num_hidden_layers) ** 0.5)
    return model.eval()


def build_student(
    student: LanguageStudent, teacher: Any | None, vocab_size: int, max_length: int, eos_id: int | None = None
) -> Any:
    """The student of a recipe; `eos_id` is the teacher's where it is not given.

    Raises:
        ConfigError: more layers than the teacher has, or another vocabulary than the one it shall start from.
    """
    match student:
        case LikeTeacher():
            return _spread(student, teacher)
        case TinyGpt():
            made = llama(student, vocab_size, max_length, _end_of(teacher) if eos_id is None else eos_id)
            if student.init == "embedding":
                _start_from_embedding(made, teacher)
            return made
    assert_never(student)


def _spread(student: LikeTeacher, teacher: Any | None) -> Any:
    """The teacher, or evenly spread layers of it."""
    from edgetf.models.decoders.slicing import keep_layers

    if teacher is None:
        raise ConfigError("student.architecture: got teacher, allowed: tinygpt, as this teacher gives no weights")
    there, wanted = int(teacher.config.num_hidden_layers), student.num_hidden_layers
    if wanted is not None and wanted > there:
        raise ConfigError(f"student.num_hidden_layers: got {wanted}, allowed: up to the teacher's {there}")
    return keep_layers(teacher, spread_layers(there, wanted or there))


def _start_from_embedding(student: Any, teacher: Any | None) -> None:
    """Put the principal directions of the teacher's embedding into the student's."""
    import torch

    if teacher is None:
        raise ConfigError("student.init: got embedding, allowed: random, as this teacher gives no weights")
    words, target = teacher.get_input_embeddings().weight, student.get_input_embeddings().weight
    if len(words) != len(target):
        raise ConfigError(
            f"student.init: got embedding with {len(target)} tokens, allowed: the teacher's {len(words)}; "
            "use its tokenizer, or init=random"
        )
    with torch.no_grad():
        found = principal_directions(words.detach().float(), target.shape[1])
        target[:, : found.shape[1]] = found / found.std() * target.std()


def principal_directions(words: Tensor, width: int) -> Tensor:
    """Rows (V, min(width, H)) of an embedding E (V, H), centred, on its first right singular vectors.

    Tokens near in the teacher are then near in the student from the first step.
    """
    import torch

    centred = words - words.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred.T @ centred)  # rows are the right singular vectors of E
    found: Tensor = centred @ directions[: min(width, words.shape[1])].T
    return found


def _end_of(teacher: Any | None) -> int | None:
    number = None if teacher is None else teacher.config.eos_token_id
    return number[0] if isinstance(number, list) else number
