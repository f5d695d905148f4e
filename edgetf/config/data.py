"""The data of a recipe: where rows come from, how they are split, and which texts are added for distillation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from edgetf.config.fields import Fraction, Positive, once
from edgetf.config.labeller import LabellerConfig
from edgetf.core.strict import Strict


class SplitConfig(Strict):
    """Shares of the rows for each use; the rest trains."""

    dev: Fraction = 0.1
    test: Fraction = 0.2
    seed: int = 0

    @model_validator(mode="after")
    def _leave_rows_to_train(self) -> SplitConfig:
        if self.dev + self.test >= 1:
            raise ValueError(f"dev + test is {self.dev + self.test:g}, and nothing is left to train on")
        return self


class AugmentConfig(Strict):
    """More texts for distillation, made from the training rows; the teacher says what they mean.

    `words` replaces whole words by neighbors in the teacher's embedding, `mask` by what a masked language model puts
    there, `delete` leaves words out, `splice` ends a text as another one ends. Copies take turns with the methods.
    """

    methods: Annotated[
        tuple[Literal["words", "mask", "delete", "splice"], ...], AfterValidator(once), Field(min_length=1)
    ] = ("words", "delete")
    copies: Annotated[Positive, Field(description="new texts a row")] = 4
    share: Annotated[float, Field(gt=0, le=1, description="share of the words that change")] = 0.2
    neighbors: Annotated[Positive, Field(description="candidates for a replaced word")] = 15
    seed: int = 0
    masked_lm: Annotated[str | None, Field(description="`mask` only: folder, hub: or package: of the model")] = None

    @model_validator(mode="after")
    def _mask_needs_a_model(self) -> AugmentConfig:
        if ("mask" in self.methods) != (self.masked_lm is not None):
            raise ValueError("masked_lm and the method mask go together; give both or neither")
        return self


class DataConfig(Strict):
    """Labelled text. `source` is a data card, a file, a folder with one sub-folder a class, hub: or package:."""

    source: Annotated[str, Field(min_length=1)]
    dev_source: Annotated[str | None, Field(description="rows for early stopping, where they come apart")] = None
    test_source: Annotated[str | None, Field(description="evaluation rows, where they come apart")] = None
    text: Annotated[str, Field(description="column of the text")] = "text"
    text_pair: Annotated[str | None, Field(description="column of a second text")] = None
    label: Annotated[str, Field(description="column of the class")] = "label"
    encoding: str = "utf-8"
    revision: Annotated[str | None, Field(description="hub only: branch, tag or commit")] = None
    split: SplitConfig = SplitConfig()
    max_length: Annotated[int, Field(ge=8, le=4096, description="tokens of one input")] = 128
    long_texts: Annotated[
        Literal["truncate", "chunk"], Field(description="cut what is too long, or train on every piece of it")
    ] = "truncate"
    max_train_rows: Annotated[Positive | None, Field(description="use at most so many, drawn by the seed")] = None
    unlabelled: Annotated[
        str | None, Field(description="more texts for distillation, as `source`; a label is not needed")
    ] = None
    augment: Annotated[AugmentConfig | None, Field(description="texts made from the training rows")] = None
    labeller: Annotated[
        LabellerConfig | None, Field(description="an endpoint that says the class of the unlabelled texts")
    ] = None

    @model_validator(mode="after")
    def _something_to_label(self) -> DataConfig:
        if self.labeller is not None and self.unlabelled is None:
            raise ValueError("labeller: there is nothing to label; give unlabelled")
        return self
