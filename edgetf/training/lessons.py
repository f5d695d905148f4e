"""What a model learns for a task: the loss on labels, that on the teacher's answers, and what importance asks of it.

Regression learns the teacher's output by the mean square error, as TinyBERT (Jiao et al. 2020) does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import assert_never

from edgetf.algorithms.distillation import similarity_loss, vector_loss
from edgetf.config.training import LossConfig
from edgetf.core.task_names import TaskName
from edgetf.training.loop import Losses
from edgetf.training.teacher import SoftTargets


def label_loss(task: TaskName, answers: Tensor, target: Tensor) -> Tensor:
    """Loss of answers (N, C) against class numbers (N,), probabilities (N, C), or numbers (N,)."""
    match task:
        case "sequence_classification" | "token_classification":
            return F.cross_entropy(answers, target) if len(answers) else 0 * answers.sum()
        case "regression":
            return F.mse_loss(answers[:, 0], target)
        case "sentence_embeddings":
            raise ValueError("sentence embeddings have no labels")
        case _:
            assert_never(task)


def known_labels(task: TaskName, answers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The targets of `label_loss` for labels (N,), and for which rows (N,) there is one."""
    match task:
        case "sequence_classification" | "token_classification":
            return F.one_hot(labels.clamp_min(0), answers.shape[1]).to(answers.dtype), has_label(task, labels)
        case "regression":
            return labels.to(answers.dtype), has_label(task, labels)
        case "sentence_embeddings":
            raise ValueError("sentence embeddings have no labels")
        case _:
            assert_never(task)


def has_label(task: TaskName, labels: Tensor) -> Tensor:
    """Which of the labels (N,) are known."""
    return ~torch.isnan(labels) if task == "regression" else labels >= 0


def teacher_terms(
    task: TaskName, config: LossConfig, answers: Tensor, projected: Tensor, targets: SoftTargets, positions: Tensor
) -> Losses:
    """What the teacher's answers at these positions (N,) teach about answers (N, C), `projected` to its width."""
    match task:
        case "sequence_classification":
            return {"logits": targets.loss(answers, positions)}
        case "regression":
            return {"logits": F.mse_loss(answers, targets.at(positions, answers))}
        case "sentence_embeddings":
            theirs, terms = targets.at(positions, answers), {}
            if config.logits:
                terms["logits"] = vector_loss(projected, theirs, config.pooled_distance)
            if config.similarities:
                terms["similarities"] = similarity_loss(answers, theirs)
            return terms
        case "token_classification":
            read = targets.given(positions).to(answers.device)  # what the teacher did not read it says nothing of
            known = targets.loss(answers[read], positions[read]) if read.any() else 0 * answers.sum()
            return {"logits": known}
        case _:
            assert_never(task)


def probe_loss(task: TaskName, answers: Tensor, labels: Tensor) -> Tensor:
    """A sum over rows whose gradients say what matters, from answers (N, C); a label that is unknown is not needed.

    Classes: the cross-entropy, with the model's own answer where there is no label. A number: the number itself, for
    the Fisher information of a Gaussian with that mean is the square of the mean's gradient. A vector: its product with
    a random one, for the mean of that gradient's square is the sum over the vector's numbers.
    """
    match task:
        case "sequence_classification" | "token_classification":
            target = torch.where(labels >= 0, labels, answers.argmax(dim=-1))
            return F.cross_entropy(answers, target, reduction="sum")
        case "regression":
            return answers.sum()
        case "sentence_embeddings":
            random = torch.randn(answers.shape, generator=torch.Generator().manual_seed(0))
            return (answers * random.to(answers)).sum()
        case _:
            assert_never(task)
