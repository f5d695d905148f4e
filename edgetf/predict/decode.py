"""Tokens a second of a decoder at batch 1, which memory bounds: every token reads all weights once.

    t = (W + C·n) / β + ops · t_op

W are the bytes of the weights that a token reads, C the bytes of keys and values of one token, n the tokens before it,
β the bandwidth that decoders reach on the device, and t_op what an operator costs by itself, which only counts where a
model is tiny. β stands in the device's profile as the range over the models that were seen there; a model of another
shape or runtime may lie outside by `OTHER_MODELS` either way. The interval is from the best of all to the worst of all,
no quantile; the prediction itself takes the geometric mean of either range.

Sources: Williams, Waterman and Patterson 2009 (roofline); each β in devices/*.yaml with its own. t_op: 0.16 to 0.51 µs
were fitted on a server's core (docs/prediction.md); a small core is taken to be up to six times as slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from edgetf.core.decoder import DecoderFacts
from edgetf.core.device import DeviceProfile
from edgetf.core.errors import DeviceError
from edgetf.core.hardware import DecodeBandwidth
from edgetf.predict.decode_bytes import TokenCost, token_cost

OTHER_MODELS = 1.2
OP_SECONDS = (0.16e-6, 3.1e-6)


@dataclass(frozen=True)
class DecodeForecast:
    """Predicted tokens a second behind `context` tokens, with the worst and the best that the ranges allow."""

    context: int
    bytes_per_token: float
    tokens_per_s: float
    low: float
    high: float
    bandwidth: DecodeBandwidth

    def to_json(self) -> dict[str, Any]:
        """For a report; milliseconds are those of one token."""
        return {
            "context": self.context,
            "seq_len": self.context,
            "bytes_per_token": round(self.bytes_per_token),
            "decode_tokens_per_s": round(self.tokens_per_s, 3),
            "interval_tokens_per_s": [round(self.low, 3), round(self.high, 3)],
            "latency_p50_ms": round(1e3 / self.tokens_per_s, 4),
            "interval_ms": [round(1e3 / self.high, 4), round(1e3 / self.low, 4)],
            "bandwidth": self.bandwidth.model_dump(mode="json"),
        }


def predict_decode(cost: TokenCost, bandwidth: DecodeBandwidth, context: int) -> DecodeForecast:
    """What a token costs, by the formula.

    >>> seen = DecodeBandwidth(low_gb_per_s=10.0, high_gb_per_s=10.0, source="a document")
    >>> found = predict_decode(TokenCost(1e9, 0.0, 0), seen, 0)
    >>> round(found.tokens_per_s, 3), round(found.low, 3), round(found.high, 3)
    (10.0, 8.333, 12.0)
    """
    size = cost.bytes_at(context)
    slow, fast = bandwidth.low_gb_per_s * 1e9, bandwidth.high_gb_per_s * 1e9
    quick, tardy = OP_SECONDS

    def rate(bytes_per_s: float, op_seconds: float) -> float:
        return 1 / (size / bytes_per_s + cost.ops * op_seconds)

    return DecodeForecast(
        context=context,
        bytes_per_token=size,
        tokens_per_s=rate(sqrt(slow * fast), sqrt(quick * tardy)),
        low=rate(slow / OTHER_MODELS, tardy),
        high=rate(fast * OTHER_MODELS, quick),
        bandwidth=bandwidth,
    )


def forecast_decode(path: Path, facts: DecoderFacts, device: DeviceProfile, context: int) -> DecodeForecast:
    """What an exported file would write on a device.

    Raises:
        ArtifactError: the file cannot be read.
        DeviceError: nothing is known of decoders there.
    """
    if device.decode_bandwidth is None:
        raise DeviceError(
            f"{device.name}: its profile has no decode_bandwidth, so that no tokens a second can be predicted; "
            "add one with its source, or measure there: edgetf bench"
        )
    return predict_decode(token_cost(path, facts.cache_bytes_per_token), device.decode_bandwidth, context)
