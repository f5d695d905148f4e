"""How an answer of a chat model becomes probabilities of classes.

The answer names a class `a`; one that names none is a row of NaN.
Where the endpoint lists tokens t that could have come first, with probability q_t = exp(logprob_t):

    m_c = sum of q_t over the tokens of class c: the generated one is of class a, another of the only class whose name
          begins with it, else of none
    u   = min((1 - sum m) / U, min q)   for each of the U classes without a token: an even share of what is left, but
                                        a class more likely than the last of the list would be in the list
    p_c = (m_c or u) / Z                Z makes the sum 1

Where it lists none, p is 1 for `a`.
Source: OpenAI API reference, Create chat completion (platform.openai.com/docs/api-reference/chat/create).
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRIMMED = " \"'`*.,:;!?()[]<>“”‘’«»"


def content(choice: dict[str, Any]) -> str:
    """The text of an answer; a model that declines has none."""
    content = choice["message"].get("content")
    return content if isinstance(content, str) else ""


def tokens(answer: dict[str, Any], said: str) -> tuple[tuple[int, int], bool]:
    """Tokens of the request and of the answer, and whether they are guessed, at four characters each."""
    try:
        return (int(answer["usage"]["prompt_tokens"]), int(answer["usage"]["completion_tokens"])), False
    except (LookupError, TypeError, ValueError):
        return (math.ceil(len(said) / 4), math.ceil(len(content(answer["choices"][0])) / 4)), True


def probabilities(choice: dict[str, Any], names: list[str]) -> NDArray[np.float32] | None:
    """(C,) by the formula above, or None where the answer names no class."""
    answered = _named(content(choice), names)
    if answered is None:
        return None
    listed = _listed(choice)
    mass = np.zeros(len(names))
    for place, (token, probability) in enumerate(listed.items()):
        k = _begun(token, names) if place else answered
        if k is not None:
            mass[k] += probability
    if mass[answered] == 0:  # nothing is listed
        return np.array([k == answered for k in range(len(names))], np.float32)
    unseen = mass == 0
    left = max(0.0, 1.0 - float(mass.sum()))
    mass[unseen] = min(left / max(1, int(unseen.sum())), *listed.values())
    return np.asarray(mass / mass.sum(), np.float32)


def _listed(choice: dict[str, Any]) -> dict[str, float]:
    """The probability of each token that could have come first, the generated one leading; empty if not said."""
    try:
        first = choice["logprobs"]["content"][0]
        candidates = [first, *first["top_logprobs"]]
        return {str(each["token"]): math.exp(min(0.0, each["logprob"])) for each in candidates}
    except (LookupError, TypeError):
        return {}


def fold(text: str) -> str:
    """A name or an answer without what makes no difference; a name of punctuation alone stays."""
    folded = " ".join(text.casefold().replace("_", " ").split())
    return folded.strip(TRIMMED) or folded


def _begun(token: str, names: list[str]) -> int | None:
    """The only class whose name begins with a token."""
    found = [k for k, name in enumerate(names) if name.startswith(fold(token))]
    return found[0] if len(found) == 1 else None


def _named(answer: str, names: list[str]) -> int | None:
    """The only class that an answer names: by all of it, a word in it, the beginning of a word, or cut short."""
    said = fold(answer)

    def holds(name: str, end: str) -> bool:
        # ASCII: in a script that writes without spaces, every place may be the end of a word.
        return re.search(rf"(?<!\w){re.escape(name)}{end}", said, re.ASCII) is not None

    for found in (
        [k for k, name in enumerate(names) if name == said],
        [k for k, name in enumerate(names) if holds(name, r"(?!\w)")],
        [k for k, name in enumerate(names) if holds(name, "")],
        [k for k, name in enumerate(names) if said and name.startswith(said)],
    ):
        if found:
            return found[0] if len(found) == 1 else None
    return None
