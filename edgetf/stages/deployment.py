"""What a search for speed measures: the file that will ship, on the device and input that it will be judged by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgetf.core.schemes import Format, Scheme
from edgetf.models.heads import CLASSIFIER, Head


@dataclass(frozen=True)
class Deployment:
    """What will run: how the file is written, on how many threads and tokens it is timed."""

    model_format: Format
    scheme: Scheme
    threads: int
    seq_len: int
    rewrite: bool = True
    head: Head = CLASSIFIER

    def record(self) -> dict[str, Any]:
        """What a measurement depends on, as JSON; a classifier's says nothing of its head."""
        known = asdict(self)
        return known if self.head != CLASSIFIER else {name: value for name, value in known.items() if name != "head"}
