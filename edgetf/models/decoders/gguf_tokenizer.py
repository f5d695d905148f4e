"""The tokenizer of a GGUF file as tokenizer.json.

transformers reads Gemma's as Unigram, which adds the scores of pieces up. They are ranks of a BPE: SentencePiece joins
the two neighbors whose union has the highest score until none has one (Kudo & Richardson 2018). "▁capital" (-4785)
would so never be taken, as "▁c", "ap", "it" and "al" add up to more. Here a pair's rank is the score of what it
becomes; characters that no piece holds are written as their bytes, and pieces that the maker gave (`USER`) are found
first. Byte-level BPE (GPT-2, Llama 3, Qwen) has its merges in the file, and the name of how words are parted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError, needs
from edgetf.core.files import write_json
from edgetf.runtime.encoder import TOKENIZER

NORMAL, CONTROL, USER, BYTE = 1, 3, 4, 6  # kinds of a token (gguf.TokenType)
SPACE = "▁"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {"llama-bpe": _CONTRACTIONS + r"\p{N}{1,3}" + _REST, "qwen2": _CONTRACTIONS + r"\p{N}" + _REST}
_GPT2_SPLITS = ("gpt-2", "gpt2", "default")
Fields = dict[str, Any]  # what follows "tokenizer.ggml." in the names of a file's fields


def write_tokenizer(fields: Fields, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json.

    Raises:
        ArtifactError: words are parted in a way that is not known here.
    """
    with needs("compress"):
        from tokenizers import AddedToken, processors
    tokens, kinds = fields["tokens"], fields["token_type"]
    tokenizer = _sentencepiece(fields) if fields["model"] == "llama" else _byte_level(fields)
    named = {"bos", "eos", "unknown", "padding"}
    ids = {name: int(fields[f"{name}_token_id"]) for name in named if f"{name}_token_id" in fields}
    special = {number for number, kind in enumerate(kinds) if kind == CONTROL} | set(ids.values())
    added = [
        AddedToken(_text(tokens[k], fields), normalized=k not in special, special=k in special)
        for k, kind in enumerate(kinds)
        if k in special or kind == USER
    ]
    tokenizer.add_tokens(added)  # they are in the vocabulary, so that each keeps its id
    ends = {"bos": fields.get("add_bos_token", False), "eos": fields.get("add_eos_token", False)}
    if any(there and name in ids for name, there in ends.items()):
        first = [tokens[ids["bos"]]] if ends["bos"] and "bos" in ids else []
        last = [tokens[ids["eos"]]] if ends["eos"] and "eos" in ids else []
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*first, "$A", *last],
            pair=[*first, "$A", *last, *(f"{token}:1" for token in first), "$B:1", *(f"{token}:1" for token in last)],
            special_tokens=[(token, tokens.index(token)) for token in [*first, *last]],
        )
    tokenizer.save(str(folder / TOKENIZER))
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **{name: tokens[ids[key]] for key, name in names.items() if key in ids},
        },
    )


def _text(token: str, fields: Fields) -> str:
    """A token as the vocabulary holds it: SentencePiece writes a space as ▁, GGUF has that undone in some."""
    return token.replace(" ", SPACE) if fields["model"] == "llama" else token


def _sentencepiece(fields: Fields) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens = [_text(token, fields) for token in fields["tokens"]]
    vocab = {token: number for number, token in enumerate(tokens)}
    unknown = tokens[fields["unknown_token_id"]] if "unknown_token_id" in fields else None
    joins = merges_of(tokens, fields["scores"], fields["token_type"])
    tokenizer = Tokenizer(models.BPE(vocab, joins, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    undone: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    to_marks: Any = normalizers.Replace(" ", SPACE)
    if fields.get("add_space_prefix", True):
        to_marks = normalizers.Sequence([normalizers.Prepend(SPACE), to_marks])
        undone.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = to_marks
    tokenizer.decoder = decoders.Sequence(undone)
    return tokenizer


def merges_of(tokens: list[str], scores: list[float], kinds: list[int]) -> list[tuple[str, str]]:
    """Each pair of normal pieces whose union is one, that of the highest score first.

    >>> merges_of(["a", "b", "c", "ab", "bc", "abc"], [-9, -9, -9, -1, -2, -3], [1] * 6)
    [('a', 'b'), ('b', 'c'), ('ab', 'c'), ('a', 'bc')]
    """
    score = {token: scores[k] for k, token in enumerate(tokens) if kinds[k] == NORMAL}
    found = [
        (value, cut, token)
        for token, value in score.items()
        for cut in range(1, len(token))
        if token[:cut] in score and token[cut:] in score
    ]
    return [(token[:cut], token[cut:]) for _, cut, token in sorted(found, reverse=True)]


def _byte_level(fields: Fields) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    how = fields.get("pre", "default")
    vocab = {token: number for number, token in enumerate(fields["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in fields["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=how == "llama-bpe"))
    tokenizer.decoder = decoders.ByteLevel()
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if how in _GPT2_SPLITS:
        tokenizer.pre_tokenizer = plain
    elif how == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, plain])
    elif how in _SPLITS:
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        words = pre_tokenizers.Split(Regex(_SPLITS[how]), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_only])
        if how == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
    else:
        known = ", ".join([*_GPT2_SPLITS, "smollm", *_SPLITS])
        raise ArtifactError(
            f"tokenizer.ggml.pre: got {how}, allowed: {known}; give the Hugging Face folder of the model instead"
        )
    return tokenizer
