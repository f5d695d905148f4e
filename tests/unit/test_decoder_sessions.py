"""Every session of a decoder gives the same logits however its tokens come, and its cache can be cut and moved."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from tiny_decoder import FACTS, LEARNED, POSITIONS, exported, fake, text_ids

from edgetf.core.errors import ArtifactError, DeviceError, ParityError
from edgetf.core.rope import frequencies
from edgetf.runtime.decode.cache import turned
from edgetf.runtime.decode.generate import generate
from edgetf.runtime.decode.load import open_decoder
from edgetf.runtime.decode.ort_shared import SharedCache
from edgetf.runtime.decode.session import DecoderSession, Logits
from edgetf.runtime.decode.streaming import Reader

EXACT = ("fake", "fake learned", "llama", "gpt2", "fused", "w4", "int8 cache")
SESSIONS = (*EXACT, "w8a8_dynamic")  # whose activations are scaled for all tokens of a run together
ROPE = ("fake", "llama", "fused", "w4")


@cache
def session_of(name: str) -> DecoderSession:
    match name:
        case "fake" | "fake learned":
            return fake(FACTS if name == "fake" else LEARNED)
        case _:
            pytest.importorskip("transformers", reason="needs edgetf[compress]")
            return exported(name).session()  # type: ignore[arg-type]


def read(session: DecoderSession, *parts: np.ndarray) -> Logits:
    """Logits of all tokens, read part after part."""
    held, rows = session.start(), []
    for part in parts:
        logits, held = session.run(part, held)
        rows.append(logits)
    return np.concatenate(rows)


@pytest.mark.parametrize("name", EXACT)
def test_the_logits_are_the_same_in_one_piece_in_chunks_and_token_by_token(name: str) -> None:
    session, ids = session_of(name), text_ids(40)
    whole = read(session, ids)
    assert whole.shape == (40, 300) and whole.dtype == np.float32
    np.testing.assert_allclose(read(session, ids[:7], ids[7:30], ids[30:]), whole, atol=2e-5)
    np.testing.assert_allclose(read(session, *(ids[t : t + 1] for t in range(40))), whole, atol=2e-5)


@pytest.mark.parametrize("name", SESSIONS)
def test_a_run_leaves_the_cache_before_it_as_it_was(name: str) -> None:
    session, ids = session_of(name), text_ids(12)
    _, before = session.run(ids[:8], session.start())
    first, _ = session.run(ids[8:], before)
    session.run(ids[:4], before)
    again, after = session.run(ids[8:], before)
    assert (before.length, after.length) == (8, 12)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", EXACT)
def test_texts_that_part_from_one_cache_do_not_mix(name: str) -> None:
    session, ids = session_of(name), text_ids(12)
    _, stem = session.run(ids[:8], session.start())
    _, left = session.run(ids[8:], stem)
    _, right = session.run(text_ids(3, seed=8), stem)
    wanted = read(session, ids, text_ids(2, seed=9))[-2:]
    np.testing.assert_allclose(session.run(text_ids(2, seed=9), left)[0], wanted, atol=2e-5)
    assert (stem.length, left.length, right.length) == (8, 12, 11)


def test_a_fused_graph_appends_to_its_cache_in_place() -> None:
    session = session_of("fused")
    _, before = session.run(text_ids(5), session.start())
    _, after = session.run(text_ids(1), before)
    assert isinstance(before, SharedCache) and isinstance(after, SharedCache) and before.buffers is after.buffers


@pytest.mark.parametrize("name", SESSIONS)
def test_more_tokens_than_positions_are_refused(name: str) -> None:
    session = session_of(name)
    assert session.capacity == POSITIONS
    _, full = session.run(text_ids(POSITIONS), session.start())
    with pytest.raises(ParityError, match=f"{POSITIONS + 1} tokens are more than the {POSITIONS}"):
        session.run(text_ids(1), full)


@pytest.mark.parametrize("name", ["llama", "gpt2", "fused"])
def test_the_logits_are_those_of_transformers(name: str) -> None:
    import torch

    session, ids = session_of(name), text_ids(50)
    with torch.no_grad():
        wanted = exported(name).model(torch.from_numpy(ids)[None]).logits[0].numpy()  # type: ignore[arg-type]
    np.testing.assert_allclose(read(session, ids), wanted, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "fused"])
def test_greedy_tokens_are_those_of_transformers(name: str) -> None:
    import torch

    session, made = session_of(name), exported(name)  # type: ignore[arg-type]
    for seed in range(5):
        ids = text_ids(3 + 5 * seed, seed)
        wanted = made.model.generate(
            torch.from_numpy(ids)[None],
            attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
            max_new_tokens=64,
            do_sample=False,
            eos_token_id=0,
            pad_token_id=0,
        )[0, len(ids) :].tolist()
        assert list(generate(session, ids)) == wanted


@pytest.mark.parametrize("name", ROPE)
def test_kept_keys_are_those_of_the_kept_tokens_alone(name: str) -> None:
    # The keys and values of the first layer know nothing of other tokens, so a fresh reading of the kept ones has them.
    session, ids = session_of(name), text_ids(300)
    _, held = session.run(ids, session.start())
    kept = np.r_[0:4, 200:300]
    short = held.keep(kept)
    _, fresh = session.run(ids[kept], session.start())
    assert (short.length, held.length) == (104, 300)
    for got, wanted in zip(first_layer(short), first_layer(fresh), strict=True):
        np.testing.assert_allclose(got, wanted, atol=5e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("seed", range(3))
def test_a_model_of_one_layer_goes_on_as_if_it_had_read_the_kept_tokens_alone(seed: int) -> None:
    session, ids = fake(replace(FACTS, num_hidden_layers=1), seed), text_ids(80, seed)
    _, held = session.run(ids, session.start())
    kept = np.r_[0:4, 50:80]
    moved = read_after(session, held.keep(kept))
    np.testing.assert_allclose(moved, read_after(session, session.run(ids[kept], session.start())[1]), atol=2e-5)


def test_turns_are_exact_far_from_the_beginning() -> None:
    keys = np.random.default_rng(0).normal(size=(2, 1, 64)).astype(np.float32)
    speeds = frequencies(replace(FACTS, head_dim=64), 0)
    there = turned(keys, np.array([1_000_000]), speeds)
    back = turned(there, np.array([-999_999]), speeds)
    np.testing.assert_allclose(back, turned(keys, np.array([1]), speeds), atol=1e-6)


@pytest.mark.parametrize("name", ["fake learned", "gpt2"])
def test_learned_positions_cannot_be_moved(name: str) -> None:
    session = session_of(name)
    _, held = session.run(text_ids(10), session.start())
    with pytest.raises(ParityError, match="learned"):
        held.keep(np.array([0, 1, 9]))


@pytest.mark.parametrize("kept", [[1, 0], [0, 0], [-1, 2], [9, 10]])
def test_what_is_kept_ascends_within_the_cache(kept: list[int]) -> None:
    session = session_of("fake")
    _, held = session.run(text_ids(10), session.start())
    with pytest.raises(ValueError, match="must ascend"):
        held.keep(np.array(kept))


def test_a_graph_of_another_shape_is_refused_by_name() -> None:
    pytest.importorskip("transformers", reason="needs edgetf[compress]")
    folder = exported("llama").folder
    with pytest.raises(ArtifactError, match="not a decoder of 3 layers"):
        open_decoder(folder, "model.onnx", replace(FACTS, num_hidden_layers=3), "ort", 1)
    with pytest.raises(ArtifactError, match="not found"):
        open_decoder(folder, "other.onnx", FACTS, "ort", 1)


def test_a_backend_that_runs_no_decoders_is_refused() -> None:
    with pytest.raises(DeviceError, match="tflite_runtime: runs no language models"):
        open_decoder(exported("llama").folder, "model.onnx", FACTS, "tflite_runtime", 1)


def test_broken_weights_are_one_message() -> None:
    session = fake(replace(FACTS, thetas=(float("nan"), 1.0)))
    with pytest.raises(ParityError, match="NaN"):
        Reader(session).last(text_ids(3))


def first_layer(held: object) -> list[np.ndarray]:
    """Keys and values of the first layer."""
    if isinstance(held, SharedCache):
        return [rows[0, :, : held.length] for rows in list(held.buffers.rows.values())[:2]]
    if hasattr(held, "pasts"):
        return [held.pasts[0].numpy()[0], held.pasts[1].numpy()[0]]
    return [held.keys[0], held.values[0]]  # type: ignore[attr-defined]


def read_after(session: DecoderSession, held: object) -> Logits:
    """Logits of some tokens after a cache."""
    return session.run(text_ids(9, seed=5), held)[0]
