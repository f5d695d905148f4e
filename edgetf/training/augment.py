"""More texts for distillation on a small data set (TinyBERT, Jiao et al. 2020, section 4; EDA, Wei & Zou 2019).

The teacher labels the new texts. Each has a random generator of its own, so that other rows do not change it, unless
it is spliced from one of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForMaskedLM, AutoTokenizer

from edgetf.algorithms import augmentation
from edgetf.config.data import AugmentConfig
from edgetf.core.artifact import key_of
from edgetf.core.errors import ArtifactError
from edgetf.core.files import read_lines, whole_file
from edgetf.core.places import cache_folder
from edgetf.core.progress import Report
from edgetf.core.quiet import quiet
from edgetf.data.dataset import Split
from edgetf.models.checkpoint import WEIGHTS, locate_teacher, read_config
from edgetf.runtime.encoder import TOKENIZER

Texts = Sequence[str]
Columns = tuple[list[str], list[str] | None]
Editor = Callable[[list[str], list[random.Random]], list[str]]

_BATCH = 32
_TOKENS = 4096  # of one forward pass of a masked language model: 500 MB of logits for 30,000 pieces


def augmented_texts(
    config: AugmentConfig, texts: Texts, pairs: Texts | None, teacher_folder: Path, report: Report
) -> Columns:
    """`config.copies` new texts of every row, less those that equal an original or an earlier one.

    The methods take turns. With pairs a copy changes one of the two texts.

    Raises:
        ArtifactError: the kind of the teacher's tokenizer, or the masked language model, cannot be used.
    """
    columns = [list(texts)] if pairs is None else [list(texts), list(pairs)]
    made = [[text for text in column for _ in range(config.copies)] for column in columns]
    total, done = len(made[0]), 0
    for turn, method in enumerate(config.methods):
        edit = _editor(config, method, columns, teacher_folder)
        mine = range(turn, total, len(config.methods))
        for start in range(0, len(mine), _BATCH):
            block = mine[start : start + _BATCH]
            rngs = [random.Random(f"{config.seed}/{n // config.copies}/{n % config.copies}") for n in block]
            sides = [rng.choice(made) for rng in rngs]
            changed = edit([side[n] for side, n in zip(sides, block, strict=True)], rngs)
            for side, n, text in zip(sides, block, changed, strict=True):
                side[n] = text
            done += len(block)
            report(done, total, f"new texts ({method})")
    return _new(columns, made)


def _new(columns: list[list[str]], made: list[list[str]]) -> Columns:
    """The made rows that are like no row before them; an empty one could only come from a row that was empty."""
    texts, *rest = [[*old, *new] for old, new in zip(columns, made, strict=True)]
    both = Split(texts, rest[0] if rest else None, [])
    first = {both.identity(row): row for row in reversed(range(len(texts)))}
    kept = sorted(row for row in first.values() if row >= len(columns[0]))
    return [texts[row] for row in kept], [rest[0][row] for row in kept] if rest else None


def _editor(config: AugmentConfig, method: str, columns: list[list[str]], teacher_folder: Path) -> Editor:
    """What changes a block of texts, each by its own generator."""
    if method == "mask":
        return _masked_editor(config)
    change: Callable[[str, random.Random], str]
    if method == "delete":
        change = partial(augmentation.delete_words, share=config.share)
    elif method == "splice":
        every = [text for column in columns for text in column]
        change = partial(_spliced, every=every)
    else:
        near = _near_words(config.neighbors, columns, teacher_folder)
        change = partial(augmentation.replace_words, share=config.share, candidates=near)
    return lambda texts, rngs: list(map(change, texts, rngs))


def _spliced(text: str, rng: random.Random, every: Texts) -> str:
    """A text with the end of one that is drawn from all."""
    return augmentation.splice_texts(text, rng.choice(every), rng)


def _near_words(count: int, columns: list[list[str]], folder: Path) -> Callable[[str], list[str]]:
    """For a word of the texts that is one piece: the nearest ones in the teacher's word embedding (V, H)."""
    pieces = _whole_words(Tokenizer.from_file(str(folder / TOKENIZER)))
    words = {n: word for n, word in pieces.items() if word.isalpha() and len(word) > 2}  # shorter: parts of words
    present = {word for column in columns for text in column for word in augmentation.split_words(text)[1::2]}
    present |= {word.lower() for word in present}
    needed = [n for n, word in words.items() if word in present]
    with safe_open(folder / WEIGHTS, framework="pt") as tensors:
        name = next(name for name in tensors.keys() if name.endswith("word_embeddings.weight"))  # noqa: SIM118
        nearest = augmentation.neighbors(tensors.get_tensor(name), needed, count, among=list(words))
    near = {words[n]: [words[other] for other in others] for n, others in nearest.items()}
    return lambda word: near.get(word) or near.get(word.lower(), [])


def _whole_words(tokenizer: Any) -> dict[int, str]:
    """The whole words in the vocabulary of a tokenizer of the library `tokenizers`."""
    kind, vocabulary = type(tokenizer.model).__name__, tokenizer.get_vocab(with_added_tokens=False)
    return augmentation.whole_words(kind, vocabulary, tokenizer.decode_batch)


def _load_masked(source: str) -> tuple[Any, Any]:
    """The tokenizer and the model of a folder, hub: or package:, with a head for masked words."""
    place = "data.augment.masked_lm"
    try:
        folder = locate_teacher(source)
        read_config(folder)
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
            model, info = AutoModelForMaskedLM.from_pretrained(
                folder, attn_implementation="eager", use_safetensors=True, output_loading_info=True
            )
    except ArtifactError as error:
        raise ArtifactError(str(error).replace("teacher.source", place, 1)) from None
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{place}: {source} cannot be loaded ({' '.join(str(error).split())[:200]})") from None
    missing = sorted(info["missing_keys"]) or ["mask token"] * (tokenizer.mask_token_id is None)
    if missing:
        raise ArtifactError(f"{place}: {source} is no masked language model, it has no {missing[0]}; give one that is")
    return tokenizer, model.float().eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _masked_editor(config: AugmentConfig) -> Editor:
    """Puts a masked language model's words in the place of some; what is beyond its length stays."""
    tokenizer, model = _load_masked(str(config.masked_lm))
    names = _whole_words(tokenizer.backend_tokenizer)
    words = torch.tensor(list(names))
    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings - 2)  # RoBERTa's begin at 2

    @torch.inference_mode()
    def edit(texts: list[str], rngs: list[random.Random]) -> list[str]:
        coded = tokenizer(texts, truncation=True, max_length=longest, padding=True, return_offsets_mapping=True)
        own, mask = (torch.tensor(coded[name]) for name in ("input_ids", "attention_mask"))  # (B, T)
        ids, spots, changed = own.clone(), [], []
        for row, (text, rng) in enumerate(zip(texts, rngs, strict=True)):
            found = augmentation.one_piece_words(text, coded["offset_mapping"][row])
            found = [spot for spot in found if own[row, spot[2]] != tokenizer.unk_token_id]
            spots.append(augmentation.picked(found, rng, config.share))
            ids[row, [piece for _, _, piece in spots[row]]] = tokenizer.mask_token_id
        step = max(1, _TOKENS // ids.shape[1])
        for start in range(0, len(texts), step):
            part = slice(start, start + step)
            logits = model(ids[part].to(model.device), attention_mask=mask[part].to(model.device)).logits
            for row, scores in enumerate(logits, start):  # (T, V)
                at = [piece for _, _, piece in spots[row]]
                likely = augmentation.likely_words(scores[at].cpu(), own[row, at], words, config.neighbors)
                drawn = [names[rngs[row].choices(*options)[0]] for options in likely]
                changed.append(augmentation.filled(texts[row], spots[row], drawn))
        return changed

    return edit


def cached_augmented(
    config: AugmentConfig, texts: Texts, pairs: Texts | None, teacher_folder: Path, teacher_digest: str, report: Report
) -> Columns:
    """`augmented_texts`, read from the cache, where they are written if they are not there or damaged."""
    key = key_of(["augmented", config.model_dump(), texts, pairs, teacher_digest])
    path = cache_folder() / "augmented" / f"{key[:24]}.jsonl"
    try:
        kept, others = map(list, zip(*read_lines(path), strict=True))
    except (ArtifactError, ValueError, TypeError):  # a line that is no list of two
        new = augmented_texts(config, texts, pairs, teacher_folder, report)
        rows = zip(new[0], new[1] or [""] * len(new[0]), strict=True)
        with whole_file(path) as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return new
    return kept, None if pairs is None else others
