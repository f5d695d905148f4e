"""A window reads a text of any length with a cache that never grows, and forgets what lies between sinks and window."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_decoder import FACTS, LEARNED, exported, fake, text_ids

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ConfigError
from edgetf.runtime.decode.generate import generate
from edgetf.runtime.decode.sampling import Sampling
from edgetf.runtime.decode.score import score
from edgetf.runtime.decode.session import Logits
from edgetf.runtime.decode.stream import score_stream
from edgetf.runtime.decode.streaming import Reader, Window

WINDOW = Window(64, sinks=4)
IDS = text_ids(300)


def read(reader: Reader, ids: np.ndarray) -> Logits:
    return np.concatenate(list(reader.read(ids)))


@pytest.mark.parametrize("facts", [FACTS, LEARNED], ids=["rope", "learned"])
def test_a_text_within_the_window_is_read_as_without_one(facts: DecoderFacts) -> None:
    session = fake(facts)
    np.testing.assert_array_equal(read(Reader(session, WINDOW), IDS[:64]), read(Reader(session), IDS[:64]))


@pytest.mark.parametrize("facts", [FACTS, LEARNED], ids=["rope", "learned"])
def test_a_window_gives_the_same_however_the_tokens_come(facts: DecoderFacts) -> None:
    session = fake(facts)
    whole, single = Reader(session, WINDOW), Reader(session, WINDOW)
    wanted = read(whole, IDS)
    got = np.concatenate([read(single, IDS[t : t + 1]) for t in range(len(IDS))])
    np.testing.assert_allclose(got, wanted, atol=2e-5)


@pytest.mark.parametrize("facts", [FACTS, LEARNED], ids=["rope", "learned"])
def test_the_cache_never_holds_more_than_the_window(facts: DecoderFacts) -> None:
    reader, lengths = Reader(fake(facts), WINDOW), []
    for t in range(len(IDS)):
        read(reader, IDS[t : t + 1])
        lengths.append(reader.cache.length)
    assert max(lengths) == 64 and min(lengths[64:]) == 57  # a block of 8 goes, and one token comes


def test_learned_positions_are_read_again() -> None:
    # After a block has gone the cache is that of a model which has read sinks and recent tokens alone.
    session = fake(LEARNED)
    reader = Reader(session, WINDOW)
    last = read(reader, IDS[:65])[-1]
    kept = np.r_[IDS[:4], IDS[12:65]]
    np.testing.assert_allclose(last, read(Reader(session), kept)[-1], atol=2e-5)


def test_what_lies_between_sinks_and_window_is_forgotten_in_one_layer() -> None:
    from dataclasses import replace

    session = fake(replace(FACTS, num_hidden_layers=1))
    other = IDS.copy()
    other[10:200] = text_ids(190, seed=9)
    one, two = (read(Reader(session, WINDOW), ids)[-1] for ids in (IDS, other))
    np.testing.assert_allclose(one, two, atol=2e-5)
    other[2] = IDS[2] % 298 + 1  # a sink
    assert np.abs(read(Reader(session, WINDOW), other)[-1] - one).max() > 1e-3


@pytest.mark.parametrize("family", ["llama", "gpt2", "fused"])
def test_generation_goes_on_past_the_last_position(family: str) -> None:
    pytest.importorskip("transformers", reason="needs edgetf[compress]")
    session = exported(family).session()  # type: ignore[arg-type]
    how = Sampling(1.0, seed=3)
    tokens = list(generate(session, IDS[:10], how, max_new_tokens=700, stop_ids=(), window=Window(128)))
    assert len(tokens) == 700
    assert tokens[:110] == list(generate(session, IDS[:10], how, max_new_tokens=110, stop_ids=()))


def test_without_a_window_generation_ends_at_the_last_position() -> None:
    assert len(list(generate(fake(), text_ids(500), max_new_tokens=100, stop_ids=()))) == 13  # behind 500 … 512 tokens


def test_a_prompt_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 513 tokens, allowed: 512 without a window"):
        list(generate(fake(), text_ids(513)))
    assert len(list(generate(fake(), text_ids(513), max_new_tokens=3, stop_ids=(), window=WINDOW))) == 3


def test_windows_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="window: got 6, allowed: 10 or more with 8 sinks"):
        Window(6, sinks=8)
    with pytest.raises(ConfigError, match="sinks: got -1"):
        Window(64, sinks=-1)
    with pytest.raises(ConfigError, match="window: got 513, allowed: the 512 tokens of this model"):
        Reader(fake(), Window(513))


def test_scores_along_a_stream_are_those_of_a_block_while_it_fits() -> None:
    found = score_stream(fake(), IDS, WINDOW)
    np.testing.assert_allclose(found.nll[:63], score(fake(), IDS[None, :64]).nll[0], atol=1e-5)
    assert found.nll.shape == (299,) and np.isfinite(found.nll).all()
    assert found.perplexity(0, 299) == pytest.approx(np.exp(found.nll.mean(dtype=float)))


@pytest.mark.parametrize("family", ["llama", "gpt2", "fused"])
def test_20_000_tokens_pass_a_window_in_constant_memory(family: str) -> None:
    pytest.importorskip("transformers", reason="needs edgetf[compress]")
    found = score_stream(exported(family).session(), text_ids(20_001), Window(512))  # type: ignore[arg-type]
    assert len(found.nll) == 20_000
    held = np.array([bytes_ for _, bytes_ in found.rss_bytes])
    if not len(held):
        pytest.skip("this system does not tell how much memory a process holds")
    assert held[-10:].mean() - held[:10].mean() < 4 << 20
