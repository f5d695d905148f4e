"""Text comes out whole: never half a character, never a part of a stop string, and nothing of it is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_decoder import FACTS, fake_folder

from edgetf.core.errors import ArtifactError
from edgetf.runtime.decode.text import Speller, StopFinder, TextCodec
from edgetf.runtime.decode.write import Continuation

pytest.importorskip("tokenizers", reason="needs edgetf[ort]")
TEXTS = [
    "once upon a time",
    "Füße, naïve — 42 €",
    "日本語のテキスト",
    "👩‍👩‍👧‍👦 family 🎉🎉",
    " two  spaces\n\nand lines\t",
]


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> TextCodec:
    return TextCodec(fake_folder(tmp_path_factory.mktemp("text")), FACTS)


def spelled(codec: TextCodec, tokens: list[int], before: list[int] | None = None) -> list[str]:
    speller = Speller(codec, before or [])
    return [*(speller.add(token) for token in tokens), speller.end()]


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_make_up_the_text_and_none_is_half_a_character(codec: TextCodec, text: str) -> None:
    pieces = spelled(codec, codec.ids(text).tolist())
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)
    assert sum(map(bool, pieces)) > 1


def test_long_texts_of_all_characters_come_out_as_they_are(codec: TextCodec) -> None:
    rng = random.Random(0)
    ranges = [(32, 127), (161, 0xD7FF), (0x1F300, 0x1F6FF)]
    text = "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(2000))
    assert "".join(spelled(codec, codec.ids(text).tolist())) == text


def test_broken_bytes_are_shown_as_such_and_do_not_hold_back_what_follows(codec: TextCodec) -> None:
    broken = codec.ids("é").tolist()[:1]  # the first byte of two
    tokens = [*broken * 6, *codec.ids("fine").tolist()]
    pieces = spelled(codec, tokens)
    assert "".join(pieces) == codec.text(tokens) == "\ufffd" * 6 + "fine"
    assert pieces[3] == "\ufffd"  # a character lacks three bytes at most
    assert "".join(spelled(codec, broken)) == "\ufffd"  # the end shows what never became whole


def test_the_end_of_a_text_is_not_shown(codec: TextCodec) -> None:
    assert "".join(spelled(codec, [*codec.ids("end").tolist(), 0])) == "end"


def test_a_half_character_of_the_prompt_is_completed(codec: TextCodec) -> None:
    tokens = codec.ids("a€").tolist()
    assert "".join(spelled(codec, tokens[2:], before=tokens[:2])) == "€"


def test_a_tokenizer_that_drops_the_first_space_still_gives_it(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"▁once": 0, "▁upon": 1, "▁a": 2}, unk_token="▁a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    codec = TextCodec(tmp_path, FACTS)
    assert spelled(codec, [1, 2] * 20, before=[0])[:3] == [" upon", " a", " upon"]
    assert spelled(codec, [1, 2] * 20, before=[0])[-3:] == [" upon", " a", ""]


def test_the_first_token_of_a_text_is_that_of_the_facts(tmp_path: Path) -> None:
    from dataclasses import replace

    codec = TextCodec(fake_folder(tmp_path), replace(FACTS, bos_id=7))
    assert codec.ids("a").tolist() == [7, *codec.ids("a", begins=False).tolist()]
    assert [part.tolist()[:1] == [7] for part in codec.parts(["a", " b"])] == [True, False]


def shown(text: str, stops: list[str], size: int) -> tuple[str, str | None]:
    """What is shown of a text that comes in pieces of a size, and the stop string that was found."""
    finder = StopFinder(stops)
    pieces = [finder.add(text[start : start + size]) for start in range(0, len(text), size)]
    return "".join(pieces) + finder.end(), finder.found


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("stops", "wanted"),
    [
        (["\n\n"], ("one two\nthree", "\n\n")),
        (["two"], ("one ", "two")),
        (["ee\n\nf", "\n\nfo"], ("one two\nthr", "ee\n\nf")),
        (["three!", "zero"], ("one two\nthree\n\nfour", None)),
        (["four five"], ("one two\nthree\n\nfour", None)),
        ([], ("one two\nthree\n\nfour", None)),
        (["", "o"], ("", "o")),
    ],
)
def test_a_stop_string_is_found_across_pieces_and_not_shown(
    size: int, stops: list[str], wanted: tuple[str, str | None]
) -> None:
    assert shown("one two\nthree\n\nfour", stops, size) == wanted


def test_no_token_is_asked_for_after_a_stop_string(codec: TextCodec) -> None:
    asked: list[int] = []

    def tokens() -> Iterator[int]:
        for token in codec.ids("once upon a time. The end").tolist():
            asked.append(token)
            yield token

    written = Continuation()
    assert "".join(written.pieces(tokens(), codec, stops=["time"])) == written.text == "once upon a "
    assert (written.stopped_by, written.stop) == ("stop", "time")
    assert written.tokens == asked and codec.text(asked).endswith("time")


@pytest.mark.parametrize(
    ("tokens", "limit", "wanted"), [([5, 0], 9, "eos"), ([5, 6], 2, "max_new_tokens"), ([5, 6], 9, "max_length")]
)
def test_it_says_what_ended_a_text(codec: TextCodec, tokens: list[int], limit: int, wanted: str) -> None:
    written = Continuation()
    list(written.pieces(iter(tokens), codec, eos_ids=(0,), max_new_tokens=limit))
    assert written.stopped_by == wanted


def test_a_text_that_is_broken_off_says_so(codec: TextCodec) -> None:
    written = Continuation()
    next(written.pieces(iter(codec.ids("abc").tolist()), codec))
    assert written.stopped_by == "interrupt" and written.text


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_broken_tokenizer_is_one_message(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        TextCodec(tmp_path, FACTS)


def test_ids_are_of_the_type_that_sessions_take(codec: TextCodec) -> None:
    assert codec.ids("once").dtype == np.int64
