"""A model behind an OpenAI-compatible endpoint: where it is, and what it may cost. It never holds the key."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from edgetf.config.fields import Positive, Weight
from edgetf.core.errors import ConfigError
from edgetf.core.strict import Strict


def _endpoint(url: str) -> str:
    """The URL without a slash at its end."""
    if re.search(r"[@?#]", url):
        # Not a ValueError: the line made of one shows what was got, and here that may be a key.
        raise ConfigError("endpoint: holds more than an address; put the key into the variable of api_key_env")
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        known = False
    if not known or not re.fullmatch("[!-~]+", url):
        raise ValueError("write it like https://api.openai.com/v1 or http://127.0.0.1:8000/v1")
    path = parts.path.rstrip("/")
    if path.endswith("/completions"):
        raise ValueError("leave out /chat/completions, it is added")
    if not re.search(r"/v\d\w*(/|$)", path):
        raise ValueError("the path has no version; most servers want /v1 at its end")
    return url.rstrip("/")


def _variable(name: str) -> str:
    """The name of an environment variable, in capitals, so that a key pasted here is told from a name."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        # As above: what was got may be the key itself.
        raise ConfigError("api_key_env: not the name of a variable, in capitals; never put the key itself here")
    return name


class EndpointConfig(Strict):
    """Where the model is, what one run may cost, and how it is asked."""

    endpoint: Annotated[str, AfterValidator(_endpoint), Field(description="URL that ends in /v1")]
    model: Annotated[str, Field(min_length=1, description="as the endpoint calls it")]
    api_key_env: Annotated[
        str, AfterValidator(_variable), Field(description="environment variable with the key; local servers need none")
    ] = "OPENAI_API_KEY"
    usd_per_million_input_tokens: Weight = 0.0
    usd_per_million_output_tokens: Weight = 0.0
    max_usd: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False, description="what one run may cost; none: no limit")
    ] = None
    max_requests: Annotated[Positive | None, Field(description="of one run, retries too; none: no limit")] = None
    concurrency: Annotated[int, Field(ge=1, le=256, description="requests at the same time")] = 4
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    retries: Annotated[int, Field(ge=0, le=20, description="of a request that was not answered")] = 5

    @model_validator(mode="after")
    def _cap_needs_prices(self) -> Self:
        if self.max_usd is not None and not self.usd_per_million_input_tokens + self.usd_per_million_output_tokens:
            raise ValueError("max_usd limits nothing while both prices are 0; give usd_per_million_input_tokens")
        return self

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost."""
        return (
            tokens_in * self.usd_per_million_input_tokens + tokens_out * self.usd_per_million_output_tokens
        ) / 1_000_000
