"""The models that a device's latency is fitted on: a dozen random encoders.

They are chosen to part the costs that a fit must tell from one another: narrow and deep against wide and flat, heads
of 32 against heads of 64, feed-forwards from once to four times the width, weights that stay in a cache against weights
that don't, and from 16 to 256 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgetf.core.schemes import Scheme

PROBE_SCHEMES: tuple[Scheme, ...] = ("fp32", "w8a8_dynamic")  # what every runtime runs without texts to calibrate by


@dataclass(frozen=True)
class Architecture:
    """A random encoder: `ffn` neurons a layer, timed at each of `lengths` tokens."""

    layers: int
    width: int
    heads: int
    ffn: int
    lengths: tuple[int, ...]
    family: str = "bert"

    @property
    def name(self) -> str:
        """Such as `bert-4x256-h4-f1024`."""
        return f"{self.family}-{self.layers}x{self.width}-h{self.heads}-f{self.ffn}"


PROBES = (
    Architecture(2, 128, 2, 512, (16, 64, 256)),
    Architecture(8, 128, 4, 256, (24, 96, 192)),
    Architecture(4, 192, 3, 768, (32, 128, 256)),
    Architecture(1, 256, 4, 1024, (16, 48, 192)),
    Architecture(6, 256, 8, 512, (24, 64, 256)),
    Architecture(3, 384, 12, 1536, (16, 96, 192)),
    Architecture(8, 384, 6, 768, (32, 64, 128)),
    Architecture(2, 512, 8, 2048, (24, 128, 256)),
    Architecture(6, 512, 8, 1024, (16, 48, 96)),
    Architecture(3, 640, 10, 2560, (32, 64, 192)),
    Architecture(2, 768, 24, 1536, (24, 96, 256)),
    Architecture(6, 768, 12, 3072, (16, 48, 128)),
)
