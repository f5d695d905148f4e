"""Texts that a teacher in memory writes on from beginnings of documents (Kim & Rush 2016, sequence level)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from edgetf.config.language.stages import SequenceLevelConfig
from edgetf.core.artifact import key_of
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError, DataError
from edgetf.core.files import read_lines, whole_file
from edgetf.core.places import cache_folder
from edgetf.core.progress import Report
from edgetf.runtime.encoder import TOKENIZER
from edgetf.training.language.sampling import write_on
from edgetf.training.language.tutor import Tutor

BATCH = 32  # texts that are written at once; each batch is kept as it is done


def tutor_texts(
    config: SequenceLevelConfig, tutor: Tutor, facts: DecoderFacts, documents: Sequence[str], seed: int, report: Report
) -> list[str]:
    """As many texts as the config says, each with its beginning, drawn by the seed and kept in the cache.

    Where there are fewer documents than samples, they take turns.

    Raises:
        DataError: no document is longer than a beginning.
    """
    folder = tutor.artifact.path
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    prompts = _prompts(config, tokenizer, facts, documents)
    record = {**config.model_dump(mode="json"), "samples": BATCH}
    found: list[str] = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        report(start, len(prompts), "texts of the teacher")
        key = key_of([tutor.fingerprint, record, part, seed, start])
        path = cache_folder() / "written" / f"{key[:24]}.jsonl"
        found += _kept(path) or _write(path, config, tutor, facts, tokenizer, part, f"{seed}/{start}")
    return found


def _prompts(
    config: SequenceLevelConfig, tokenizer: Any, facts: DecoderFacts, documents: Sequence[str]
) -> list[list[int]]:
    """The tokens that each text begins with."""
    first = [] if facts.bos_id is None else [facts.bos_id]
    wanted, prompts = config.prompt_tokens, []
    for document in documents:
        ids = tokenizer.encode(document, add_special_tokens=False).ids
        if len(ids) > wanted:
            prompts.append([*first, *ids[:wanted]])
        if len(prompts) == config.samples:
            break
    if not prompts:
        raise DataError(f"sequence_level.prompt_tokens: got {wanted}, no document is longer; lower it")
    return [prompts[number % len(prompts)] for number in range(config.samples)]


def _kept(path: Path) -> list[str]:
    """The texts of a batch that was written before."""
    try:
        return [str(text) for text in read_lines(path)]
    except ArtifactError:
        return []


def _write(
    path: Path, config: SequenceLevelConfig, tutor: Tutor, facts: DecoderFacts, tokenizer: Any,
    prompts: list[list[int]], seed: str,
) -> list[str]:  # fmt: skip
    """Let the teacher write a batch of texts, up to the token that ends each."""
    generator = torch.Generator().manual_seed(int(key_of(seed)[:12], 16))
    room = facts.max_length - len(prompts[0])
    device = next(tutor.model.parameters()).device
    ids = write_on(
        tutor.model, torch.tensor(prompts, device=device), min(config.max_new_tokens, room), config.temperature,
        config.top_p, facts.eos_ids, generator,
    )  # fmt: skip
    begun = 0 if facts.bos_id is None else 1
    texts = []
    for row in ids.tolist():
        written = row[len(prompts[0]) :]
        end = next((place for place, token in enumerate(written) if token in facts.eos_ids), len(written))
        texts.append(tokenizer.decode([*row[begun : len(prompts[0])], *written[:end]]))
    with whole_file(path) as part:
        part.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    return texts
