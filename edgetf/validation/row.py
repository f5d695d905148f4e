"""One variant on one device: what was measured of it, and how it was asked to be; as reports hold it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgetf.core.budget import Verdict

AWAY = frozenset(("not_measured", "predicted"))  # of a row: nothing was run on the device


@dataclass(frozen=True)
class Settings:
    """How latency is taken: at `seq_len` tokens (None: the longest that the model takes), and at `more_lens` too."""

    threads: int = 1
    samples: int = 60
    seq_len: int | None = None
    more_lens: tuple[int, ...] = ()
    seconds: float = 5.0  # for each model, to go on until its median is known to 1 %


@dataclass
class DeviceRow:
    """One variant on one device, as in the `devices` list of a report; None is "not measured"."""

    device: str
    how: str = "measured"
    backend: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    seq_len: int | None = None
    latency_p50_ms: float | None = None
    latency_p50_ci95_ms: list[float] | None = None
    latency_p90_ms: float | None = None
    latency_p99_ms: float | None = None
    n: int = 0
    samples_ms: list[float] = field(default_factory=list)
    reference: dict[str, Any] | None = None
    speedup: float | None = None
    speedup_ci95: list[float] | None = None
    alone: str | None = None  # why it was timed without its reference
    trusted: bool | None = None
    doubts: list[str] = field(default_factory=list)  # why it is not trusted, each with its remedy
    retries: list[dict[str, Any]] = field(default_factory=list)  # why it was timed again, and what each run gave
    lengths: list[dict[str, Any]] = field(default_factory=list)  # the same at other numbers of tokens
    decoding: list[dict[str, Any]] = field(default_factory=list)  # of a decoder: one entry a context length
    load_ms: float | None = None
    first_ms: float | None = None
    peak_rss_bytes: int | None = None
    instructions: int | None = None  # of one inference; these five where the processor is emulated
    instructions_by_class: dict[str, int] = field(default_factory=dict)
    reference_instructions: int | None = None
    instructions_ratio: float | None = None  # this file's / the reference's
    parity: dict[str, Any] = field(default_factory=dict)  # with the answers of this machine
    predicted: dict[str, Any] | None = None  # latency_p50_ms and interval95_ms by the device's fit, where it is away
    machine: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)  # clock, temperature, other work … while it was timed
    metrics: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    size_bytes: int | None = None
    reference_size_bytes: int | None = None
    measured_at: str | None = None  # ISO 8601, UTC
    seconds: float | None = None  # that validating took
    problems: list[str] = field(default_factory=list)  # what makes the result wrong, whatever the budget
    verdict: Verdict = "not_measured"
    why: list[str] = field(default_factory=list)

    def unmeasured(self) -> list[str]:
        """Why the device, or else a bound of the budget, was not measured."""
        if self.how == "not_measured":
            return self.why
        return [check["why"] for check in self.checks if check["verdict"] == "not_measured"]


def row_from_json(record: dict[str, Any]) -> DeviceRow:
    """A row as it was written."""
    return DeviceRow(**record)
