"""What stands on an encoder, task by task: the transformers class, and the fields of its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from typing_extensions import assert_never

from edgetf.config.tasks import PoolingConfig
from edgetf.core.quiet import quiet
from edgetf.core.task_names import CLASSIFICATION, TaskName
from edgetf.tasks import task_of


@dataclass(frozen=True)
class Head:
    """What stands on the encoder; `pooling` of sentence embeddings only."""

    task: TaskName = CLASSIFICATION
    pooling: PoolingConfig | None = None

    @property
    def output(self) -> str:
        """What the output of an exported graph is called."""
        return task_of(self.task).output

    @property
    def reads_first_token(self) -> bool:
        """Whether the answer rests on the first token of the last hidden state alone."""
        match self.task:
            case "sequence_classification" | "regression":
                return True
            case "sentence_embeddings":
                return self.pooling is not None and self.pooling.tokens == "first"
            case "token_classification":
                return False
            case _:
                assert_never(self.task)


CLASSIFIER = Head()


def build(config: Any, head: Head) -> Any:
    """A new model of a transformers config, with eager attention; its answer is called ``logits``."""
    with quiet():  # transformers loads the family's module, and what that brings, only now
        from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

        match head.task:
            case "sequence_classification" | "regression":
                return AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
            case "sentence_embeddings":
                return _embedder(config, head.pooling or PoolingConfig())
            case "token_classification":
                return AutoModelForTokenClassification.from_config(config, attn_implementation="eager")
            case _:
                assert_never(head.task)


def _embedder(config: Any, pooling: PoolingConfig) -> Any:
    """An encoder without the dense layer that some families put behind the first token."""
    from transformers import MODEL_MAPPING, AutoModel

    from edgetf.models.embedder import Embedder

    takes = signature(MODEL_MAPPING[type(config)].__init__).parameters
    options = {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}
    return Embedder(AutoModel.from_config(config, attn_implementation="eager", **options), pooling)


def has_head(config: dict[str, Any], head: Head = CLASSIFIER) -> bool:
    """Whether a checkpoint answers the task already."""
    architectures = config.get("architectures") or ()
    match head.task:
        case "sequence_classification":
            return any(name.endswith("ForSequenceClassification") for name in architectures)
        case "regression":
            numbers = len(config.get("id2label") or {0: "", 1: ""})
            return numbers == 1 and any(name.endswith("ForSequenceClassification") for name in architectures)
        case "sentence_embeddings":
            return True  # the encoder is all there is
        case "token_classification":
            return any(name.endswith("ForTokenClassification") for name in architectures)
        case _:
            assert_never(head.task)


def config_fields(names: Sequence[str], head: Head) -> dict[str, Any]:
    """What a config says of a head with these outputs."""
    fields = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
    match head.task:
        case "sequence_classification" | "token_classification":
            return fields
        case "regression":
            return {**fields, "problem_type": "regression"}
        case "sentence_embeddings":
            return {}
        case _:
            assert_never(head.task)
