"""What every training stage of a language recipe does with a model: pack the texts, train, save, describe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgetf.config.language.stages import DivergenceConfig, LanguageDistillConfig, StepsConfig
from edgetf.core.artifact import Spec
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ConfigError
from edgetf.data.corpus.blocks import Blocks, pack
from edgetf.models.checkpoint import WEIGHTS
from edgetf.models.decoders.checkpoint import copy_decoder_tokenizer, load_decoder, save_decoder
from edgetf.models.decoders.facts import decoder_facts
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.tokenizers import refuse_other_tokens
from edgetf.training import processes
from edgetf.training.language.objective import Objective, next_token_loss
from edgetf.training.language.packed import BlockBatch, Packed, paced, used
from edgetf.training.language.perplexity import block_losses, perplexity
from edgetf.training.language.tutor import Tutor, likeliest
from edgetf.training.loop import Job, LossFunction, Progress, precision_of, train


def learn(
    model: Any,
    config: StepsConfig,
    tokenizer: Path,
    context: LanguageContext,
    out: Path,
    details: dict[str, Any] | None = None,
    documents: Sequence[str] | None = None,
) -> tuple[Spec, float]:
    """Train the model, in all processes, and write its checkpoint; gives the spec and the seconds of training.

    `tokenizer` is the folder whose tokenizer the model has. A config that is also a DivergenceConfig distills
    `context.tutor`; any other learns the next token alone. No steps: the model is measured and written as it is.
    `documents` take the place of those of the corpus that train; `details` are added to those of the spec.

    Raises:
        ConfigError: the loss is no longer a number, or the tutor has other tokens.
        DataError: the texts do not fill one sequence.
    """
    if tokenizer != out:
        copy_decoder_tokenizer(tokenizer, out)
    model.config.save_pretrained(out)
    facts = decoder_facts(out)
    if config.steps and asks_tutor(config):
        refuse_other_tokens(tokenizer, context.the_tutor().path)
    texts = context.corpus.train if documents is None else tuple(documents)
    seconds, account = 0.0, {}
    if config.steps:
        progress = processes.call(_train, model, config, out, facts, texts, context)
        seconds, account = progress.seconds, {"training": _account(progress, config)}
    model = model.cpu()
    return describe(model, out, out, facts, context, {**account, **(details or {})}), seconds


def describe(
    model: Any, tokenizer: Path, out: Path, facts: DecoderFacts, context: LanguageContext, details: dict[str, Any]
) -> Spec:
    """Write the checkpoint of a model, and say what it is and how well it predicts the dev texts."""
    dev = _dev(tokenizer, facts, context)
    params = save_decoder(model, out, tokenizer)
    losses = block_losses(load_decoder(out), dev)  # what was written, in float32, however it was trained
    return Spec(
        kind="torch",
        model_file=WEIGHTS,
        params=params,
        metrics=(perplexity(losses, dev.shape[1] - 1),),
        details={
            "task": "language_modeling",
            "max_length": context.recipe.data.max_length,
            "decoder": facts.to_json(),
            **details,
        },
    )


def asks_tutor(config: StepsConfig) -> bool:
    """Whether a training compares with the distributions of a teacher."""
    judged = isinstance(config, LanguageDistillConfig) and config.on_policy is not None
    return judged or (isinstance(config, DivergenceConfig) and config.teacher > 0)


def _dev(tokenizer: Path, facts: DecoderFacts, context: LanguageContext) -> Blocks:
    data = context.recipe.data
    return pack(context.corpus.dev, tokenizer, facts, data.max_length, data.max_dev_tokens)


def _train(
    model: Any,
    config: StepsConfig,
    folder: Path,
    facts: DecoderFacts,
    texts: tuple[str, ...],
    context: LanguageContext,
) -> Progress:
    """Train in place, with the tokenizer of the folder that is written; each process takes its share of a batch."""
    data, seed = context.recipe.data, context.recipe.seed
    processes.once(lambda: len(pack(texts, folder, facts, data.max_length)))  # the others find it in the cache
    blocks = pack(texts, folder, facts, data.max_length, data.max_train_tokens)
    dev = _dev(folder, facts, context)
    loop, batches = paced(config)
    job = Job(
        model=model,
        material=Packed(blocks, batches),
        loss=_loss(config, blocks, context, facts),
        evaluate=lambda trained: -float(block_losses(model, dev).mean()),
        config=loop,
        folder=folder,
        seed=seed,
        report=context.report,
        say=context.say,
        score_name="dev_log_likelihood",
    )
    try:
        return train(job)
    except FloatingPointError as error:
        raise ConfigError(f"training: {error}; lower learning_rate, got {config.learning_rate:g}") from None


def _loss(
    config: StepsConfig, blocks: Blocks, context: LanguageContext, facts: DecoderFacts
) -> LossFunction[BlockBatch]:
    """What is learned: the text alone, or also what the tutor says of it."""
    if not (isinstance(config, DivergenceConfig) and asks_tutor(config)):
        return next_token_loss
    on_policy = config.on_policy if isinstance(config, LanguageDistillConfig) else None
    tutor, stored = Tutor(context.the_tutor(), precision_of(paced(config)[0])), None
    reads = config.teacher > 0 and (on_policy is None or on_policy.share < 1)
    if reads and config.top_k is not None and config.top_k < facts.vocab_size:
        positions = used(len(blocks), config, context.recipe.seed)
        stored = likeliest(tutor, blocks, positions, config.top_k, config.temperature, context.report)
    if stored is not None and on_policy is None:
        tutor = Tutor(tutor.artifact)  # the model that wrote what is stored is not needed beside the student
    return Objective(config, tutor, stored, on_policy, config.steps * config.gradient_accumulation).loss


def _account(progress: Progress, config: StepsConfig) -> dict[str, Any]:
    """What a checkpoint's details say of its training."""
    history = []
    for row in progress.history:
        losses = {name: value for name, value in row.items() if name.startswith("loss_")}
        step = min(config.steps, round(row["epoch"] * paced(config)[1] / config.gradient_accumulation))
        history.append({"step": step, "dev_perplexity": math.exp(-row["dev_log_likelihood"]), **losses})
    return {"history": history, "best_step": history[progress.best_epoch]["step"], "resumed": progress.resumed}
