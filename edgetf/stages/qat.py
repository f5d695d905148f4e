"""QAT: the student goes on learning from its teacher while its weights and activations are rounded as in INT8.

Every linear layer computes with weights of 8 bits, symmetric, a scale for each row (torchao), and with an input of 8
bits; gradients pass the rounding (see edgetf.algorithms.fake_quantization). The weights so find values that rounding
hurts least. In the end they stand in plain layers, in float: the export and the quantization after it do the rounding.

What is simulated is onnxruntime's dynamic quantization of one text at a time. torchao rounds activations with a scale
for each token, as XNNPACK does for TFLite; onnxruntime takes one for the whole input, which in a BERT a few large
tokens set, and loses several times as much. So it is one scale a text here, the harder case of the two. Embeddings have
one scale a table, as onnxruntime gives them. Differences that are left: padding counts to a text's range here, a step
of a weight's row is max / 127.5 in torchao and max / 127 in the runtimes, and products of two activations, in
attention, stay in float in both. With `precision` bf16 what is rounded gets rounded once more, to 8 bits of mantissa.

Source: Jacob et al. 2018, Quantization and Training of Neural Networks, arXiv 1712.05877; distilling at once, as in
Zhang et al. 2020, TernaryBERT, arXiv 2009.12812.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgetf.algorithms.fake_quantization import round_table, round_texts
from edgetf.config.quantization import QatConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.quiet import quiet
from edgetf.models.checkpoint import load_classifier
from edgetf.stages.context import Context
from edgetf.stages.fit import account, learn, untrained
from edgetf.training import processes


def run(config: QatConfig, source: Artifact, context: Context, out: Path) -> tuple[Spec, float]:
    """Train the student of a checkpoint under rounding; gives the spec of a plain one and the seconds of training.

    The epoch that is kept is the best one under rounding, and its score there stands in the details; the metric of the
    checkpoint is, as everywhere, that of its float weights.
    """
    student = load_classifier(source.path, head=context.head)
    prepare(student)
    progress = processes.call(learn, student, config, source, context, out)
    convert(student)
    details = {**account(progress), "qat": {"dev_score_rounded": progress.best}}
    return untrained(student.cpu(), source.path, context, out, details), progress.seconds


class _Texts(nn.Module):
    """Stands where torchao rounds activations by token."""

    def forward(self, states: Tensor) -> Tensor:
        """The states (B, …), rounded text by text."""
        return round_texts(states)


class _Table(nn.Module):
    """Stands where torchao rounds an embedding row by row."""

    config = None  # torchao asks for it on the way back

    def forward(self, weight: Tensor) -> Tensor:
        """The table (V, H), rounded as a whole."""
        return round_table(weight)


def prepare(model: nn.Module) -> None:
    """Let all linear layers and embeddings of a model round, in place; its tensors keep their names."""
    with quiet():  # torchao speaks of the kernels that it cannot load
        from torchao.quantization import quantize_
        from torchao.quantization.qat import (
            FakeQuantizedEmbedding,
            FakeQuantizedLinear,
            IntxFakeQuantizeConfig,
            QATConfig,
        )

        rounding = QATConfig(weight_config=IntxFakeQuantizeConfig(torch.int8, "per_channel"), step="prepare")
        quantize_(model, rounding, filter_fn=_can_round)
    for module in model.modules():
        if isinstance(module, FakeQuantizedLinear):
            module.activation_fake_quantizer = _Texts()
        elif isinstance(module, FakeQuantizedEmbedding):
            module.weight_fake_quantizer = _Table()


def _can_round(module: nn.Module, name: str) -> bool:
    """A row of a single weight is a scale times 127 whatever happens, and torchao does not take it."""
    return isinstance(module, nn.Embedding) or (isinstance(module, nn.Linear) and module.in_features > 1)


def convert(model: nn.Module) -> None:
    """Put plain layers with the same weights in the place of those that round."""
    with quiet():
        from torchao.quantization import quantize_
        from torchao.quantization.qat import FakeQuantizedEmbedding, FakeQuantizedLinear, QATConfig

        def rounds(module: nn.Module, name: str) -> bool:
            return isinstance(module, FakeQuantizedLinear | FakeQuantizedEmbedding)

        quantize_(model, QATConfig(step="convert"), filter_fn=rounds)
