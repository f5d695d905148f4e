"""Running text for a language model: where documents come from, how they are split, and the tokenizer made of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from edgetf.config.data import SplitConfig
from edgetf.config.fields import Positive
from edgetf.core.strict import Strict


class TokenizerConfig(Strict):
    """A byte-level BPE tokenizer, trained on the training documents; for a teacher that is trained here."""

    vocab_size: Annotated[int, Field(ge=300, le=256_000)] = 4096


class CorpusConfig(Strict):
    """Documents. A source is a data card, a text file, a folder of them, a table, hub: or package:."""

    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    text: Annotated[str, Field(description="column of the text, where a source is a table")] = "text"
    encoding: str = "utf-8"
    revision: Annotated[str | None, Field(description="hub only: branch, tag or commit")] = None
    split: Annotated[SplitConfig, Field(description="shares of the documents, which are never cut apart")] = (
        SplitConfig(dev=0.05, test=0.1)
    )
    max_length: Annotated[int, Field(ge=16, le=32_768, description="tokens of a packed sequence")] = 256
    max_train_tokens: Annotated[Positive | None, Field(description="use at most so many, drawn by the seed")] = None
    max_dev_tokens: Positive = 20_000
    max_test_tokens: Positive = 20_000

    @model_validator(mode="after")
    def _rows_to_evaluate(self) -> CorpusConfig:
        if not (self.split.dev and self.split.test):
            raise ValueError("split: dev and test must be more than 0; perplexity is measured on held-out documents")
        return self
