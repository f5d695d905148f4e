"""Laws of entities: what is written as tags is read back, and counts keep to their bounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgetf.core.spans import counts, micro_f1, spans

TAG = st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"])
ROW = st.lists(TAG, max_size=12)


@given(ROW)
def test_iob2_is_read_back(tags: list[str]) -> None:
    found = spans(tags)
    written = ["O"] * len(tags)
    for kind, first, end in found:
        written[first:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - first - 1)
    assert spans(written) == found
    assert [tag != "O" for tag in tags] == [tag != "O" for tag in written]


@given(ROW)
def test_entities_do_not_overlap(tags: list[str]) -> None:
    found = spans(tags)
    assert all(first < end for _, first, end in found)
    assert all(one[2] <= other[1] for one, other in zip(found, found[1:], strict=False))


@given(st.lists(st.tuples(TAG, TAG), max_size=12))
def test_counts_keep_to_their_bounds(pairs: list[tuple[str, str]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    right, predicted, there = counts(ours, theirs)
    assert 0 <= right <= min(predicted, there)
    assert counts(theirs, ours) == (right, there, predicted)
    assert counts(ours, ours) == (predicted,) * 3
    if predicted + there:
        assert 0 <= float(micro_f1(np.array([right, predicted, there]))) <= 1
