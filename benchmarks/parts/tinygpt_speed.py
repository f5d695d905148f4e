"""Decode steps of the exported files and of transformers on the same CPU, in turns in one process, one thread each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from parts.tinygpt_run import GEMMA, RUN, VARIANTS, Tree, model_of

from edgetf.core.metrics import percentile, percentile_interval, ratio_interval
from edgetf.models.decoders.checkpoint import load_decoder
from edgetf.runtime.decode.session import DecoderSession
from edgetf.runtime.decode.streaming import Reader
from edgetf.runtime.timing import interleaved_ms

CONTEXTS = (32, 128, 384)
SAMPLES, SECONDS = 100, 2.0
PYTORCH = "transformers"
Step = Callable[[], object]


def speed() -> Tree:
    """Of the recipe's student, and of Gemma with a pruned vocabulary."""
    torch.set_num_threads(1)
    return {"tinygpt": rates(RUN, RUN / "2-distill"), "gemma": rates(GEMMA, GEMMA / "1-vocabulary")}


def rates(run: Path, checkpoint: Path) -> Tree:
    """Milliseconds of a step by context and model, and how many times as fast as transformers and as fp32 each is."""
    models = {variant: model_of(variant, run) for variant in VARIANTS}
    torch_model = load_decoder(checkpoint)
    sessions = {variant: model.open(1) for variant, model in models.items()}
    words = np.asarray(models["onnx-fp32"].text_ids("The minister said that growth in the third quarter was slower"))
    found: Tree = {}
    for context in CONTEXTS:
        ids = np.resize(words, context)
        steps: dict[str, Step] = {variant: onnx_step(session, ids) for variant, session in sessions.items()}
        steps[PYTORCH] = torch_step(torch_model, ids)
        taken = dict(zip(steps, interleaved_ms(list(steps.values()), SAMPLES, SECONDS), strict=True))
        fp32, pytorch = taken["onnx-fp32"].warm, taken[PYTORCH].warm
        found[str(context)] = {name: row_of(each.warm, fp32, pytorch) for name, each in taken.items()}
    return found


def row_of(own: list[float], fp32: list[float], pytorch: list[float]) -> Tree:
    """Medians, and ratios over the two others with their intervals."""
    return {
        "decode_p50_ms": percentile(own, 50),
        "decode_p50_ci95_ms": list(percentile_interval(own, 50)),
        "decode_tokens_per_s": 1e3 / percentile(own, 50),
        "n": len(own),
        "over_fp32": percentile(fp32, 50) / percentile(own, 50),
        "over_fp32_ci95": list(ratio_interval(fp32, own)),
        "over_transformers": percentile(pytorch, 50) / percentile(own, 50),
        "over_transformers_ci95": list(ratio_interval(pytorch, own)),
    }


def onnx_step(session: DecoderSession, ids: np.ndarray) -> Step:
    """One token behind a context, which stays as it is."""
    reader = Reader(session)
    for _ in reader.read(ids[:-1]):
        pass
    return lambda: session.run(ids[-1:], reader.cache)[0][-1].argmax()


def torch_step(model: torch.nn.Module, ids: np.ndarray) -> Step:
    """The same in transformers; its cache grows in place, and is cut back to the context."""
    with torch.inference_mode():
        cache = model(torch.from_numpy(ids[None, :-1]), use_cache=True).past_key_values
    last = torch.from_numpy(ids[None, -1:])

    @torch.inference_mode()
    def step() -> object:
        chosen = model(last, past_key_values=cache, use_cache=True).logits[0, -1].argmax()
        cache.crop(len(ids) - 1)
        return chosen

    return step
