"""Teacher: a pretrained decoder, put into the run as a plain Hugging Face folder that the other stages read.

A folder is linked, so that it takes no second space, and opened once, so that damage shows before hours of work. What
lies in shards or in a GGUF file is written as one model.safetensors.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from edgetf.config.language.models import Pretrained
from edgetf.core.artifact import Spec
from edgetf.core.errors import ConfigError
from edgetf.core.files import write_json
from edgetf.models.checkpoint import WEIGHTS
from edgetf.models.decoders.checkpoint import (
    CONFIG,
    GENERATION_CONFIG,
    copy_decoder_tokenizer,
    count_parameters,
    load_decoder,
    save_decoder,
)
from edgetf.models.decoders.configs import known_config
from edgetf.models.decoders.facts import decoder_facts
from edgetf.models.decoders.gguf import convert_gguf, find_gguf, is_gguf
from edgetf.models.decoders.locate import locate_decoder
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.details import torch_spec


def run(context: LanguageContext, out: Path) -> tuple[Spec, float]:
    """Write the recipe's pretrained teacher into `out`; gives its spec and the seconds it took.

    Raises:
        ArtifactError: there is none, it is damaged, of a family that is not known here, or only a pickle.
        ConfigError: the recipe's texts are longer than its positions.
        DeviceError: a package is not installed.
    """
    started = time.monotonic()
    teacher = context.recipe.teacher
    if not isinstance(teacher, Pretrained):
        raise RuntimeError("the pipeline runs this stage only for a teacher that is there")
    out.mkdir(parents=True, exist_ok=True)
    context.report(0, 2, "reading the teacher")
    if is_gguf(teacher.source):
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            params = convert_gguf(find_gguf(teacher.source, Path(scratch)), out)
    else:
        params = copy_decoder(locate_decoder(teacher.source, teacher.revision), out)
    positions, wanted = decoder_facts(out).max_length, context.recipe.data.max_length
    if wanted > positions:
        raise ConfigError(f"data.max_length: got {wanted}, allowed: up to the {positions} positions of the teacher")
    context.report(2, 2, "reading the teacher")
    return torch_spec(out, params, context), time.monotonic() - started


def copy_decoder(source: Path, out: Path) -> int:
    """Put a decoder's config, weights and tokenizer into `out`; returns the number of weights."""
    model = load_decoder(source)
    if not (source / WEIGHTS).is_file():  # shards
        return save_decoder(model, out, source)
    write_json(out / CONFIG, known_config(source))
    if (source / GENERATION_CONFIG).is_file():
        shutil.copyfile(source / GENERATION_CONFIG, out / GENERATION_CONFIG)
    try:
        os.link((source / WEIGHTS).resolve(), out / WEIGHTS)  # resolved: a hub cache holds symbolic links
    except OSError:
        shutil.copyfile(source / WEIGHTS, out / WEIGHTS)
    copy_decoder_tokenizer(source, out)
    return count_parameters(model)
