"""``edgetf bench`` of decoders: first token, prefill and steps, at each context, with the roof of the memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgetf.commands.asked import Asked
from edgetf.core.artifact import MANIFEST, Artifact, open_verified
from edgetf.core.device import DeviceProfile
from edgetf.core.errors import ArtifactError, ConfigError, DeviceError
from edgetf.core.made import made_with
from edgetf.core.task_names import LANGUAGE_MODELING
from edgetf.predict.decode_bytes import token_cost
from edgetf.runtime.decode.model import decoder_model
from edgetf.targets.target import Target
from edgetf.validation.language.asking import Asker
from edgetf.validation.language.decoding import measure_decoding
from edgetf.validation.language.settings import CONTEXTS, fitting_contexts
from edgetf.validation.row import DeviceRow


def decoder_at(path: Path) -> Artifact | None:
    """The exported decoder in a folder, or whose file it is; None where there is another model, or none.

    Raises:
        ArtifactError: the folder's files have changed.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / MANIFEST).is_file():
        return None
    artifact = open_verified(folder)
    return artifact if artifact.spec.details.get("task") == LANGUAGE_MODELING else None


def bench_decoders(
    artifacts: Sequence[Artifact | None], device: DeviceProfile, target: Target, asked: Asked
) -> dict[str, Any]:
    """The document: the first decoder, timed in turns with the second one where there is one.

    Raises:
        ConfigError: the second model is no decoder.
        EdgetfError: a model cannot be run there.
    """
    if any(artifact is None for artifact in artifacts):
        raise ConfigError(f"--against: {asked.against} is not a language model, {asked.model} is; give two of a kind")
    found = [artifact for artifact in artifacts if artifact is not None]
    models = [
        replace(
            decoder_model(artifact, device.runtime_of(artifact.spec.kind)),  # type: ignore[arg-type]
            provider=asked.provider or device.provider,
        )
        for artifact in found
    ]
    own, other = models[0], models[1] if len(models) > 1 else None
    longest = min(model.decoder.max_length for model in models)
    contexts = fitting_contexts(asked.seq_lens or CONTEXTS, longest)
    cost = None
    with suppress(ArtifactError, DeviceError):  # without the package that reads the file there is no roof
        cost = token_cost(own.path, own.decoder.cache_bytes_per_token)
    row = DeviceRow(device.name, threads=asked.threads)
    asker = Asker(target, own, asked.threads, cpus=asked.cpus)
    measure_decoding(row, asker, contexts, asked.samples, {}, other, cost)
    return {
        "schema": 1,
        "device": device.name,
        "how": target.how,
        "made": made_with("onnxruntime", "ai-edge-litert"),
        "machine": row.machine,
        "conditions": row.conditions,
        "name": own.name,
        "path": str(own.path),
        "against": other.name if other else None,
        "backend": row.backend,
        "threads": asked.threads,
        "trusted": row.trusted,
        "decoding": row.decoding,
        "speedup": row.speedup,
        "speedup_ci95": row.speedup_ci95,
    }
