"""The teacher and the student of a language recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from edgetf.config.endpoint import EndpointConfig
from edgetf.config.fields import Positive
from edgetf.config.language.data import TokenizerConfig
from edgetf.core.strict import Strict


class LlamaShape(Strict):
    """RoPE, RMSNorm, SwiGLU, grouped-query attention and a tied embedding: what mobile runtimes open."""

    hidden_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    num_key_value_heads: Positive
    intermediate_size: Positive
    head_dim: Annotated[Positive | None, Field(description="width of a head; none: hidden_size / heads")] = None
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0

    @property
    def head_width(self) -> int:
        """Numbers of one head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @model_validator(mode="after")
    def _heads_divide(self) -> LlamaShape:
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.head_width % 2:
            raise ValueError(f"head_dim: got {self.head_width}, allowed: an even number, as RoPE turns pairs")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        return self


class Pretrained(Strict):
    """A teacher that is there: GPT-2, Llama, Qwen, Gemma."""

    source: Annotated[
        str, Field(min_length=1, description="a folder, hub:OWNER/NAME, package:DISTRIBUTION/path, or a .gguf file")
    ]
    revision: Annotated[str | None, Field(description="hub only: branch, tag or commit")] = None


class Made(LlamaShape):
    """A teacher that the stage `pretrain` trains here from nothing, with a tokenizer of its own."""

    tokenizer: TokenizerConfig = TokenizerConfig()


class Remote(EndpointConfig):
    """A teacher behind an OpenAI-compatible endpoint, which writes texts: it is learned from by its words alone."""

    tokenizer: TokenizerConfig = TokenizerConfig()


def _which(value: Any) -> str:
    keys = value.keys() if isinstance(value, dict) else vars(value).keys()
    return "remote" if "endpoint" in keys else "pretrained" if "source" in keys else "made"


LanguageTeacher = Annotated[
    Annotated[Pretrained, Tag("pretrained")] | Annotated[Made, Tag("made")] | Annotated[Remote, Tag("remote")],
    Discriminator(_which),
]


class LikeTeacher(Strict):
    """The teacher itself, which a prune stage makes smaller; evenly spread layers of it if a number is given."""

    architecture: Literal["teacher"] = "teacher"
    num_hidden_layers: Positive | None = None


class TinyGpt(LlamaShape):
    """A small decoder of Llama's shape, deep and thin (Liu et al. 2024, MobileLLM)."""

    architecture: Literal["tinygpt"]
    init: Annotated[
        Literal["random", "embedding"],
        Field(description="random; or the principal directions of the teacher's embedding, the rest at random"),
    ] = "random"


LanguageStudent = Annotated[LikeTeacher | TinyGpt, Field(discriminator="architecture")]
