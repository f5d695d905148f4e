"""A backend that runs a torch checkpoint on an NVIDIA GPU, where no exported file has a runtime at hand.

It joins by the entry point group `edgetf.backends`, as a plug-in would, because it stands on the model code, which the
runtimes know nothing of. Products of matrices are exact float32 (no TF32) unless the provider names a shorter type.
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetf.core.artifact import MANIFEST
from edgetf.core.errors import DeviceError, needs
from edgetf.core.files import read_json
from edgetf.core.metrics import Floats
from edgetf.core.task_names import CLASSIFICATION
from edgetf.runtime.backend import Engine, Session, lacks_provider
from edgetf.runtime.inputs import Batch

if TYPE_CHECKING:
    from edgetf.models.heads import Head

PROVIDERS = {"cuda": "float32", "cuda:float16": "float16", "cuda:bfloat16": "bfloat16"}


class TorchCudaSession:
    """One model in the memory of a GPU. Takes any length."""

    lengths: tuple[int, ...] | None = None

    def __init__(self, model: Any, asked: str) -> None:
        import torch

        self._torch, self._model = torch, model
        inputs = signature(model.forward).parameters
        self.input_names = tuple(name for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs)
        self.engine = Engine(asked=asked, ran=asked)

    def run(self, batch: Batch) -> Floats:
        """Logits in float64; copying them back waits for the GPU, so that a timed run is a whole one."""
        feed = {
            name: self._torch.from_numpy(array).cuda(non_blocking=True)
            for name, array in batch.named(self.input_names).items()
        }
        with self._torch.inference_mode():
            return np.asarray(self._model(**feed).logits.double().cpu().numpy())


def _head(folder: Path) -> Head:
    """What stands on the encoder, as the manifest beside the weights says; a bare checkpoint is a classifier."""
    from edgetf.config.tasks import PoolingConfig
    from edgetf.models.heads import Head

    manifest = folder / MANIFEST
    details = read_json(manifest)["details"] if manifest.is_file() else {}
    pooling = details.get("pooling")
    return Head(details.get("task", CLASSIFICATION), PoolingConfig(**pooling) if pooling else None)


class TorchCudaBackend:
    """Opens the `model.safetensors` of a checkpoint."""

    name = "torch_cuda"

    def load(self, model: Path, threads: int, provider: str | None = None) -> Session:
        """See `Backend.load`; `threads` are those of the host's part."""
        asked = provider or "cuda"
        if asked not in PROVIDERS:
            raise lacks_provider(self.name, asked, list(PROVIDERS))
        with needs("compress"):
            import torch
        if not torch.cuda.is_available():
            build = f"torch {torch.__version__}"
            raise DeviceError(f"{self.name}: there is no NVIDIA GPU here, or {build} was made without CUDA")
        from edgetf.models.checkpoint import load_classifier

        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        loaded = load_classifier(model.parent, head=_head(model.parent))
        return TorchCudaSession(loaded.to(device="cuda", dtype=getattr(torch, PROVIDERS[asked])), asked)
