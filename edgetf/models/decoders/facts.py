"""What a runtime must know of a decoder, read from its folder: heads, positions, windows and special tokens.

Gemma 3 turns positions by two bases: its local layers, which see a sliding window, by a small one without scaling, and
every sixth layer, which sees all, by a large one. Llama 3.1 slows some pairs of channels. Other rules (YaRN) are not
known here: their facts hold no `thetas`, so that nobody turns their cached keys wrongly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError, needs
from edgetf.core.files import read_json
from edgetf.core.rope import llama3_factors
from edgetf.models.decoders.checkpoint import GENERATION_CONFIG
from edgetf.models.decoders.configs import older_form, open_config
from edgetf.runtime.encoder import TOKENIZER

_SLIDING = "sliding_attention"


def decoder_facts(folder: Path, max_length: int | None = None) -> DecoderFacts:
    """The facts of the decoder in a folder, for texts of up to `max_length` tokens; None: all its positions.

    Raises:
        ArtifactError: an unknown family, or a config that cannot be read.
    """
    config = open_config(folder)
    record = older_form(config.to_dict())
    heads, hidden = config.num_attention_heads, config.hidden_size  # transformers gives GPT-2's n_head this name too
    layers, positions = int(config.num_hidden_layers), int(config.max_position_embeddings)
    learned = config.model_type == "gpt2"
    windows = _windows(record, layers)
    width = getattr(config, "head_dim", None) or hidden // heads
    turns = _Turns() if learned else _turns(record, windows, width, folder)
    return DecoderFacts(
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=width,
        hidden_size=hidden,
        vocab_size=config.vocab_size,
        max_length=min(max_length or positions, positions),
        positions="learned" if learned else "rope",
        thetas=turns.thetas,
        rope_scaling=turns.scaling,
        rope_factors=turns.factors,
        windows=windows,
        bos_id=first_id(folder),
        eos_ids=_ends(folder, record),
    )


def _windows(record: dict[str, Any], layers: int) -> tuple[int | None, ...]:
    """The sliding window of every layer."""
    kinds = record.get("layer_types") or [None] * layers
    return tuple(int(record["sliding_window"]) if kind == _SLIDING else None for kind in kinds)


class _Turns(NamedTuple):
    """How RoPE turns: its base in every layer, what divides positions there, and what slows pairs of channels."""

    thetas: tuple[float, ...] = ()
    scaling: tuple[float, ...] = ()
    factors: tuple[float, ...] = ()


def _turns(record: dict[str, Any], windows: tuple[int | None, ...], width: int, folder: Path) -> _Turns:
    """By the rule of a config; nothing by one that is not known here."""
    rule = record.get("rope_scaling") or {}
    kind, theta = rule.get("rope_type", rule.get("type", "default")), float(record["rope_theta"])
    if kind == "llama3":
        factor, low, high, trained = _numbers_of_llama3(rule, folder)
        return _Turns((theta,) * len(windows), factors=llama3_factors(theta, width, factor, low, high, int(trained)))
    if kind not in ("default", "linear"):
        return _Turns()
    local, factor = record.get("rope_local_base_freq"), float(rule.get("factor", 1.0))
    turns = [(float(local), 1.0) if window and local else (theta, factor) for window in windows]
    return _Turns(tuple(base for base, _ in turns), tuple(divisor for _, divisor in turns))


def _numbers_of_llama3(rule: dict[str, Any], folder: Path) -> tuple[float, float, float, float]:
    """How much slower, at most so many turns, at least so many, in so many positions.

    Raises:
        ArtifactError: one is missing or makes no sense.
    """
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    try:
        factor, low, high, trained = (float(rule[name]) for name in names)
    except (KeyError, TypeError, ValueError):
        factor = low = high = trained = 0.0
    if not (factor > 0 and 0 < low < high and trained >= 1):
        raise ArtifactError(
            f"{folder / 'config.json'}: rope_scaling: got {rule}, allowed for llama3: {', '.join(names)}, all "
            "positive, the low one below the high one; take the config that the model was published with"
        )
    return factor, low, high, trained


def first_id(folder: Path) -> int | None:
    """The id that stands before every text: what the tokenizer puts there, or a bos that also parts documents."""
    if not (folder / TOKENIZER).is_file():
        return None
    with needs("compress"):
        from tokenizers import Tokenizer
    tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
    encoded = tokenizer.encode("a")
    if encoded.special_tokens_mask and encoded.special_tokens_mask[0]:
        return int(encoded.ids[0])
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    bos, eos = _content(settings.get("bos_token")), _content(settings.get("eos_token"))
    number = tokenizer.token_to_id(bos) if bos and bos == eos else None
    return None if number is None else int(number)


def _content(token: Any) -> str | None:
    """A token's text, which stands alone or in a record."""
    found = token.get("content") if isinstance(token, dict) else token
    return str(found) if found else None


def _ends(folder: Path, record: dict[str, Any]) -> tuple[int, ...]:
    """The ids that end a text; generation_config.json may name more than config.json."""
    path = folder / GENERATION_CONFIG
    named = [record.get("eos_token_id"), read_json(path).get("eos_token_id") if path.is_file() else None]
    ids = [number for one in named for number in (one if isinstance(one, list) else [one])]
    return tuple(sorted({int(number) for number in ids if number is not None}))
