"""What a stage of a language recipe is given beside its config and its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.core.artifact import Artifact
from edgetf.core.progress import Report
from edgetf.data.corpus.documents import Corpus


@dataclass(frozen=True)
class LanguageContext:
    """The recipe, its documents, whom a student learns from (None until there is one), and where remarks go.

    The tutor is the teacher, with the student's vocabulary where that was pruned.
    """

    recipe: LanguageRecipe
    corpus: Corpus
    report: Report
    say: Callable[[str], None]
    tutor: Artifact | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: it works in silence."""
        return {**vars(self), "report": _unheard, "say": _unheard}

    def with_tutor(self, tutor: Artifact) -> LanguageContext:
        """The same with the model that later stages learn from."""
        return replace(self, tutor=tutor)

    def the_tutor(self) -> Artifact:
        """The tutor of a stage that cannot do without one."""
        if self.tutor is None:
            raise RuntimeError("the pipeline runs this stage only after there is a teacher")
        return self.tutor


def _unheard(*words: Any) -> None:
    """Progress of a process that works in silence."""
