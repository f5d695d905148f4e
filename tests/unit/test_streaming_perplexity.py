"""A trained model foresees the end of a long text as well as its beginning, through a window of a fraction of it."""

from __future__ import annotations

import pydoc_data.topics
from dataclasses import replace

import numpy as np
import pytest
from tiny_decoder import FACTS, tiny_bpe

from edgetf.core.decoder import DecoderFacts
from edgetf.runtime.decode import ort_shared
from edgetf.runtime.decode.load import open_decoder
from edgetf.runtime.decode.session import DecoderSession, Ids
from edgetf.runtime.decode.stream import score_stream
from edgetf.runtime.decode.streaming import Window
from edgetf.runtime.decode.text import TextCodec

LENGTH, STEPS, READ = 128, 150, 20_001


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[DecoderSession, Ids]:
    """A small Llama that has seen a part of Python's own documentation, and tokens of another part."""
    pytest.importorskip("transformers", reason="needs edgetf[compress]")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from edgetf.formats.decoder.fused import write_fused

    folder = tmp_path_factory.mktemp("trained")
    tiny_bpe(folder)
    facts: DecoderFacts = replace(FACTS, max_length=LENGTH, thetas=(10000.0, 10000.0))
    ids = TextCodec(folder, facts).ids("\n".join(pydoc_data.topics.topics.values())[:400_000])
    held, seen = ids[:READ], torch.from_numpy(ids[READ:])
    torch.manual_seed(0)
    shape = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": LENGTH}
    model = LlamaForCausalLM(LlamaConfig(**shape, **heads, tie_word_embeddings=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        starts = torch.randint(0, len(seen) - LENGTH, (16,))
        rows = torch.stack([seen[start : start + LENGTH] for start in starts])
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    write_fused(model.eval(), facts, folder / "model.onnx", opset=21, context=LENGTH)
    return open_decoder(folder, "model.onnx", facts, "ort", 1), held


@pytest.mark.slow
def test_20_000_tokens_through_a_window_of_128_are_foreseen_as_well_in_the_end(
    trained: tuple[DecoderSession, Ids], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, ids = trained
    found = score_stream(session, ids, Window(LENGTH))
    whole = found.perplexity(0, len(found.nll))
    assert whole < 60  # of 300 tokens: it has learned something
    # Texts differ from part to part, so each is held against reading it in blocks that fit without a window.
    blocks = np.concatenate([_second_half(session, ids[start : start + LENGTH]) for start in _starts(len(ids))])
    assert found.perplexity(0, len(found.nll)) == pytest.approx(float(np.exp(blocks.mean())), rel=0.1)
    late = np.concatenate([_second_half(session, ids[start : start + LENGTH]) for start in _starts(len(ids))[-80:]])
    assert found.perplexity(len(found.nll) - 5120, len(found.nll)) == pytest.approx(float(np.exp(late.mean())), rel=0.1)

    def unturned(facts: object, name: str, rows: np.ndarray, kept: Ids) -> np.ndarray:
        return rows[..., kept, :]

    monkeypatch.setattr(ort_shared, "kept_rows", unturned)  # keys left at the positions where they were read
    assert score_stream(session, ids, Window(LENGTH)).perplexity(0, len(found.nll)) > 1.05 * whole


def _starts(tokens: int) -> list[int]:
    return list(range(0, tokens - LENGTH, LENGTH // 2))


def _second_half(session: DecoderSession, block: Ids) -> np.ndarray:
    """Nats of the tokens of a block that have half a block or more before them."""
    logits = session.run(block, session.start())[0][LENGTH // 2 : -1].astype(float)
    costs = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(logits)), block[LENGTH // 2 + 1 :]]
    return np.asarray(costs)
