"""`golden.jsonl` of a decoder: prompts with the tokens it writes after them, the likeliest one each time.

Of an fp32 file they are those of transformers, of a quantized one those of this runtime when it was made. One other
token makes all that follow other ones, so that tokens are compared up to the first difference. An fp32 file must write
the same; a quantized one, whose kernels round otherwise on other processors, must at least begin most texts alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError
from edgetf.core.files import read_lines

GOLDEN = "golden.jsonl"
BEGIN_ALIKE = 0.5  # least share of the prompts after which a quantized file writes the golden first token
TokenLists = Sequence[Sequence[int]]


@dataclass(frozen=True)
class GreedyRows:
    """Prompts as token ids, and what is written after each."""

    prompts: list[list[int]]
    tokens: list[list[int]]

    @property
    def longest(self) -> int:
        """Tokens of the longest continuation."""
        return max(len(each) for each in self.tokens)


def read_greedy(folder: Path) -> GreedyRows:
    """Read the file.

    Raises:
        ArtifactError: missing or broken.
    """
    path = folder / GOLDEN
    rows = read_lines(path)
    try:
        found = GreedyRows([_ids(row["ids"]) for row in rows], [_ids(row["greedy"]) for row in rows])
        if not found.prompts or not all(found.prompts):
            raise ValueError("it has no prompt, or an empty one")
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the recipe again") from None


def _ids(words: Any) -> list[int]:
    return [int(word) for word in words]


def parity(golden: TokenLists, written: TokenLists) -> dict[str, Any]:
    """How many prompts are continued alike, and how many tokens are until the first that differs.

    >>> parity([[1, 2, 3], [4, 5]], [[1, 2, 9], [4, 5]])
    {'prompts': 2, 'same': 1, 'tokens': 5, 'same_tokens': 4, 'same_first': 2}
    """
    shared = [_shared(a, b) for a, b in zip(golden, written, strict=True)]
    same = [count == len(a) == len(b) for count, a, b in zip(shared, golden, written, strict=True)]
    return {
        "prompts": len(golden),
        "same": sum(same),
        "tokens": sum(map(len, golden)),
        "same_tokens": sum(shared),
        "same_first": sum(count > 0 or not len(a) for count, a in zip(shared, golden, strict=True)),
    }


def parity_problem(scheme: str, found: dict[str, Any]) -> str | None:
    """Why a file does not write what it should, or None.

    >>> found = parity([[1, 2], [3]], [[1, 9], [3]])
    >>> parity_problem("fp32", found)
    'parity: 1 of 2 golden prompts is continued otherwise, by 2 of 3 tokens alike'
    >>> parity_problem("w4", found)
    """
    other = found["prompts"] - found["same"]
    if scheme == "fp32" and other:
        verb = "is" if other == 1 else "are"
        alike = f"{found['same_tokens']} of {found['tokens']} tokens"
        return f"parity: {other} of {found['prompts']} golden prompts {verb} continued otherwise, by {alike} alike"
    if found["same_first"] < BEGIN_ALIKE * found["prompts"]:
        return f"parity: {found['same_first']} of {found['prompts']} golden prompts get their golden first token"
    return None


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens that two begin with alike."""
    pairs = zip(a, b, strict=False)
    return next((place for place, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
