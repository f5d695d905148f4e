"""The description of a task: what is measured on its answers, and how they are said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgetf.core.metrics import Floats, Metric, wilson

Labels = Any  # one a text: classes (N,), numbers (N,), a list of tags, or the vectors (N, H) of the teacher


@dataclass(frozen=True)
class Said:
    """One answer as JSON, and as a line of text."""

    record: dict[str, Any]
    line: str


@dataclass(frozen=True)
class Task:
    """How answers, arrays (N, C) with a row for each text (or word), are judged and said.

    `labels` makes labels of what JSON holds of them. `compare` takes the answers, the teacher's, the labels and the
    class names; `floor` the last three, and says why a comparison with this teacher means nothing, or None; `score`
    takes answers, labels and names, and gives the headline's value; `say` takes texts, answers and names.
    """

    headline: str  # the metric that a table shows, higher for a better model
    unit: str  # its unit; a fraction is a share of the rows
    drop: str | None  # what is lost of it against the teacher
    output: str  # what the graph's output and the columns of the golden rows are called
    pipeline_tag: str  # the hub's word for the task
    answers: str  # what a model card calls what the names name
    labels: Callable[[list[Any]], Labels]
    compare: Callable[[Floats, Floats, Labels, Sequence[str]], list[Metric]]
    floor: Callable[[Floats, Labels, Sequence[str]], str | None]
    score: Callable[[Floats, Labels, Sequence[str]], float]
    say: Callable[[Sequence[str], Floats, Sequence[str]], list[Said]]
    prepare: Callable[[str], str] = str  # what a user's text becomes before it is read
    pairs: bool = True  # whether it may be asked of two texts
    labelled: bool = True  # whether its rows have labels
    dev_wilson: bool = True  # whether a headline that is a fraction counts rows, and has Wilson's interval
    any_width: bool = False  # whether answers may be wider or narrower than the teacher's

    @property
    def counts_rows(self) -> bool:
        """Whether the headline of dev rows is the share of them that is right."""
        return self.unit == "fraction" and self.dev_wilson

    @property
    def dev_name(self) -> str:
        """What the headline is called where torch measured it on the dev rows."""
        return f"dev_{self.headline}"

    def dev_metric(self, value: float, n: int) -> Metric:
        """The headline of n dev rows."""
        ci95 = wilson(round(value * n), n) if self.counts_rows else None
        return Metric(self.dev_name, value, self.unit, n, ci95)
