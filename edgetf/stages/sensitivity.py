"""Which weights a file can least afford to have quantized: one group at a time is, and the answers are compared.

A group is the attention, or the feed-forward, of one layer, or all embeddings, or what is left. Its sensitivity is the
mean squared change of the answers over the golden rows, in variances of those answers.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgetf.core.artifact import Artifact
from edgetf.core.schemes import Format
from edgetf.formats.parts import part_of
from edgetf.formats.quantization import Feeds, Quantization
from edgetf.formats.quantize import quantize_file
from edgetf.runtime.model import Model
from edgetf.validation.golden import deployable_model, golden_of, runtime_logits

_LAYER = re.compile(r"\.layer\.(\d+)\.")


def groups_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The weighted operators of a graph, named after their modules, by group.

    >>> list(groups_of(["m.layer.1.attention.self.query", "m.layer.1.attention.self.key", "m.layer.1.output.dense"]))
    ['1.attention', '1.feed_forward']
    """
    groups: dict[str, tuple[str, ...]] = {}
    for name in names:
        layer, part = _LAYER.search(name), part_of(name)
        label = f"{layer.group(1)}.{part}" if layer else part
        groups[label] = (*groups.get(label, ()), name)
    return groups


def sensitivities(
    model_format: Format,
    plain: Artifact,
    how: Quantization,
    groups: dict[str, tuple[str, ...]],
    feeds: Feeds | None,
    tick: Callable[[int, int], None],
) -> dict[str, float]:
    """The sensitivity of every group to a scheme, the largest first.

    Raises:
        ParityError: the library cannot write a file, or it gives no numbers.
    """
    golden, model = golden_of(plain), deployable_model(plain)
    variance = float(np.var(golden.logits)) or 1.0
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / plain.spec.model_file
        for done, label in enumerate(groups):
            tick(done, len(groups))
            others = [name for other, names in groups.items() if other != label for name in names]
            alone = replace(how, keep_float=(*how.keep_float, *others))
            quantize_file(model_format, plain.model_path, path, alone, feeds)
            answers = _answers(replace(model, model_file=str(path)), golden.texts, golden.pairs)
            found[label] = float(np.mean((answers - golden.logits) ** 2)) / variance
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _answers(model: Model, texts: list[str], pairs: list[str] | None) -> np.ndarray:
    return np.asarray(runtime_logits(model, texts, pairs)["logits"])
