"""Any decoder of transformers as a graph of standard ONNX operators, through torch.export.

The cache goes in and out flat, a key and a value a layer, with a dynamic length; a past of length 0 is the prefill.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ParityError, needs
from edgetf.core.files import write_problem
from edgetf.core.quiet import quiet
from edgetf.formats.decoder.names import IDS, LOGITS, MASK, POSITIONS, past_names, present_names
from edgetf.formats.onnx import first_cause, name_and_strip
from edgetf.formats.onnx_files import save_onnx

SAMPLE_PAST, SAMPLE_TOKENS = 3, 2  # of the example that is traced; 0 and 1 would be taken for constants


def write_plain(model: Any, facts: DecoderFacts, path: Path, opset: int) -> tuple[str, ...]:
    """Write the graph; gives the names of its inputs.

    Raises:
        ParityError: torch cannot export it.
    """
    with needs("compress"), quiet():
        import onnx
        import onnxscript  # noqa: F401
        import torch
    layers = facts.num_hidden_layers
    dim = torch.export.Dim
    batch_total = {0: dim.DYNAMIC, 1: dim.DYNAMIC}
    past = {0: dim.DYNAMIC, 2: dim.DYNAMIC}
    inputs = (IDS, MASK, POSITIONS, *past_names(layers))
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                _with_flat_cache(model),
                _sample(facts),
                dynamo=True,
                opset_version=opset,
                input_names=list(inputs),
                output_names=[LOGITS, *present_names(layers)],
                dynamic_shapes=(batch_total, batch_total, batch_total, tuple(past for _ in past_names(layers))),
                verbose=False,
            )
            if program is None:  # only where torch is given a file to write
                raise RuntimeError("torch gave no program")
            program.save(str(path), external_data=True)  # as in edgetf.formats.onnx
    except (RuntimeError, ValueError, torch.onnx.OnnxExporterError) as error:
        if write_problem(error):
            raise
        raise ParityError(f"export: torch cannot write this model as ONNX ({first_cause(error)})") from None
    name_and_strip(path)
    graph = onnx.load(str(path))
    _name_dimensions(graph)
    _name_head(graph)
    save_onnx(graph, path)
    return tuple(item.name for item in graph.graph.input)


def _with_flat_cache(model: Any) -> Any:
    import torch
    from transformers import DynamicCache

    class FlatCache(torch.nn.Module):
        """The model as a function of tensors alone."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, positions: Any, past: tuple[Any, ...]) -> tuple[Any, ...]:
            cache = DynamicCache()
            for index in range(len(past) // 2):
                cache.update(past[2 * index], past[2 * index + 1], index)
            given = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            flat = [part for layer in given.past_key_values.layers for part in (layer.keys, layer.values)]
            return (given.logits, *flat)

    return FlatCache().eval()


def _sample(facts: DecoderFacts) -> tuple[Any, ...]:
    import torch

    past, tokens = SAMPLE_PAST, SAMPLE_TOKENS
    shape = (2, facts.num_key_value_heads, past, facts.head_dim)
    flat = tuple(torch.zeros(shape) for _ in past_names(facts.num_hidden_layers))
    mask = torch.ones(2, past + tokens, dtype=torch.int64)
    positions = torch.arange(past, past + tokens).repeat(2, 1)
    return torch.ones(2, tokens, dtype=torch.int64), mask, positions, flat


def _name_dimensions(model: Any) -> None:
    """Call the dynamic dimensions by what they count, in place of torch's s23 and s18."""
    values = {item.name: item for item in (*model.graph.input, *model.graph.output)}
    names = {IDS: {0: "batch", 1: "tokens"}, MASK: {1: "total_tokens"}}
    names |= {name: {2: "past_tokens"} for name in values if name.startswith("past_key_values.")}
    names |= {name: {2: "total_tokens"} for name in values if name.startswith("present.")}
    for name, value in values.items():
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_param:
                dimension.dim_param = names.get(name, {}).get(axis, ("batch", "tokens")[min(axis, 1)])
    del model.graph.value_info[:]


def _name_head(model: Any) -> None:
    """Call what gives the logits after its module; the others have their names by the weights they read as they lie."""
    for node in model.graph.node:
        if LOGITS in node.output:
            node.name = "lm_head"
