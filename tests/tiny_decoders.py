"""Tiny decoders with random weights, one of each family, and a byte-level BPE tokenizer of a few sentences."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from edgetf.core.files import write_json

END = "<|endoftext|>"
SENTENCES = tuple(
    f"the {quality} {animal} {verb} over the {place} and {more}."
    for quality in ("quick", "lazy", "small", "old")
    for animal in ("fox", "dog", "cat", "hen")
    for verb in ("jumps", "walks", "looks")
    for place, more in (("fence", "sleeps"), ("river", "sings"), ("hill", "eats bread"))
)
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0,
    "pad_token_id": None, "initializer_range": 0.2,
}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True, "rope_theta": 5000.0},
    "qwen2": {"tie_word_embeddings": True, "rope_theta": 1_000_000.0},
    "qwen3": {"tie_word_embeddings": False, "rope_theta": 1_000_000.0},
    "gemma": {"pad_token_id": 0},
    "gemma2": {"sliding_window": 8, "query_pre_attn_scalar": 8, "pad_token_id": 0},
    "gemma3_text": {
        "sliding_window": 8, "query_pre_attn_scalar": 8, "pad_token_id": 0, "rope_theta": 500_000.0,
        "rope_local_base_freq": 20_000.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    },
}  # fmt: skip
LLAMA_3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
FAMILIES = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt2")


def tiny_decoder(family: str, vocab_size: int = 300, **changes: Any) -> Any:
    """A decoder of this family, whose weights and norms are all random."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if family == "gpt2":
        fields: dict[str, Any] = {
            "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 48, "n_positions": 64, "bos_token_id": 0,
            "eos_token_id": 0, "initializer_range": 0.2, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        }  # fmt: skip
    else:
        fields = {**SHAPE, **CHANGES[family]}
    torch.manual_seed(0)
    settings = deepcopy({**fields, **changes})  # transformers 5 writes into the rule for positions that it is given
    config = AutoConfig.for_model(family, vocab_size=vocab_size, **settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager" if family == "gemma2" else "sdpa")
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.dim() == 1:  # norms and biases, which start at one and zero
                tensor.add_(0.2 * torch.randn_like(tensor))
    return model.float().eval()


def tiny_tokenizer(folder: Path, vocab_size: int = 300) -> None:
    """Write a byte-level BPE tokenizer of the sentences, as a Hugging Face folder holds it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(SENTENCES, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}
    write_json(folder / "tokenizer_config.json", settings)


def decoder_folder(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """A folder with a tiny decoder and its tokenizer."""
    from edgetf.models.decoders.checkpoint import save_decoder

    tiny_tokenizer(folder)
    save_decoder(tiny_decoder(family, **changes), folder, folder)
    return folder


def language_context(source: str = "teacher", max_length: int = 32, **changes: Any) -> Any:
    """What a language stage is given: a recipe of a pretrained teacher, and the sentences as documents."""
    from edgetf.config.language.recipe import LanguageRecipe
    from edgetf.data.corpus.documents import Corpus
    from edgetf.stages.language.context import LanguageContext

    recipe = LanguageRecipe.model_validate(
        {
            "name": "tiny",
            "task": "language_modeling",
            "teacher": {"source": source},
            "data": {"sources": ["texts"], "max_length": max_length},
            "stages": [{"stage": "export"}],
            **changes,
        }
    )
    corpus = Corpus(SENTENCES[:36], SENTENCES[36:42], SENTENCES[42:], fingerprint="sentences")
    return LanguageContext(recipe, corpus, lambda *progress: None, lambda remark: None)


def sealed(folder: Path, runs: Path) -> Any:
    """A folder with a decoder as the artifact that a stage of the pipeline would have written."""
    import shutil

    from edgetf.core.artifact import seal
    from edgetf.models.decoders.checkpoint import count_parameters, load_decoder
    from edgetf.stages.language.details import torch_spec

    def write(out: Path) -> Any:
        shutil.copytree(folder, out, dirs_exist_ok=True)
        return torch_spec(out, count_parameters(load_decoder(out)), language_context()), 0.0

    return seal(runs / "0-teacher", stage="teacher", key="0", parents=(), made={}, write=write)
