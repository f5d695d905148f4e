"""Golden tokens: what a decoder writes after prompts, the likeliest token each time, by torch and by the runtime.

The two add in another order, so that logits differ in their last digits. Where torch's two likeliest tokens are nearer
to each other than the logits are to those of the runtime, the choice is a tie: a golden text ends before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import DataError, ParityError
from edgetf.core.files import read_lines
from edgetf.core.metrics import Floats
from edgetf.runtime.decode.generate import generate
from edgetf.runtime.decode.session import DecoderSession, Ids
from edgetf.runtime.decode.text import TextCodec
from edgetf.validation.language.golden import GOLDEN

PROMPTS, WORDS, TOKENS = 20, 12, 64  # prompts, words of each, tokens written after it
LONGEST_PROMPT = 32  # tokens
LOGIT_ERROR = 1e-3  # largest difference of a logit, as a share of the largest logit
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Golden:
    """A prompt, and the tokens after it."""

    text: str
    ids: tuple[int, ...]
    greedy: tuple[int, ...] = ()


def golden_prompts(documents: Sequence[str], codec: TextCodec, facts: DecoderFacts) -> list[Golden]:
    """Beginnings of documents spread over all; where these are few, more pieces of them.

    Raises:
        DataError: there is no word in any document.
    """
    count = min(PROMPTS, len(documents))
    chosen = [documents[k * len(documents) // count].split() for k in range(count)]
    longest = max(1, min(LONGEST_PROMPT, facts.max_length // 2))
    pieces = [words[turn * WORDS : (turn + 1) * WORDS] for turn in range(PROMPTS) for words in chosen]
    texts = [" ".join(words) for words in pieces if words][:PROMPTS]
    if not texts:
        raise DataError("data.sources: no dev document has a word to begin a golden prompt with; give more text")
    return [Golden(text, tuple(codec.ids(text)[:longest].tolist())) for text in texts]


def written_by_torch(model: Any, facts: DecoderFacts, prompts: list[Golden], tick: Tick) -> list[Golden]:
    """The prompts with what transformers' `generate` writes after them."""
    import torch
    from transformers import GenerationConfig

    rows = []
    for number, prompt in enumerate(prompts):
        tick(number, len(prompts))
        ends = list(facts.eos_ids)
        greedy = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=_room(facts, prompt),
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
            bos_token_id=facts.bos_id,
        )
        ids = torch.tensor([prompt.ids])
        with torch.no_grad():
            whole = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
        rows.append(replace(prompt, greedy=tuple(whole[0, len(prompt.ids) :].tolist())))
    return rows


def written_by_runtime(session: DecoderSession, prompts: list[Golden]) -> list[Golden]:
    """The prompts with what this runtime writes after them."""
    return [
        replace(prompt, greedy=tuple(generate(session, prompt.ids, max_new_tokens=_room(session.facts, prompt))))
        for prompt in prompts
    ]


def _room(facts: DecoderFacts, prompt: Golden) -> int:
    return min(TOKENS, facts.max_length - len(prompt.ids))


def hold_parity(
    name: str, model: Any, session: DecoderSession, rows: list[Golden], exact: bool = True
) -> tuple[list[Golden], dict[str, float]]:
    """Hold an fp32 file against torch, whose tokens `rows` has; gives the rows, cut before ties, and what was found.

    A cache that is not `exact` changes logits: then the rows are those of the runtime, and nothing is refused.

    Raises:
        ParityError: another token where there is no tie, or logits that differ by more than rounding.
    """
    written = written_by_runtime(session, rows)
    if not exact:
        errors = [_logit_error(model, session, row)[0] for row in rows]
        return written, compared(rows, written, max(errors))
    found = {"max_logit_error": 0.0, "greedy_equal": 0, "prompts": len(rows), "ties": 0}
    kept = []
    for row, ours in zip(rows, written, strict=True):
        error, wanted = _logit_error(model, session, row)
        found["max_logit_error"] = max(found["max_logit_error"], error)
        if not error <= LOGIT_ERROR * float(np.abs(wanted).max()):  # NaN is no parity
            raise ParityError(
                f"{name}: logits differ from torch by {error:.2g}, allowed: {LOGIT_ERROR:g} of the largest; "
                "the graph does not compute this model"
            )
        place = _first_difference(row.greedy, ours.greedy)
        if place is None:
            found["greedy_equal"] += 1
            kept.append(row)
            continue
        second, first = np.sort(wanted[len(row.ids) + place - 1])[-2:]
        if first - second > 2 * error:
            raise ParityError(
                f"{name}: after {row.text!r} and {place} tokens it writes token {ours.greedy[place]}, torch "
                f"{row.greedy[place]}, which is likelier by {first - second:.2g}; the graph does not compute this model"
            )
        found["ties"] += 1
        kept.append(replace(row, greedy=row.greedy[:place]))
    return kept, found


def _logit_error(model: Any, session: DecoderSession, row: Golden) -> tuple[float, Floats]:
    """The largest difference of a logit of a golden text, and torch's logits (T, V)."""
    import torch

    ids = _whole(row, session)
    with torch.no_grad():
        wanted: Floats = model(input_ids=torch.from_numpy(ids[None])).logits[0].float().numpy()
    given, _ = session.run(ids, session.start())
    return float(np.abs(given - wanted).max()), wanted


def _whole(row: Golden, session: DecoderSession) -> Ids:
    """A prompt and what follows it (T,)."""
    return np.array([*row.ids, *row.greedy][: session.facts.max_length], dtype=np.int64)


def compared(rows: list[Golden], ours: list[Golden], logit_error: float) -> dict[str, float]:
    """How a quantized file's tokens stand to those of the fp32 file."""
    same = [_first_difference(a.greedy, b.greedy[: len(a.greedy)]) is None for a, b in zip(rows, ours, strict=True)]
    return {"max_logit_error": logit_error, "greedy_equal": sum(same), "prompts": len(rows)}


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Where two begin to differ; the end of one is a difference too."""
    pairs = enumerate(zip(a, b, strict=False))
    place = next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))
    return None if place == len(a) == len(b) else place


def logit_error(session: DecoderSession, other: DecoderSession, rows: list[Golden]) -> float:
    """The largest difference of a logit between two files that read the same golden texts."""
    worst = 0.0
    for row in rows:
        ids = _whole(row, session)
        a, b = (each.run(ids, each.start())[0] for each in (session, other))
        worst = max(worst, float(np.abs(a - b).max()))
    return worst


def write_goldens(folder: Path, rows: list[Golden]) -> None:
    """Write `golden.jsonl`."""
    lines = [json.dumps({"text": row.text, "ids": row.ids, "greedy": row.greedy}, ensure_ascii=False) for row in rows]
    (folder / GOLDEN).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_goldens(folder: Path) -> list[Golden]:
    """What `write_goldens` wrote."""
    return [Golden(row["text"], tuple(row["ids"]), tuple(row["greedy"])) for row in read_lines(folder / GOLDEN)]
