"""Which documents train, and which evaluate."""

from __future__ import annotations

from pathlib import Path

from edgetf.config.language.data import CorpusConfig
from edgetf.data.corpus.documents import load_corpus


def test_another_seed_moves_no_document_between_training_and_evaluation(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"document {number}")
    first, second = (load_corpus(CorpusConfig(sources=(str(tmp_path),)), seed) for seed in (0, 1))
    assert (first.dev, first.test) == (second.dev, second.test)
    assert first.train != second.train
    assert set(first.train) == set(second.train)
