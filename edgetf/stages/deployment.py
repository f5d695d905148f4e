"""What a search for speed measures: the file that will ship, on the device and input that it will be judged by."""

from __future__ import annotations

from dataclasses import dataclass

from edgetf.core.device import Format, Scheme


@dataclass(frozen=True)
class Deployment:
    """What will run: how the file is written, on how many threads and tokens it is timed."""

    model_format: Format
    scheme: Scheme
    threads: int
    seq_len: int
    rewrite: bool = True
