"""What stands on an encoder, task by task: the transformers class, and the fields of its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import assert_never

from edgetf.core.quiet import quiet
from edgetf.core.task_names import CLASSIFICATION, TaskName


@dataclass(frozen=True)
class Head:
    """What stands on the encoder."""

    task: TaskName = CLASSIFICATION


CLASSIFIER = Head()


def build(config: Any, head: Head) -> Any:
    """A new model of a transformers config, with eager attention; its answer is called ``logits``."""
    with quiet():  # transformers loads the family's module, and what that brings, only now
        from transformers import AutoModelForSequenceClassification

        match head.task:
            case "sequence_classification" | "regression":
                return AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
            case _:
                assert_never(head.task)


def has_head(config: dict[str, Any], head: Head = CLASSIFIER) -> bool:
    """Whether a checkpoint answers the task already."""
    architectures = config.get("architectures") or ()
    match head.task:
        case "sequence_classification":
            return any(name.endswith("ForSequenceClassification") for name in architectures)
        case "regression":
            numbers = len(config.get("id2label") or {0: "", 1: ""})
            return numbers == 1 and any(name.endswith("ForSequenceClassification") for name in architectures)
        case _:
            assert_never(head.task)


def config_fields(names: Sequence[str], head: Head) -> dict[str, Any]:
    """What a config says of a head with these outputs."""
    fields = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
    match head.task:
        case "sequence_classification":
            return fields
        case "regression":
            return {**fields, "problem_type": "regression"}
        case _:
            assert_never(head.task)
