"""TFLite files of decoders: signatures `decode` and `prefill_T` over one key-value cache, sharing the weights.

Every signature takes `tokens` (1, T) and `input_pos` (T,), int32 and ascending by one, and of each layer
`kv_cache_k_N` and `kv_cache_v_N` (1, KV, context, D); it gives `logits` (1, T, V) and the cache under the same names.
`decode` has T = 1 and is the first subgraph, which an interpreter's own tensors belong to.

These are the names of litert_torch.generative, which LiteRT-LM and MediaPipe look for. A .litertlm bundle would also
need: the LlmMetadata protocol buffer (first and stop tokens, prompt template, context), the tokenizer as a section
beside the file, and prefill signatures without logits, which its engine takes from `decode` alone; ours give them,
as perplexity is measured on this very file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ParityError, needs
from edgetf.core.files import write_problem
from edgetf.core.quiet import quiet
from edgetf.formats.tflite_names import name_tensors
from edgetf.runtime.decode.litert import DECODE, PREFILL

PREFILL_LENGTHS = (8, 32, 128)


def write_tflite(
    model: Any, facts: DecoderFacts, file: Path, lengths: tuple[int, ...] = PREFILL_LENGTHS, context: int | None = None
) -> tuple[int, ...]:
    """Write a decoder for one text of up to `context` tokens; gives the lengths of its prefill signatures.

    Lengths that the cache cannot hold are left out. `context` None is the model's `max_length`.

    Raises:
        ParityError: a family or a kind of positions that is not written here, or the converter cannot write it.
    """
    with needs("tflite"), quiet():
        import litert_torch
        import torch

        from edgetf.formats.decoder.tflite_module import CachedDecoder
    room = context or facts.max_length
    fitting = tuple(length for length in sorted(set(lengths)) if 1 < length <= room)
    graph = CachedDecoder(model, facts, room).eval()
    unfinished = file.with_name(f"{file.name}.part")
    try:
        with quiet(), torch.no_grad():
            converter = litert_torch
            for length in (1, *fitting):
                name = DECODE if length == 1 else f"{PREFILL}{length}"
                converter = converter.signature(name, graph, sample_kwargs=graph.sample(length))
            converter.convert().export(str(unfinished))
    except Exception as error:  # the converter raises many kinds, none of its own
        unfinished.unlink(missing_ok=True)
        if write_problem(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ParityError(f"export: litert-torch cannot write this decoder as TFLite ({reason})") from error
    name_tensors(unfinished, graph)
    unfinished.replace(file)
    return fitting
