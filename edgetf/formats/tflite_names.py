"""Names in a .tflite file: after the module that a tensor belongs to, in the words of the checkpoint.

The converter names what an operator gives after the classes and attributes that lead to it, hundreds of letters each:
`edgetf.formats.wrapper.LogitsOnly/transformers.models.bert.modeling_bert.BertForSequenceClassification_model/…`. They
are a fortieth of a student of 14 MB and no runtime reads them; weights it calls `arith.constant18`. Here a weight gets
the name of its parameter, and anything else that of its module, with a number where a name is taken: ai-edge-quantizer
tells tensors apart by their names, over all signatures.

A parameter is known by its values. The converter multiplies the scale of a layer norm into the weights that follow it,
so a matrix (O, I) is also taken for a parameter times one factor for each of its I inputs.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgetf.formats.tflite_graph import (
    constant,
    inputs_of,
    read_graph,
    tensor_name,
    type_name,
    weight_reads,
    write_graph,
)

Matrix = NDArray[np.float32]
_NUMBER = re.compile(r";\d*$")
_ROWS = 8  # of a matrix tell whose multiple it is


def name_tensors(path: Path, graph: nn.Module) -> None:
    """Rename the tensors of a file in place; `graph` is what was converted."""
    model = read_graph(path)
    parameters = {name: parameter.detach().numpy() for name, parameter in graph.named_parameters()}
    paths, taken = _module_paths(graph), Counter[str]()
    for subgraph in model.subgraphs:
        names = _wanted(model, subgraph, parameters, paths)
        for index in sorted(set(range(len(subgraph.tensors))) - {*subgraph.inputs, *subgraph.outputs}):
            tensor = subgraph.tensors[index]
            name = names[id(tensor)]
            tensor.name = (f"{name};{taken[name]}" if taken[name] else name).encode()
            taken[name] += 1
    write_graph(model, path)


def _wanted(model: Any, subgraph: Any, parameters: dict[str, Matrix], paths: dict[str, str]) -> dict[int, str]:
    """A name for every tensor of one signature, by its id; not yet unique."""
    names = {id(tensor): _home(tensor_name(tensor), paths) for tensor in subgraph.tensors}
    for op in subgraph.operators:  # a constant lives where it is first read
        for tensor in inputs_of(subgraph, op):
            if constant(model, tensor) is not None:
                home = names[id(tensor)] or names[id(subgraph.tensors[op.outputs[0]])]
                names[id(tensor)] = _parameter(model, tensor, home, parameters) or home
    for op, weight in weight_reads(model, subgraph):
        owner, _, kind = names[id(weight)].rpartition(".")
        if kind == "weight":
            names[id(subgraph.tensors[op.outputs[0]])] = owner
            for tensor in inputs_of(subgraph, op):
                if tensor is not weight and constant(model, tensor) is not None:
                    names[id(tensor)] = f"{owner}.bias"
    return names


def _parameter(model: Any, tensor: Any, home: str, parameters: dict[str, Matrix]) -> str | None:
    """The parameter that a constant holds, or None; of equal ones, as untrained norms are, that of its module."""
    data = constant(model, tensor)
    if data is None or type_name(tensor) != "float32":
        return None
    values = data.view(np.float32)
    equal = [name for name, known in parameters.items() if np.array_equal(known.reshape(-1), values)]
    if not equal and len(tensor.shape) == 2:
        matrix = values.reshape(tuple(tensor.shape))
        equal = [name for name, known in parameters.items() if is_scaled(matrix, known)]
    return next((name for name in equal if name.startswith(f"{home}.")), next(iter(equal), None))


def is_scaled(matrix: Matrix, known: Matrix) -> bool:
    """Whether a matrix (O, I) is a known one with each column times a factor of its own.

    >>> known = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> is_scaled(known * [7, -2], known), is_scaled(known + 1, known), is_scaled(known[:1], known)
    (True, False, False)
    """
    if matrix.shape != known.shape or len(matrix) < 2:  # one row is a multiple of any other
        return False
    ours, theirs = matrix[:_ROWS].astype(np.float64), known[:_ROWS].astype(np.float64)
    factors = (ours * theirs).sum(axis=0) / np.maximum((theirs**2).sum(axis=0), 1e-300)
    return bool(np.linalg.norm(ours - factors * theirs) <= 1e-4 * np.linalg.norm(ours))


def _module_paths(graph: nn.Module) -> dict[str, str]:
    """Paths of modules by what the converter keeps of them: lists of modules are never called, so they leave no trace.

    `model.encoder.0.attention` → `model.encoder.layer.0.attention`
    """
    kept: dict[str, str] = {"": ""}
    found: dict[str, str] = {}
    for path, module in graph.named_modules():
        parent, _, own = path.rpartition(".")
        before = kept[parent]
        kept[path] = before if isinstance(module, nn.ModuleList) or not path else f"{before}.{own}".lstrip(".")
        found.setdefault(kept[path], path)
    return found


def _home(name: str, paths: dict[str, str]) -> str:
    """The module path in a name of the converter; where it joins several operators, the longest.

    >>> _home("a.Net/b.Bert_model/torch.nn.Linear_dense;;a.Net/b.Bert_model;1", {"model.dense": "model.list.dense"})
    'model.list.dense'
    >>> _home("arith.constant18", {})
    ''
    """
    stripped = []
    for joined in name.split(";;"):
        steps = [step.rpartition(".")[2].partition("_")[2] for step in _NUMBER.sub("", joined).split("/")]
        stripped.append(".".join(step for step in steps if step))
    longest = max(stripped, key=len) if "/" in name else ""
    return paths.get(longest, longest)
