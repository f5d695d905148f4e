"""torchao's float8 on a GPU of compute capability 8.9 or more: weights and activations, beside bfloat16."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetf.data.tables import read_table
from edgetf.models.checkpoint import load_classifier
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.timing import interleaved_ms

CAPABILITY = (8, 9)
BATCH, TOKENS, SAMPLES = 64, 128, 60


def float8_gpu(checkpoint: Path, data: Path) -> dict[str, Any]:
    """Accuracy on the evaluation rows and milliseconds of a batch, or why nothing was measured."""
    if not torch.cuda.is_available():
        return {"not_measured": "there is no GPU here"}
    found = torch.cuda.get_device_capability()
    if found < CAPABILITY:
        return {"not_measured": f"the GPU has compute capability {found[0]}.{found[1]}, float8 needs 8.9"}
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, quantize_

    plain = load_classifier(checkpoint).eval().cuda().to(torch.bfloat16)
    float8 = copy.deepcopy(plain)
    quantize_(float8, Float8DynamicActivationFloat8WeightConfig(), filter_fn=_fits)
    models = {"bfloat16": torch.compile(plain), "float8_e4m3": torch.compile(float8)}
    rows = read_table(data / "test.csv", "utf-8")
    names = sorted({row["label"] for row in rows})
    labels = np.array([names.index(row["label"]) for row in rows])
    batches = _batches([row["text"] for row in rows], Encoder(checkpoint, TOKENS))
    answers = {name: _answers(model, batches) for name, model in models.items()}
    taken = interleaved_ms([lambda model=model: _timed(model, batches[0]) for model in models.values()], SAMPLES)
    return {
        name: {
            "accuracy": float((answers[name] == labels).mean()),
            "agreement": float((answers[name] == answers["bfloat16"]).mean()),
            "p50_ms": float(np.median(each.warm)),
            "n": len(labels),
            "device": torch.cuda.get_device_name(),
        }
        for name, each in zip(models, taken, strict=True)
    }


def _fits(module: torch.nn.Module, name: str) -> bool:
    """The kernels take widths that are multiples of 16."""
    return isinstance(module, torch.nn.Linear) and module.in_features % 16 == 0 and module.out_features % 16 == 0


def _batches(texts: list[str], encoder: Encoder) -> list[dict[str, torch.Tensor]]:
    """All texts, padded to one length, so that every batch has the same shape but the last."""
    pieces = [parts[0] for parts in encoder.pieces(texts)]
    found = []
    for start in range(0, len(pieces), BATCH):
        batch = encoder.batch(pieces[start : start + BATCH], TOKENS)
        arrays = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.token_type_ids,
        }
        found.append({name: torch.from_numpy(array).cuda() for name, array in arrays.items()})
    return found


@torch.inference_mode()
def _answers(model: Any, batches: list[dict[str, torch.Tensor]]) -> np.ndarray:
    return np.concatenate([model(**batch).logits.float().argmax(dim=1).cpu().numpy() for batch in batches])


@torch.inference_mode()
def _timed(model: Any, batch: dict[str, torch.Tensor]) -> None:
    model(**batch)
    torch.cuda.synchronize()
