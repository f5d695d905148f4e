"""Perplexity and the distance from a teacher are what the formulas say, with intervals that hold blocks together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetf.core.errors import ArtifactError
from edgetf.core.metrics import Floats, Metric
from edgetf.validation.language.evaluation import EVALUATION, Exam, Teacher, read_exam, write_exam
from edgetf.validation.language.metrics import Scored, floor_problem, language_metrics, teacher_alone

VOCABULARY, BLOCKS, LENGTH, TOP = 50, 40, 9, 4
RNG = np.random.default_rng(3)


def exam_of(nll: Floats | None = None, sizes: int = LENGTH - 1) -> Exam:
    """An exam whose teacher has these costs, or some that differ from block to block."""
    shape = (BLOCKS, LENGTH - 1)
    each = nll if nll is not None else np.repeat(RNG.uniform(1, 3, (BLOCKS, 1)), LENGTH - 1, axis=1)
    top_ids = RNG.integers(0, VOCABULARY, (*shape, TOP)).astype(np.int32)
    logprobs = np.log(np.full((*shape, TOP), 0.2))
    ids = RNG.integers(0, VOCABULARY, (BLOCKS, LENGTH)).astype(np.int32)
    return Exam(ids, np.full(BLOCKS, sizes), Teacher(each, top_ids, logprobs))


def measured(scored: Scored, exam: Exam) -> dict[str, Metric]:
    return {metric.name: metric for metric in language_metrics(scored, exam)}


def like_teacher(exam: Exam, **changed: Any) -> Scored:
    own = teacher_alone(exam.teacher)
    return Scored(**{**vars(own), **changed})


def test_guessing_among_all_tokens_has_their_number_as_perplexity() -> None:
    exam = exam_of()
    found = measured(like_teacher(exam, nll=np.full((BLOCKS, LENGTH - 1), math.log(VOCABULARY))), exam)["perplexity"]
    assert found.value == pytest.approx(VOCABULARY)
    assert found.ci95 == pytest.approx((VOCABULARY, VOCABULARY))
    assert found.n == BLOCKS * (LENGTH - 1)


def test_a_bit_for_each_byte() -> None:
    exam = exam_of()
    found = measured(like_teacher(exam, nll=np.full((BLOCKS, LENGTH - 1), math.log(2))), exam)["bits_per_byte"]
    assert (found.value, found.unit) == (pytest.approx(1.0), "bits/byte")


def test_a_text_of_no_bytes_has_no_bits_per_byte() -> None:
    exam = exam_of(sizes=0)
    assert measured(like_teacher(exam), exam)["bits_per_byte"].value is None


def test_the_ratio_is_paired_so_that_hard_blocks_do_not_widen_it() -> None:
    exam = exam_of()
    found = measured(like_teacher(exam, nll=exam.teacher.nll + math.log(1.5)), exam)
    assert found["perplexity_ratio"].value == pytest.approx(1.5)
    assert found["perplexity_ratio"].ci95 == pytest.approx((1.5, 1.5))
    low, high = found["perplexity"].ci95 or (0.0, 0.0)
    assert high / low > 1.1


def test_an_interval_knows_that_tokens_of_a_block_go_together() -> None:
    together = exam_of()
    shuffled = exam_of(RNG.permutation(together.teacher.nll.ravel()).reshape(BLOCKS, LENGTH - 1))
    widths = []
    for exam in (together, shuffled):
        low, high = measured(like_teacher(exam), exam)["perplexity"].ci95 or (0.0, 0.0)
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held, draws = 0, 60
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        nll = 2.0 + rng.normal(0, 0.5, (BLOCKS, 1)) + rng.normal(0, 0.5, (BLOCKS, LENGTH - 1))
        exam = exam_of(nll)
        low, high = measured(like_teacher(exam), exam)["perplexity"].ci95 or (0.0, 0.0)
        held += low <= math.exp(2.0) <= high
    assert held >= 0.85 * draws


def test_a_model_that_is_its_teacher_is_no_distance_away() -> None:
    exam = exam_of()
    found = measured(teacher_alone(exam.teacher), exam)
    assert found["perplexity_ratio"].value == 1
    assert [found[name].value for name in ("kl", "kl_p99", "flip_rate")] == [0, 0, 0]


def test_few_broken_tokens_show_in_the_99th_percentile_of_the_kl() -> None:
    exam = exam_of()
    kl = np.full((BLOCKS, LENGTH - 1), 0.01)
    kl[::8, 0] = 5.0  # five of 320 tokens
    found = measured(like_teacher(exam, kl=kl), exam)
    assert found["kl"].value == pytest.approx(kl.mean())
    assert found["kl_p99"].value == pytest.approx(5.0)


def test_a_flip_is_another_likeliest_token() -> None:
    exam = exam_of()
    argmax = exam.teacher.argmax.astype(np.int64).copy()
    argmax[:, 0] += 1
    assert measured(like_teacher(exam, argmax=argmax), exam)["flip_rate"].value == pytest.approx(1 / (LENGTH - 1))


def test_of_a_single_block_there_is_no_interval() -> None:
    one = exam_of().some(1)
    assert measured(like_teacher(one), one)["perplexity"].ci95 is None


def test_a_teacher_no_better_than_guessing_is_no_measure() -> None:
    exam = exam_of(np.full((BLOCKS, LENGTH - 1), math.log(VOCABULARY) + 0.01))
    assert "no better than guessing among its 50 tokens" in (floor_problem(exam, VOCABULARY) or "")
    assert floor_problem(exam, VOCABULARY + 1) is None


def test_an_exam_is_read_as_it_was_written(tmp_path: Path) -> None:
    exam = exam_of()
    write_exam(tmp_path, exam)
    again = read_exam(tmp_path, VOCABULARY)
    assert np.array_equal(again.ids, exam.ids)
    assert np.array_equal(again.sizes, exam.sizes)
    assert np.allclose(again.teacher.nll, exam.teacher.nll)
    assert np.array_equal(again.teacher.top_ids, exam.teacher.top_ids)
    assert np.allclose(again.teacher.top_logprobs, exam.teacher.top_logprobs)


def test_some_blocks_are_spread_over_all() -> None:
    exam = exam_of()
    few = exam.some(4)
    assert np.array_equal(few.ids, exam.ids[[0, 13, 26, 39]])
    assert len(few.teacher.nll) == len(few.sizes) == 4


@pytest.mark.parametrize("damage", ["missing", "cut", "no archive", "other shapes", "a name less"])
def test_a_broken_exam_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / EVALUATION
    if damage != "missing":
        write_exam(tmp_path, exam_of())
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:200])
        case "no archive":
            path.write_bytes(b"text")
        case "other shapes":
            np.savez(path, ids=np.zeros((2, 3)), sizes=np.zeros(5), nll=0, top_ids=0, top_logprobs=0)
        case "a name less":
            np.savez(path, ids=np.zeros((2, 3)), sizes=np.zeros(2))
    with pytest.raises(ArtifactError, match=EVALUATION):
        read_exam(tmp_path, VOCABULARY)


def test_an_exam_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    write_exam(tmp_path, exam_of())
    with pytest.raises(ArtifactError, match="the model knows 10; give the teacher of this model"):
        read_exam(tmp_path, 10)
