"""``edgetf predict``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgetf.commands.bench import model_at
from edgetf.commands.bench_language import decoder_at
from edgetf.commands.output import print_json
from edgetf.core.artifact import Artifact
from edgetf.core.device import DeviceProfile, load_device
from edgetf.core.errors import EXIT_FINE
from edgetf.core.made import made_with
from edgetf.predict.decode import forecast_decode
from edgetf.predict.forecast import Forecast, forecast
from edgetf.report.words import mebibytes, milliseconds, per_second
from edgetf.runtime.decode.model import decoder_model
from edgetf.validation.language.settings import CONTEXTS, fitting_contexts


def predict_command(path: Path, device_name: str, seq_lens: Sequence[int], threads: int | None, as_json: bool) -> int:
    """Predict the latency of a file, or a decoder's tokens a second, on a device that need not be at hand."""
    device = load_device(device_name)
    decoder = decoder_at(path)
    if decoder is not None:
        return _predict_decoder(decoder, device, seq_lens, as_json)
    model = model_at(path, device)
    lengths = seq_lens or [model.max_length]
    found = [forecast(model.path, device, length, threads or device.threads) for length in lengths]
    if as_json:
        print_json(_document(device, model.name, model.path, [each.to_json() for each in found]))
        return EXIT_FINE
    for each in found:
        print(_line(model.name, device.name, each))
    about = found[0].fit.about()
    print(
        f"fit: {about['runtime']} {about['scheme']} on {about['threads']} thread(s), {about['n']} measurements of "
        f"{about['models']} models on {_machine(about['machine'])}, {about['date']}; nothing was measured now"
    )
    return EXIT_FINE


def _document(device: DeviceProfile, name: str, path: Path, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What ``--json`` prints of one model."""
    return {
        "schema": 1,
        "device": device.name,
        "how": "predicted",
        "models": [{"name": name, "path": str(path), **each} for each in found],
        "made": made_with("onnx", "ai-edge-litert"),
    }


def _predict_decoder(artifact: Artifact, device: DeviceProfile, contexts: Sequence[int], as_json: bool) -> int:
    """Tokens a second behind each context."""
    model = decoder_model(artifact)
    lengths = fitting_contexts(tuple(contexts) or CONTEXTS, model.decoder.max_length)
    found = [forecast_decode(model.path, model.decoder, device, length) for length in lengths]
    if as_json:
        print_json(_document(device, model.name, model.path, [each.to_json() for each in found]))
        return EXIT_FINE
    for each in found:
        print(
            f"{model.name}: predicted {per_second(each.tokens_per_s)} tokens/s on {device.name} "
            f"({per_second(each.low)} to {per_second(each.high)}) behind {each.context} tokens, "
            f"{mebibytes(each.bytes_per_token)} read for each"
        )
    seen = found[0].bandwidth
    print(
        f"by {seen.low_gb_per_s:g} to {seen.high_gb_per_s:g} GB/s that decoders read there, all cores of its "
        f"{seen.unit.upper()}: {seen.source}; nothing was measured now"
    )
    return EXIT_FINE


def _line(name: str, device: str, found: Forecast) -> str:
    low, high = found.interval95_ms
    most = ", ".join(f"{part} {share:.0%}" for part, share in list(found.shares().items())[:3])
    return (
        f"{name}: predicted {milliseconds(found.estimate.ms)} on {device} (95 %: {milliseconds(low)} to "
        f"{milliseconds(high)}), {found.graph.seq_len} tokens; of that {most}"
    )


def _machine(record: dict[str, Any]) -> str:
    return str(record.get("processor") or "a machine that did not say what it is")
