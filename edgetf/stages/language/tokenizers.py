"""A student can learn a teacher's distributions only where a token means the same to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.errors import ConfigError
from edgetf.core.files import read_json
from edgetf.runtime.encoder import TOKENIZER

_SAME = ("model", "normalizer", "pre_tokenizer", "added_tokens")  # what says which text becomes which ids


def refuse_other_tokens(student: Path, tutor: Path) -> None:
    """Compare the tokenizers of two folders.

    Raises:
        ConfigError: they give a text different ids.
    """
    ours, theirs = (_parts(folder) for folder in (student, tutor))
    if ours == theirs:
        return
    sizes = [len(parts["model"].get("vocab", ())) for parts in (ours, theirs)]
    raise ConfigError(
        f"distill: the student's tokenizer ({sizes[0]} tokens) is not the teacher's ({sizes[1]} tokens), so that their "
        "distributions are over different tokens; set distill.teacher=0, distill.on_policy=null and "
        "distill.sequence_level, which learns from the texts that the teacher writes"
    )


def _parts(folder: Path) -> dict[str, Any]:
    record = read_json(folder / TOKENIZER)
    return {name: record.get(name) for name in _SAME}
