"""What onnxruntime-genai wants to find beside a decoder's file: `genai_config.json`, in its words.

The search settings are those of greedy decoding; an app changes them. Source: the config reference of
onnxruntime.ai/docs/genai, and what its model builder writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.decoder import DecoderFacts
from edgetf.core.files import write_json
from edgetf.formats.decoder.names import IDS, LOGITS, MASK, POSITIONS

GENAI_CONFIG, GENERATION_CONFIG = "genai_config.json", "generation_config.json"
_TYPES = {"gemma3_text": "gemma3_text", "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2"}


def genai_config(facts: DecoderFacts, family: str, model_file: str, inputs: tuple[str, ...], shared: bool) -> Any:
    """The config of a file; `shared`: its attention can write new keys into the buffer of the old ones."""
    given = {name: name for name in (IDS, MASK, POSITIONS) if name in inputs}
    ends = list(facts.eos_ids)
    return {
        "model": {
            "type": _TYPES.get(family, "llama" if POSITIONS not in inputs else "decoder"),
            "context_length": facts.max_length,
            "vocab_size": facts.vocab_size,
            "bos_token_id": facts.bos_id if facts.bos_id is not None else (ends[0] if ends else 0),
            "eos_token_id": ends if len(ends) != 1 else ends[0],
            "pad_token_id": ends[0] if ends else 0,
            "decoder": {
                "filename": model_file,
                "hidden_size": facts.hidden_size,
                "head_size": facts.head_dim,
                "num_attention_heads": facts.num_attention_heads,
                "num_key_value_heads": facts.num_key_value_heads,
                "num_hidden_layers": facts.num_hidden_layers,
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "inputs": {
                    **given,
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    LOGITS: LOGITS,
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "do_sample": False,
            "max_length": facts.max_length,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": shared,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 1,
            "top_p": 1.0,
        },
    }


def write_generation_config(folder: Path, facts: DecoderFacts) -> None:
    """What transformers and Optimum read of a decoder: its first and last tokens."""
    ends = list(facts.eos_ids)
    record = {
        "bos_token_id": facts.bos_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": ends[0] if ends else None,
    }
    known = {name: value for name, value in record.items() if value is not None}
    write_json(folder / GENERATION_CONFIG, {"_from_model_config": False, **known})
