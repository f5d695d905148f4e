"""Validate on an emulated processor: the same answers as here, and the instructions of an inference.

Emulation is some hundred times slower than a processor, so accuracy is measured on a few evaluation rows (the metrics
say their n), and milliseconds and memory are not measured at all. What is gained: the file runs with the kernels of
that processor, and its answers are held against those of this machine, text by text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgetf.core.artifact import Artifact
from edgetf.core.errors import ArtifactError
from edgetf.core.metrics import Floats, cosine
from edgetf.core.task_names import TaskName
from edgetf.runtime.model import Model
from edgetf.targets.target import Answer, Target, Tick
from edgetf.validation.evaluation import Evaluation, read_evaluation
from edgetf.validation.golden import deployable_model, golden_of, runtime_logits, same_file_parity
from edgetf.validation.row import DeviceRow, Settings

TEXTS = 64  # evaluation rows that are run there
DECIDES: tuple[TaskName, ...] = ("sequence_classification", "token_classification")
RUNS = 3  # inferences that are counted
MOST_FP32 = 1e-5  # largest difference of an fp32 answer between two processors, where the largest answer is about 1
LEAST_COSINE = 0.99  # between the INT8 answers of two processors …
LEAST_AGREEMENT = 0.99  # … and the share of texts that both put into the same class


@dataclass(frozen=True)
class Parity:
    """How near the answers of two processors lie; `agreement` is None where an answer is not a choice of classes."""

    n: int
    max_abs_difference: float
    largest: float  # answer, without its sign
    cosine: float  # of all answers together
    min_cosine: float  # of the text where it is lowest
    agreement: float | None


def parity(here: Floats, there: Floats, decides: bool) -> Parity:
    """Compare answers (N, C) of two processors to the same texts or words; with `decides` an answer chooses a class.

    The sign of a single number says nothing, so that where C is 1 both cosines are that of all texts together.

    >>> parity(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 4.0]]), decides=True).max_abs_difference
    2.0
    >>> parity(np.array([[3.0], [4.0]]), np.array([[-3.0], [4.0]]), decides=False).min_cosine
    0.28
    """
    whole = float(cosine(here.reshape(1, -1), there.reshape(1, -1))[0])
    lowest = float(cosine(here, there).min()) if here.shape[1] > 1 else whole
    agreement = float((here.argmax(axis=1) == there.argmax(axis=1)).mean()) if decides else None
    difference, largest = float(np.abs(here - there).max()), float(np.abs(here).max())
    return Parity(len(here), difference, largest, whole, lowest, agreement)


def parity_problem(scheme: str, found: Parity) -> str | None:
    """Why two processors do not run the same model, or None.

    fp32 is summed in another order there, no more; INT8 kernels may also round and saturate differently. A text between
    two classes has small logits, whose direction says little, so that classes are compared and the cosine is that of
    all texts; vectors, which have a direction each, are compared text by text.

    >>> from dataclasses import replace
    >>> fine = Parity(50, 3e-6, 1.0, cosine=0.999, min_cosine=0.98, agreement=1.0)
    >>> parity_problem("fp32", fine), parity_problem("w8a8", fine)
    (None, None)
    >>> parity_problem("fp32", replace(fine, max_abs_difference=2e-5))
    'parity: answers to 50 texts or words differ from those of this machine by 2e-05, allowed: 1e-05'
    >>> parity_problem("w8a8", replace(fine, cosine=0.95))
    'parity: cosine 0.9500 with the answers of this machine, allowed: 0.99 or more'
    >>> parity_problem("w8a8", replace(fine, agreement=0.96))
    'parity: 0.96 of 50 texts or words get the class that this machine gives them, allowed: 0.99 or more'
    >>> parity_problem("w8a8", replace(fine, agreement=None))
    'parity: cosine 0.9800 with the answers of this machine, allowed: 0.99 or more'
    """
    if scheme == "fp32":
        most = MOST_FP32 * max(1.0, found.largest)
        if found.max_abs_difference <= most:  # NaN is no parity
            return None
        said = f"answers to {found.n} texts or words differ from those of this machine by"
        return f"parity: {said} {found.max_abs_difference:.2g}, allowed: {most:.2g}"
    similarity = found.min_cosine if found.agreement is None else found.cosine
    if not similarity >= LEAST_COSINE:
        return f"parity: cosine {similarity:.4f} with the answers of this machine, allowed: {LEAST_COSINE:g} or more"
    if found.agreement is not None and not found.agreement >= LEAST_AGREEMENT:
        said = f"{found.agreement:.2f} of {found.n} texts or words get the class that this machine gives them"
        return f"parity: {said}, allowed: {LEAST_AGREEMENT:g} or more"
    return None


def measure_emulated(
    row: DeviceRow,
    artifact: Artifact,
    model: Model,
    target: Target,
    reference: Artifact | None,
    settings: Settings,
    tick: Tick | None = None,
) -> None:
    """Fill a row with parity, the accuracy of a few rows, and instructions, beside those of the reference.

    Raises:
        DeviceError: the emulator is not set up, or failed its self-check.
        ArtifactError, ParityError: the file cannot be opened or run there.
    """
    golden = golden_of(artifact)
    rows, baseline = _few(reference, model) if reference is not None else (None, None)
    texts = golden.texts + (rows.texts if rows is not None else [])
    pairs = golden.pairs and golden.pairs + ((rows.pairs or []) if rows is not None else [])
    answer = runtime_logits(model, texts, pairs, settings.threads, lambda request: target.ask(request, tick))
    there = np.asarray(answer["logits"])
    here = np.asarray(runtime_logits(model, texts, pairs, settings.threads)["logits"])
    row.backend = answer["backend"]
    row.machine = {**answer["machine"], "memory_mib": None}  # it would be this machine's
    moved = same_file_parity(artifact.spec.scheme, golden.logits, there[: len(golden.logits)])
    if rows is not None:
        answers = there[len(golden.logits) :]
        if not rows.fits(answers):
            raise ArtifactError(f"{model.name}: {answers.shape[1]} classes, its teacher has {rows.classes}")
        row.metrics = [metric.to_json() for metric in rows.compare(answers)]
    found = parity(here, there, decides=model.task in DECIDES)
    row.parity = vars(found)
    row.problems += [problem for problem in (moved, parity_problem(artifact.spec.scheme, found), baseline) if problem]
    if target.counts:
        _count(row, target, model, reference, settings, max(golden.texts, key=len))


def _few(reference: Artifact, model: Model) -> tuple[Evaluation, str | None]:
    """Some evaluation rows, spread evenly over all, and what is wrong with a teacher that all of them measure."""
    rows = read_evaluation(reference.path, model.task, reference.spec.details.get("label_names", ()))
    chosen = np.unique(np.linspace(0, len(rows.texts) - 1, TEXTS).astype(int))
    return rows.select(chosen.tolist()), rows.baseline_problem()


def _count(
    row: DeviceRow, target: Target, model: Model, reference: Artifact | None, settings: Settings, text: str
) -> None:
    """Instructions of one inference of this file and of the reference, on the same text, one thread."""
    models = [model] + ([deployable_model(reference)] if reference is not None else [])
    answer = target.ask(
        {
            "do": "count",
            "models": [each.to_json() for each in models],
            "threads": 1,
            "runs": RUNS,
            "seq_len": settings.seq_len or model.max_length,
            "text": text,
        }
    )
    take_counts(row, answer)


def take_counts(row: DeviceRow, answer: Answer) -> None:
    """Put down what was counted: the variant first, then its reference, if it was counted too."""
    own, *others = answer["instructions"]
    row.seq_len, row.instructions, row.instructions_by_class = answer["seq_lens"][0], own["total"], own["by_class"]
    if others:
        row.reference_instructions = others[0]["total"]
        row.instructions_ratio = round(own["total"] / others[0]["total"], 4)
