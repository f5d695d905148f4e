"""The options of ``edgetf infer`` for language models, as they were given, and what they mean together."""

from __future__ import annotations

from dataclasses import dataclass

from edgetf.core.errors import ConfigError
from edgetf.runtime.decode.sampling import Sampling
from edgetf.runtime.decode.streaming import SINKS, Window

MAX_NEW_TOKENS = 128
TEMPERATURE, TOP_P = 0.8, 0.95  # small models wander off above, and repeat themselves below
_DRAWING = ("temperature", "top_k", "top_p", "seed")  # mean nothing where the likeliest token is taken


@dataclass(frozen=True)
class Writing:
    """None and False: not given."""

    stream: bool = False
    max_new_tokens: int | None = None
    greedy: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    window: int | None = None
    sinks: int | None = None
    threads: int | None = None

    def given(self) -> list[str]:
        """The options that were given.

        >>> Writing(greedy=True, top_p=0.0).given()
        ['--greedy', '--top-p']
        """
        return [
            _option(name) for name, value in vars(self).items() if not (value is None or value is False or value == ())
        ]

    def sampling(self) -> Sampling:
        """How tokens are chosen.

        Raises:
            ConfigError: options that exclude each other, or a number out of its range.
        """
        penalty = 1.0 if self.repetition_penalty is None else self.repetition_penalty
        if self.greedy:
            idle = [_option(name) for name in _DRAWING if getattr(self, name) is not None]
            if idle:
                raise ConfigError(f"infer: --greedy: draws nothing, so leave out {', '.join(idle)}")
            return Sampling(repetition_penalty=penalty)
        return Sampling(
            temperature=TEMPERATURE if self.temperature is None else self.temperature,
            top_k=self.top_k or 0,
            top_p=TOP_P if self.top_p is None else self.top_p,
            seed=self.seed or 0,
            repetition_penalty=penalty,
        )

    def streaming(self) -> Window | None:
        """The window, where there is one.

        Raises:
            ConfigError: sinks without a window, or nothing but sinks would fit.
        """
        if self.window is None:
            if self.sinks is not None:
                raise ConfigError("infer: --sinks: needs a window; add --window")
            return None
        return Window(self.window, SINKS if self.sinks is None else self.sinks)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
