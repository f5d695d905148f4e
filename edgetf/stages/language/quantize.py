"""Quantize: an exported fp32 decoder becomes one of another scheme; then its weights and its tokens are looked at."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from typing_extensions import assert_never

from edgetf.config.language.stages import LanguageQuantizeConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ParityError
from edgetf.core.schemes import FORMATS, Format, Scheme
from edgetf.core.support import HERE
from edgetf.data.corpus.blocks import pack
from edgetf.formats.decoder.genai import GENAI_CONFIG, GENERATION_CONFIG
from edgetf.formats.quantize import stored_errors
from edgetf.models.decoders.checkpoint import CONFIG, copy_decoder_tokenizer
from edgetf.runtime.decode.load import open_decoder
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.greedy import compared, logit_error, read_goldens, write_goldens, written_by_runtime
from edgetf.stages.quantize import WEIGHT_ERROR, hold_weights

WEIGHT_ERROR_MADE_UP = 0.6  # of its norm; a weight that makes up for others' errors moves further than rounding does


def run(
    config: LanguageQuantizeConfig, scheme: Scheme, source: Artifact, context: LanguageContext, out: Path
) -> tuple[Spec, float]:
    """Quantize one exported file; gives its spec and the seconds it took.

    Raises:
        ParityError: nothing was quantized, a stored weight is not the model's, or the runtime cannot run the file.
    """
    started = time.monotonic()
    model_format = next((known for known in FORMATS if known == source.spec.kind), None)
    if model_format is None:
        raise ParityError(
            f"quantize: got a {source.spec.kind} artifact, allowed: {', '.join(FORMATS)}; export it first"
        )
    name, model_file = f"{model_format}-{scheme}", source.spec.model_file
    facts = DecoderFacts.from_json(source.spec.details["decoder"])
    context.report(0, 2, f"quantizing {model_format}")
    share = _write(config, scheme, source, context, out / model_file, model_format)
    errors = stored_errors(model_format, source.model_path, out / model_file)
    made_up = scheme == "w4" and model_format == "onnx" and config.calibration_tokens > 0
    hold_weights(errors, name, WEIGHT_ERROR_MADE_UP if made_up else WEIGHT_ERROR)
    copy_decoder_tokenizer(source.path, out)
    for beside in (CONFIG, GENERATION_CONFIG, GENAI_CONFIG):
        if (source.path / beside).is_file():
            shutil.copyfile(source.path / beside, out / beside)
    context.report(1, 2, "checking it in its runtime")
    golden = read_goldens(source.path)
    plain, session = (open_decoder(folder, model_file, facts, HERE[model_format], 1) for folder in (source.path, out))
    rows = written_by_runtime(session, golden)
    write_goldens(out, rows)
    details = {
        **source.spec.details,
        "quantization": {"scheme": scheme, **config.model_dump(exclude={"stage", "schemes"})},
        "quantized_share": round(share, 4),
        "largest_weight_error": max(errors.values(), default=None),
        "parity": compared(golden, rows, logit_error(plain, session, golden)),
    }
    spec = Spec(model_format, model_file, source.spec.params, scheme=scheme, details=details)
    return spec, time.monotonic() - started


def _write(
    config: LanguageQuantizeConfig,
    scheme: Scheme,
    source: Artifact,
    context: LanguageContext,
    target: Path,
    model_format: Format,
) -> float:
    """The file in the scheme; gives the share of the weights that it stores in other numbers."""
    match model_format:
        case "onnx":
            from edgetf.formats.decoder.quantize import BlockWise, Calibration, quantize_decoder

            calibration = None
            if scheme == "w4" and config.calibration_tokens:
                facts = DecoderFacts.from_json(source.spec.details["decoder"])
                length = min(context.recipe.data.max_length, facts.max_length)
                blocks = pack(context.corpus.train, source.path, facts, length, limit=config.calibration_tokens)
                calibration = Calibration(facts, blocks.astype("int64"))
            how = BlockWise(config.embedding_bits, calibration)
            return quantize_decoder(source.model_path, target, scheme, config.embeddings, how)
        case "tflite":
            from edgetf.formats.decoder.tflite_quantize import quantize_tflite

            return quantize_tflite(source.model_path, target, scheme, config.embeddings)
        case _:
            assert_never(model_format)
