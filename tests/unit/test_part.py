"""Parts of work: what is written K/N, and blocks that all machines cut alike."""

from __future__ import annotations

import pytest

from edgetf.core.errors import ConfigError
from edgetf.core.part import Part


@pytest.mark.parametrize(("word", "wanted"), [("1/1", (1, 1)), ("2/4", (2, 4)), ("16/16", (16, 16))])
def test_reads_what_there_is(word: str, wanted: tuple[int, int]) -> None:
    part = Part.read(word, "--teacher-outputs")
    assert (part.number, part.of) == wanted


@pytest.mark.parametrize("word", ["", "2", "0/2", "3/2", "-1/2", "1/0", "a/b", "1/2/3", "1 /2", "01/2", "1/2\n"])
def test_refuses_what_there_is_not(word: str) -> None:
    with pytest.raises(ConfigError, match="--teacher-outputs: got .*, allowed: K/N with K from 1 to N"):
        Part.read(word, "--teacher-outputs")


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 65_536, 65_537, 1_000_000])
def test_every_row_is_in_one_block(rows: int) -> None:
    pytest.importorskip("torch", reason="needs edgetf[compress]")
    from edgetf.training.blocks import MOST, split_rows

    blocks = split_rows(rows)
    assert [block.start for block in blocks[1:]] == [block.stop for block in blocks[:-1]]
    assert (blocks[0].start, blocks[-1].stop) == (0, rows)
    assert len(blocks) <= MOST
    assert len({len(block) for block in blocks[:-1]}) <= 1
