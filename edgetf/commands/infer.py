"""``edgetf infer``."""

from __future__ import annotations

import sys
from pathlib import Path

from edgetf.commands.output import print_json
from edgetf.core.artifact import open_verified
from edgetf.core.errors import EXIT_FINE, ConfigError
from edgetf.core.quiet import quiet
from edgetf.runtime.classify import classify
from edgetf.runtime.load import load_backend
from edgetf.tasks import task_of
from edgetf.validation.golden import deployable_model


def infer_command(folder: Path, texts: list[str], pair: str | None, as_json: bool) -> int:
    """Print the answer for every text."""
    artifact = open_verified(folder)
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
