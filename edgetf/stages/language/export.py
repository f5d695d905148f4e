"""Export: write a decoder with its key-value cache, and prove that it writes what transformers' `generate` writes."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import assert_never

from edgetf.config.language.stages import LanguageExportConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ConfigError
from edgetf.core.files import write_json
from edgetf.core.schemes import Format
from edgetf.core.support import HERE
from edgetf.data.corpus.blocks import pack
from edgetf.formats.decoder import onnx
from edgetf.formats.decoder.genai import GENAI_CONFIG, genai_config, write_generation_config
from edgetf.models.decoders.checkpoint import CONFIG, copy_decoder_tokenizer, load_decoder
from edgetf.runtime.decode.load import open_decoder
from edgetf.runtime.decode.text import TextCodec
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.greedy import golden_prompts, hold_parity, write_goldens, written_by_torch
from edgetf.validation.language.golden import GOLDEN

CALIBRATION_TOKENS = 8192  # that an int8 cache's ranges are taken of


def run(
    config: LanguageExportConfig, source: Artifact, context: LanguageContext, out: Path, model_format: Format
) -> tuple[Spec, float]:
    """Write one format; gives its spec and the seconds it took.

    Raises:
        ConfigError: more context than the model has positions, or a cache that this graph has not.
        ParityError: the converter cannot take the model, or the file writes other tokens than torch.
    """
    started = time.monotonic()
    facts = exported_facts(config, source, model_format)
    model = load_decoder(source.path)
    context.report(0, 3, f"writing {model_format}")
    copy_decoder_tokenizer(source.path, out)
    shutil.copyfile(source.path / CONFIG, out / CONFIG)
    write_generation_config(out, facts)
    model_file, found = _write(config, model, facts, context, out, model_format)
    context.report(1, 3, "writing golden texts with torch")
    prompts = golden_prompts(context.corpus.dev or context.corpus.train, TextCodec(out, facts), facts)
    rows = written_by_torch(model, facts, prompts, lambda done, of: context.report(1, 3, f"golden text {done} of {of}"))
    context.report(2, 3, "checking it in its runtime")
    session = open_decoder(out, model_file, facts, HERE[model_format], threads=1)
    rows, parity = hold_parity(f"{model_format}-fp32", model, session, rows, exact=facts.kv_cache == "fp32")
    write_goldens(out, rows)
    details = {
        "task": context.recipe.task,
        "max_length": source.spec.details["max_length"],
        "decoder": facts.to_json(),
        **found,
        "golden": GOLDEN,
        "parity": parity,
    }
    return Spec(model_format, model_file, source.spec.params, details=details), time.monotonic() - started


def exported_facts(config: LanguageExportConfig, source: Artifact, model_format: Format) -> DecoderFacts:
    """The facts of the file: as many positions as were asked for, and how its cache is stored.

    Raises:
        ConfigError: more positions than the model has, or fewer than the texts of the recipe.
    """
    facts = DecoderFacts.from_json(source.spec.details["decoder"])
    wanted, shortest = config.context or facts.max_length, source.spec.details["max_length"]
    if not shortest <= wanted <= facts.max_length:
        raise ConfigError(
            f"export.context: got {wanted}, allowed: {shortest} (data.max_length) to {facts.max_length}, which are the "
            "positions of the model"
        )
    return replace(facts, max_length=wanted, kv_cache=config.kv_cache if model_format == "onnx" else "fp32")


def _write(
    config: LanguageExportConfig, model: Any, facts: DecoderFacts, context: LanguageContext, out: Path, kind: Format
) -> tuple[str, dict[str, Any]]:
    """The model file with what its format needs beside it; gives its name, and what an artifact says of the file."""
    match kind:
        case "onnx":
            length = min(context.recipe.data.max_length, facts.max_length)
            written = onnx.write_onnx(
                model,
                facts,
                out / onnx.MODEL,
                config,
                lambda: pack(context.corpus.train, out, facts, length, limit=CALIBRATION_TOKENS).astype("int64"),
                context.say,
            )
            family, shared = model.config.model_type, written.graph == "fused"
            write_json(out / GENAI_CONFIG, genai_config(facts, family, onnx.MODEL, written.inputs, shared))
            found = {"opset": config.opset, "graph": written.graph, "inputs": list(written.inputs), "lengths": None}
            return onnx.MODEL, found
        case "tflite":
            from edgetf.formats.decoder import tflite

            model_file = "model.tflite"
            lengths = tflite.write_tflite(model, facts, out / model_file, context=facts.max_length)
            return model_file, {"inputs": ["input_ids"], "lengths": list(lengths)}
        case _:
            assert_never(kind)
