"""Decoders on disk: a folder that AutoModelForCausalLM opens, with safetensors and a fast tokenizer. Never a pickle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError, needs
from edgetf.core.files import read_json, write_json
from edgetf.core.quiet import quiet
from edgetf.models.checkpoint import copy_tokenizer
from edgetf.models.decoders.configs import older_form, open_config

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
_CHAT_TEMPLATE = "chat_template.jinja"
_EAGER = ("gemma2",)  # caps its attention scores, which torch's fused attention cannot


def load_decoder(folder: Path) -> Any:
    """The causal language model of a folder, float32, in eval mode.

    Raises:
        ArtifactError: an unknown family, weights that do not fit the config or are damaged, or only a pickle.
    """
    config = open_config(folder)
    with needs("compress"), quiet():
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM
    attention = "eager" if config.model_type in _EAGER else "sdpa"
    try:
        with quiet():
            model, found = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
                attn_implementation=attention, output_loading_info=True,
            )  # fmt: skip
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        message = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{folder}: the {config.model_type} weights cannot be loaded ({message})") from None
    if missing := sorted(found["missing_keys"]):
        raise ArtifactError(
            f"{folder}: {len(missing)} tensors of a {config.model_type} are not in its weights, e.g. {missing[0]}"
        )
    return model.eval()


def save_decoder(model: Any, folder: Path, tokenizer_from: Path) -> int:
    """Write the model and, unless it lies there already, the tokenizer; returns the number of weights."""
    with quiet():
        model.save_pretrained(folder, safe_serialization=True)
    write_json(folder / CONFIG, older_form(read_json(folder / CONFIG)))
    if tokenizer_from != folder:
        copy_decoder_tokenizer(tokenizer_from, folder)
    return count_parameters(model)


def count_parameters(model: Any) -> int:
    """Weights of a model; a tied output layer is the embedding, and counts once."""
    return int(sum(parameter.numel() for parameter in model.parameters()))


def copy_decoder_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer, and how a chat is written where the source says that.

    Raises:
        ArtifactError: the source holds no tokenizer that works without its Python code.
    """
    copy_tokenizer(source, folder)
    copy_chat_template(source, folder)


def copy_chat_template(source: Path, folder: Path) -> None:
    """Copy how a chat is written, where the source says that."""
    if (source / _CHAT_TEMPLATE).is_file():
        shutil.copyfile(source / _CHAT_TEMPLATE, folder / _CHAT_TEMPLATE)
