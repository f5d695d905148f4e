"""What a stage is given beside its config and its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgetf.config.recipe import Recipe
from edgetf.core.artifact import Artifact
from edgetf.core.progress import Report
from edgetf.core.task_names import by_word
from edgetf.data.dataset import Dataset
from edgetf.models.heads import Head
from edgetf.runtime.encoder import Encoder


@dataclass(frozen=True)
class Context:
    """The recipe, its data, the task's teacher (None until there is one), and where progress and remarks go."""

    recipe: Recipe
    data: Dataset
    report: Report
    say: Callable[[str], None]
    teacher: Artifact | None = None
    tutor: Artifact | None = None  # the teacher with the student's tokenizer, where that is another
    ensemble: tuple[Artifact, ...] = ()  # teachers beside the first; a student learns from the mean of their logits

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: it works in silence."""
        return {**vars(self), "report": _unheard, "say": _unheard}

    def with_teacher(self, teacher: Artifact) -> Context:
        """The same with the teacher that later stages learn from."""
        return replace(self, teacher=teacher)

    def with_ensemble(self, others: list[Artifact]) -> Context:
        """The same with more teachers beside the first."""
        return replace(self, ensemble=tuple(others))

    def with_seed(self, seed: int) -> Context:
        """The same with another seed in its recipe."""
        return replace(self, recipe=self.recipe.model_copy(update={"seed": seed}))

    def with_tutor(self, tutor: Artifact) -> Context:
        """The same with a teacher that reads the student's tokens."""
        return replace(self, tutor=tutor)

    @property
    def head(self) -> Head:
        """What stands on every model of the recipe."""
        return Head(self.recipe.task, self.recipe.pooling)

    def the_teacher(self) -> Artifact:
        """The teacher of a stage that cannot do without one."""
        if self.teacher is None:
            raise RuntimeError("the pipeline runs this stage only after there is a teacher")
        return self.teacher

    def encoder(self, folder: Path, pad_id: int) -> Encoder:
        """The tokenizer in a folder, with the recipe's length rule."""
        data = self.recipe.data
        return Encoder(folder, data.max_length, data.long_texts, pad_id, by_word(self.recipe.task))

    def input_details(self, pad_id: int) -> dict[str, Any]:
        """How a model's input is made; every artifact carries it."""
        data, pooling = self.recipe.data, self.recipe.pooling
        return {
            "task": self.recipe.task,
            **({"pooling": pooling.model_dump()} if pooling else {}),
            "max_length": data.max_length,
            "long_texts": data.long_texts,
            "pad_id": pad_id,
            "label_names": self.data.label_names,
        }


def _unheard(*words: object) -> None:
    """A report, or a remark, to nobody."""
