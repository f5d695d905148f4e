"""Make an artifact of a run, or find it in the store, and let the user see which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgetf.core.artifact import Artifact, Spec
from edgetf.pipeline.store import Made, Store
from edgetf.report.progress import Reporter


class Maker:
    """What the workshops of all recipes share."""

    def __init__(self, store: Store, reporter: Reporter) -> None:
        self.store, self.reporter = store, reporter

    def make(
        self, name: str, stage: str, config: Any, parents: list[Artifact], packages: tuple[str, ...],
        write: Callable[[Path], tuple[Spec, float]],
    ) -> Made:  # fmt: skip
        """The artifact `name`, written with its progress shown where it is not there yet."""

        def shown(out: Path) -> tuple[Spec, float]:
            with self.reporter.step(name):
                return write(out)

        made = self.store.make(name, stage, config, parents, packages, shown)
        if made.cached:
            self.reporter.say(f"{name}: reused")
        return made
