"""``edgetf infer``."""

from __future__ import annotations

import sys
from pathlib import Path

from edgetf.commands.output import print_json
from edgetf.commands.writing import Writing
from edgetf.core.artifact import open_verified
from edgetf.core.errors import EXIT_FINE, ConfigError
from edgetf.core.quiet import quiet
from edgetf.core.task_names import LANGUAGE_MODELING
from edgetf.runtime.classify import classify
from edgetf.runtime.load import load_backend
from edgetf.tasks import task_of
from edgetf.validation.golden import deployable_model


def infer_command(folder: Path, texts: list[str], pair: str | None, writing: Writing, as_json: bool) -> int:
    """Print the answer for every text, or how a language model goes on with it."""
    artifact = open_verified(folder)
    if artifact.spec.details.get("task") == LANGUAGE_MODELING:
        from edgetf.commands.generate import generate_command

        if pair is not None:
            raise ConfigError("infer: --pair: a language model goes on with one text; leave it out")
        return generate_command(artifact, texts, writing, as_json)
    if writing.given():
        raise ConfigError(
            [f"infer: {option}: {folder} is no language model; leave it out" for option in writing.given()]
        )
    model = deployable_model(artifact)
    if not texts:
        texts = [line.strip() for line in sys.stdin if line.strip()]
    if not texts:
        raise ConfigError("infer: no text; give one, or lines on stdin")
    task = task_of(model.task)
    if pair is not None and not task.pairs:
        raise ConfigError(f"infer: --pair: {model.task} reads one text; leave it out")
    texts = [task.prepare(text) for text in texts]
    names: list[str] = artifact.spec.details["label_names"]
    with quiet():
        session = load_backend(model.backend).load(artifact.model_path, threads=1)
        answers = classify(session, model.encoder().inputs(texts, [pair] * len(texts) if pair else None), model.pad_id)
    said = task.say(texts, answers, names)
    if as_json:
        print_json([each.record for each in said])
        return EXIT_FINE
    for each in said:
        print(each.line)
    return EXIT_FINE
