"""The ladder: from the cheapest quantization upwards until one loses no more than the recipe allows.

| rung | what it makes |
|--|--|
| `dynamic` | INT8 weights, activations scaled for each input |
| `static` | INT8 weights and activations, ranges by calibration; the recipe's method, then the others |
| `smooth` | the same of a model whose outliers were moved from activations into weights (SmoothQuant) |
| `sensitive` | the best so far with the most sensitive groups of weights in float, twice as many each time |
| `qat` | both of a model that was trained on with rounded weights and activations |

The first two are made in any case, because only the clock says which is faster here; the others where those lose too
much. Every file, and what was measured of it, is an artifact of the run, so that a second run starts where one ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import get_args

from typing_extensions import assert_never

from edgetf.config.quantization import Rung as RungName
from edgetf.core.artifact import Artifact
from edgetf.core.errors import ParityError
from edgetf.core.schemes import CalibrationMethod, Format, Scheme
from edgetf.formats.quantization import Quantization
from edgetf.pipeline.store import Made
from edgetf.pipeline.trials import Trials
from edgetf.validation.rungs import Rung, best_so_far, choose, pareto_front, refusals, settled

ALPHA = 0.5  # of SmoothQuant: half of an outlier's size goes into the weights


@dataclass(frozen=True)
class Trial:
    """A file that was made, with what was measured of it, and the fp32 file that it was quantized from."""

    rung: Rung
    made: Made
    plain: Artifact
    how: Quantization | None  # None: it is the fp32 file itself


@dataclass
class Climb:
    """All that a ladder tried for one format, and what it came to."""

    model_format: Format
    most: float
    plain: Trial
    trials: list[Trial] = field(default_factory=list)  # of quantized files
    failed: dict[str, str] = field(default_factory=dict)  # by name, why a file could not be made

    @property
    def rungs(self) -> list[Rung]:
        """What was measured, of the fp32 file first."""
        return [trial.rung for trial in (self.plain, *self.trials)]

    @property
    def chosen(self) -> Trial:
        """The fastest that keeps the budget; else the best so far."""
        if not self.trials:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.failed.items())
            raise ParityError(f"quantize.accuracy_drop: no rung made a {self.model_format} file ({reasons})")
        found = choose(self.rungs, self.most) or best_so_far(self.rungs)
        return next(trial for trial in (self.plain, *self.trials) if trial.rung is found)

    @property
    def met(self) -> bool:
        """Whether some file keeps the budget."""
        return choose(self.rungs, self.most) is not None

    @property
    def settled(self) -> bool:
        """Whether there is nothing to gain from the rungs above."""
        return settled(self.rungs, self.most)

    def said(self) -> str:
        """The outcome in a line."""
        rung, tried = self.chosen.rung, len(self.trials) + len(self.failed)
        budget = f"accuracy_drop={self.most:g}"
        outcome = f"{rung.name} keeps {budget}" if self.met else f"none keeps {budget}, the best so far is {rung.name}"
        if rung is self.plain.rung:
            return (
                f"ladder: of {tried} {self.model_format} files none keeps {budget} and is faster than fp32, which stays"
            )
        return (
            f"ladder: of {tried} {self.model_format} files {outcome}: drop {rung.drop:.4f}, "
            f"{rung.latency_ratio:.2f} of the fp32 latency, {rung.size_ratio:.2f} of its size"
        )

    def to_json(self) -> dict[str, object]:
        """As the report holds it."""
        refused, front = refusals(self.rungs, self.most), pareto_front(self.rungs)
        return {
            "format": self.model_format,
            "accuracy_drop": self.most,
            "met": self.met,
            "chosen": self.chosen.rung.name,
            "front": front,
            "rungs": [{**vars(rung), "refused": refused.get(rung.name)} for rung in self.rungs],
            "failed": self.failed,
        }


class Ladder:
    """Climbs for one exported file of one model."""

    def __init__(self, most: float, trials: Trials) -> None:
        self.trials, self.stage, self.source = trials, trials.stage, trials.source
        made = Made(trials.exported, cached=True)
        plain = Trial(trials.unquantized(trials.exported), made, trials.exported, None)
        self.climb = Climb(trials.model_format, most, plain)

    def go(self) -> Climb:
        """Rung after rung, until a file keeps the budget."""
        for name in self.stage.rungs:
            self._rung(name)
            if self.climb.settled and name != "dynamic":
                break
        return self.climb

    def _rung(self, name: RungName) -> None:
        match name:
            case "dynamic":
                self._try("dynamic", self.trials.plain(self.source), self._how("w8a8_dynamic"))
            case "static":
                for method in self._methods():
                    self._try(f"static-{method}", self.trials.plain(self.source), self._how("w8a8", method))
                    if self.climb.settled:
                        break
            case "smooth":
                self._both("smooth", self.trials.smoothed(self.source, ALPHA))
            case "sensitive":
                self._keep_in_float()
            case "qat":
                self._both("qat", self.trials.trained(self.source, self.stage.qat))
            case _:
                assert_never(name)

    def _methods(self) -> Iterator[CalibrationMethod]:
        first = self.stage.calibration.method
        yield first
        yield from (method for method in get_args(CalibrationMethod) if method != first)

    def _both(self, name: str, checkpoint: Artifact) -> None:
        """A changed model in both flavours of INT8."""
        plain = self.trials.plain(checkpoint)
        self._try(f"{name}-dynamic", plain, self._how("w8a8_dynamic"))
        self._try(f"{name}-static", plain, self._how("w8a8", self._best_method()))

    def _best_method(self) -> CalibrationMethod:
        """The calibration whose file lost the least so far."""
        static = [trial for trial in self.climb.trials if trial.how and trial.how.scheme == "w8a8"]
        best = min(static, key=lambda trial: trial.rung.drop, default=None)
        return best.how.method if best and best.how else self.stage.calibration.method

    def _keep_in_float(self) -> None:
        """The file that lost the least, with its most sensitive groups in float: one, two, four … of them.

        Where every file so far answered wrongly, that is the dynamic one.
        """
        name, plain, start = "dynamic", self.trials.plain(self.source), self._how("w8a8_dynamic")
        if self.climb.trials:
            least = best_so_far(self.climb.rungs)
            trial = next(trial for trial in self.climb.trials if trial.rung is least)
            name, plain, start = least.name, trial.plain, trial.how or start
        groups = self.trials.sensitivities(plain, start)
        count = 1
        while count < len(groups):
            kept = tuple(path for paths in list(groups.values())[:count] for path in paths)
            how = replace(start, keep_float=(*start.keep_float, *kept))
            made = self._try(f"{name}-float-{count}", plain, how)
            if self.climb.settled or (made is not None and made.latency_ratio >= 1):
                return
            count *= 2

    def _how(self, scheme: Scheme, method: CalibrationMethod | None = None) -> Quantization:
        return self.trials.quantization(scheme, method)

    def _try(self, name: str, plain: Artifact, how: Quantization) -> Rung | None:
        """Make and measure a file; one that a device refuses, or that answers wrongly, is put down with why."""
        refusal = self.trials.refusal(how)
        if refusal is not None:
            self.climb.failed[name] = refusal
            return None
        try:
            made = self.trials.quantized(name, plain, how)
            rung = self.trials.measured(name, made.artifact, plain)
        except ParityError as error:
            self.climb.failed[name] = str(error)
            return None
        self.climb.trials.append(Trial(rung, made, plain, how))
        return rung
