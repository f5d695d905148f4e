"""Tiny models, tokenizers and rows, made in a moment from a seed: what the tests run on instead of downloads.

Everything is written with the ecosystem's own writers, so that a tiny checkpoint opens like a real one. Its biases and
norms are random too, so that no mistake hides behind a zero or a one.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.metrics import Floats
from edgetf.data.dataset import Dataset, Split
from edgetf.runtime.inputs import Batch

FAMILY_NAMES = ("bert", "roberta", "distilbert", "mobilebert")
LABELS = ("money", "sport", "weather")
MAX_TOKENS = 64

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIALS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")  # padding is 1 there, as in the real RoBERTa

_CLASS_WORDS = {
    "money": "bank shares profit market price trade loan budget tax dollar bonds debt".split(),
    "sport": "goal match player team coach league striker referee stadium tennis medal race".split(),
    "weather": "rain storm cloud sunny wind snow frost thunder humid degrees forecast fog".split(),
}
_OTHER_WORDS = (
    "the a of in on at to for and but with after before today yesterday week people city news report says new old "
    "big small more less very again still"
).split()
WORDS = tuple([word for words in _CLASS_WORDS.values() for word in words] + _OTHER_WORDS)


def tiny_rows(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """`n` different texts, each with its class: a few words of the class among words that all classes share.

    The classes take turns, so any three rows in a line hold all of `LABELS`.
    """
    rng = random.Random(seed)
    rows: list[tuple[str, str]] = []
    seen: set[str] = set()
    while len(rows) < n:
        label = LABELS[len(rows) % len(LABELS)]
        words = rng.choices(_CLASS_WORDS[label], k=rng.randint(3, 5)) + rng.choices(_OTHER_WORDS, k=rng.randint(0, 10))
        rng.shuffle(words)
        text = " ".join(words)
        if text not in seen:
            seen.add(text)
            rows.append((text, label))
    return rows


def tiny_scores(n: int, seed: int = 0) -> list[tuple[str, float]]:
    """`tiny_rows`, each with a number: that of its class in `LABELS`, and a tenth for every word of the text."""
    return [(text, LABELS.index(label) + 0.1 * len(text.split())) for text, label in tiny_rows(n, seed)]


def tiny_tagged(n: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """`n` different rows of words and tags; entities are one or two words of a class, told by the words themselves."""
    rng = random.Random(seed)
    rows: dict[tuple[str, ...], list[str]] = {}
    while len(rows) < n:
        words: list[str] = []
        tags: list[str] = []
        for _ in range(rng.randint(1, 3)):
            others = rng.choices(_OTHER_WORDS, k=rng.randint(1, 4))
            words, tags = words + others, tags + ["O"] * len(others)
            label = rng.choice(LABELS)
            words, tags = [*words, rng.choice(_CLASS_WORDS[label][:6])], [*tags, f"B-{label.upper()}"]
            if rng.random() < 0.5:
                words, tags = [*words, rng.choice(_CLASS_WORDS[label][6:])], [*tags, f"I-{label.upper()}"]
        rows[tuple(words)] = tags
    return [(list(words), tags) for words, tags in rows.items()]


def tiny_split(n: int, seed: int = 0) -> Split:
    """`tiny_rows` as a split, with the position in `LABELS` as the class."""
    rows = tiny_rows(n, seed)
    return Split([text for text, _ in rows], None, [LABELS.index(label) for _, label in rows])


def tiny_dataset(train: int = 192, dev: int = 30, test: int = 30) -> Dataset:
    """Three splits of different rows."""
    rows = tiny_split(train + dev + test)
    return Dataset(
        label_names=list(LABELS),
        train=rows.select(list(range(train))),
        dev=rows.select(list(range(train, train + dev))),
        test=rows.select(list(range(train + dev, train + dev + test))),
        fingerprint=f"tiny-{train}-{dev}-{test}",
        duplicates=0,
        conflicts=0,
    )


def write_csv(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """Write rows as a CSV file with the columns `text` and `label`."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    return path


def tiny_tokenizer(folder: Path, words: Sequence[str] = WORDS, specials: Sequence[str] = BERT_SPECIALS) -> None:
    """Write a WordPiece tokenizer of whole words and single letters: tokenizer.json, vocab.txt, tokenizer_config.json.

    It puts [CLS] and [SEP] around a text, and gives the second text of a pair token type 1, as BERT does.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*specials, *dict.fromkeys(words), *letters, *(f"##{letter}" for letter in letters)]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(specials))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": MAX_TOKENS,
        **{f"{name.strip('[]').lower()}_token": name for name in BERT_SPECIALS},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def tiny_config(family: str, labels: Sequence[str], num_layers: int = 2) -> Any:
    """The transformers config of a tiny classifier: hidden 32, 4 heads, 64 neurons."""
    from transformers import BertConfig, DistilBertConfig, MobileBertConfig, RobertaConfig

    named = {"id2label": dict(enumerate(labels)), "label2id": {name: k for k, name in enumerate(labels)}}
    size = {"vocab_size": _vocab_size(), "initializer_range": 0.1, **named}
    shape = {"hidden_size": 32, "num_hidden_layers": num_layers, "num_attention_heads": 4, "intermediate_size": 64}
    match family:
        case "bert":
            return BertConfig(**size, **shape, max_position_embeddings=MAX_TOKENS)
        case "roberta":
            # positions begin after the padding id
            return RobertaConfig(**size, **shape, max_position_embeddings=MAX_TOKENS + 2, type_vocab_size=1,
                                 bos_token_id=0, pad_token_id=1, eos_token_id=2)  # fmt: skip
        case "distilbert":
            return DistilBertConfig(**size, dim=32, hidden_dim=64, n_layers=num_layers, n_heads=4,
                                    max_position_embeddings=MAX_TOKENS)  # fmt: skip
        case "mobilebert":
            return MobileBertConfig(**size, **shape, max_position_embeddings=MAX_TOKENS, embedding_size=16,
                                    intra_bottleneck_size=16, num_feedforward_networks=2)  # fmt: skip
        case _:
            raise ValueError(f"{family}: not one of {', '.join(FAMILY_NAMES)}")


def tiny_classifier(
    family: str, folder: Path, labels: Sequence[str] = LABELS, seed: int = 0, num_layers: int = 2
) -> Path:
    """Write a random classifier of a family, with its tokenizer, as a Hugging Face checkpoint; gives back `folder`."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(tiny_config(family, labels, num_layers))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, safe_serialization=True)
    tiny_tokenizer(folder, specials=ROBERTA_SPECIALS if family == "roberta" else BERT_SPECIALS)
    return folder


def random_batch(rows: int, tokens: int, pad_id: int, seed: int = 0, lengths: Sequence[int] | None = None) -> Batch:
    """Random ids, with a second text and with padding in every row but the first, or up to these lengths."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 100, size=(rows, tokens))
    mask = np.ones_like(ids)
    types = (np.arange(tokens)[None] >= tokens // 2).astype(np.int64).repeat(rows, axis=0)
    for row in range(1 if lengths is None else 0, rows):
        real = int(rng.integers(1, tokens + 1)) if lengths is None else lengths[row]
        ids[row, real:], mask[row, real:], types[row, real:] = pad_id, 0, 0
    return Batch(ids, mask, types)


def torch_logits(model: Any, batch: Batch) -> Floats:
    """What a classifier says, through its own call, in its own precision."""
    import torch

    from edgetf.models.families import family_of

    named = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if family_of(model.config.model_type).takes_token_types:
        named["token_type_ids"] = batch.token_type_ids
    with torch.no_grad():
        return np.asarray(model(**{name: torch.from_numpy(rows) for name, rows in named.items()}).logits.double())


def accuracy(model: Any, rows: Any, encoder: Any) -> float:
    """Share of the rows that a classifier gets right."""
    from edgetf.training.teacher import by_row, infer

    logits = by_row(infer(model, rows, encoder), rows)
    labels = dict(zip(rows.sources, rows.labels, strict=True))
    return float(np.mean([logits[row].argmax() == label for row, label in labels.items()]))


def _vocab_size() -> int:
    return len(BERT_SPECIALS) + len(dict.fromkeys(WORDS)) + 2 * 26 - len({"a"} & set(WORDS))
