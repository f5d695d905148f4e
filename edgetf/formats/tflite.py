"""TFLite: conversion by litert-torch with one signature a length; tensors are named after their module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.errors import ParityError, needs
from edgetf.core.files import write_problem
from edgetf.core.quiet import quiet
from edgetf.formats.tflite_names import name_tensors
from edgetf.formats.wrapper import LogitsOnly
from edgetf.runtime.litert import SIGNATURE

MODEL = "model.tflite"


def export_tflite(model: Any, path: Path, lengths: tuple[int, ...]) -> tuple[str, ...]:
    """Write a classifier of batch 1 with int32 inputs and one signature a length; returns the input names.

    Raises:
        ParityError: the converter cannot write it.
    """
    with needs("tflite"), quiet():
        import litert_torch
        import torch
    graph = LogitsOnly(model).eval()
    try:
        with quiet(), torch.no_grad():
            converter = litert_torch
            for length in lengths:
                named = dict(zip(graph.input_names, graph.sample(1, length, torch.int32), strict=True))
                converter = converter.signature(f"{SIGNATURE}{length}", graph, sample_kwargs=named)
            converter.convert().export(str(path))
    except Exception as error:  # the converter raises many kinds, none of its own
        if write_problem(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ParityError(f"export: litert-torch cannot write this model as TFLite ({reason})") from error
    name_tensors(path, graph)
    return graph.input_names
