"""The student of a recipe: its shape, and what it starts from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgetf.config.fields import Positive
from edgetf.core.strict import Strict


class FromTeacher(Strict):
    """A student with the teacher's architecture, as deep and wide as its fields say; what is left out is as it was."""

    architecture: Literal["teacher"] = "teacher"
    num_hidden_layers: Positive = 3
    layers: Annotated[
        tuple[int, ...] | None, Field(description="teacher layers to copy, from 0; evenly spread if left out")
    ] = None
    hidden_size: Annotated[Positive | None, Field(description="width between the layers")] = None
    intermediate_size: Annotated[Positive | None, Field(description="feed-forward neurons of every layer")] = None
    num_attention_heads: Annotated[
        Positive | None, Field(description="heads of every layer, each as wide as the teacher's")
    ] = None
    init: Annotated[
        Literal["layers", "pruning", "random", "checkpoint"],
        Field(
            description="weights: of the teacher's layers, the heaviest kept; the same, the most important by Fisher "
            "information kept; random; of a checkpoint"
        ),
    ] = "layers"
    checkpoint: Annotated[str | None, Field(description="`checkpoint` only: a folder with the student's weights")] = (
        None
    )

    @model_validator(mode="after")
    def _as_many_layers(self) -> FromTeacher:
        if self.layers is not None and len(self.layers) != self.num_hidden_layers:
            raise ValueError(f"{len(self.layers)} layers are listed for num_hidden_layers={self.num_hidden_layers}")
        return self

    @model_validator(mode="after")
    def _checkpoint_is_named(self) -> FromTeacher:
        if (self.init == "checkpoint") != (self.checkpoint is not None):
            raise ValueError("init=checkpoint and the field checkpoint go together; give both or neither")
        return self


class MobileBert(Strict):
    """A MobileBERT student (Sun et al. 2020): thin bottleneck layers, stacked feed-forwards, small embedding."""

    architecture: Literal["mobilebert"]
    num_hidden_layers: Positive = 8
    hidden_size: Positive = 256
    intra_bottleneck_size: Positive = 128
    embedding_size: Positive = 128
    intermediate_size: Positive = 256
    num_attention_heads: Positive = 4
    num_feedforward_networks: Positive = 2
    normalization_type: Literal["no_norm", "layer_norm"] = "no_norm"

    @model_validator(mode="after")
    def _heads_divide(self) -> MobileBert:
        if self.intra_bottleneck_size % self.num_attention_heads:
            raise ValueError(
                f"intra_bottleneck_size {self.intra_bottleneck_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        return self


Student = Annotated[FromTeacher | MobileBert, Field(discriminator="architecture")]
