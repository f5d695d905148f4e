"""TFLite files of decoders write what transformers writes, keep their caches apart, and are quantized whole."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_decoder import text_ids
from tiny_decoders import LLAMA_3, decoder_folder

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError, DeviceError, ParityError
from edgetf.runtime.decode.generate import generate
from edgetf.runtime.decode.load import open_decoder
from edgetf.runtime.decode.session import DecoderSession, Logits

pytest.importorskip("litert_torch", reason="needs edgetf[tflite]")
CONTEXT, LENGTHS = 128, (8, 32)
SCHEMES = ("w8a8_dynamic", "w8", "w4")


class Made:
    """A model of transformers, and the folder of its TFLite file."""

    def __init__(self, folder: Path, family: str, context: int = CONTEXT, **changes: Any) -> None:
        from edgetf.formats.decoder.tflite import write_tflite
        from edgetf.models.decoders.checkpoint import load_decoder
        from edgetf.models.decoders.facts import decoder_facts

        self.folder = decoder_folder(folder, family, **changes)
        self.model = load_decoder(self.folder)
        self.facts: DecoderFacts = decoder_facts(self.folder)
        self.lengths = write_tflite(self.model, self.facts, folder / "fp32.tflite", (*LENGTHS, 256), context)

    def session(self, scheme: str = "fp32") -> DecoderSession:
        return open_decoder(self.folder, f"{scheme}.tflite", self.facts, "litert", threads=1)

    def torch_logits(self, ids: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            return np.asarray(self.model(torch.from_numpy(ids)[None]).logits[0])

    def torch_tokens(self, ids: np.ndarray, count: int) -> list[int]:
        import torch

        self.model.generation_config.eos_token_id = None  # so that it goes on
        mask = torch.ones((1, len(ids)), dtype=torch.long)
        written = self.model.generate(
            torch.from_numpy(ids)[None], attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0
        )
        return [int(token) for token in written[0, len(ids) :]]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("llama"), "llama", num_hidden_layers=2, max_position_embeddings=CONTEXT)


@pytest.fixture(scope="module")
def session(llama: Made) -> DecoderSession:
    return llama.session()


@pytest.fixture(scope="module")
def quantized(llama: Made) -> dict[str, float]:
    """The share of weights in each scheme, whose files lie beside the first."""
    from edgetf.formats.decoder.tflite_quantize import quantize_tflite

    fp32 = llama.folder / "fp32.tflite"
    return {scheme: quantize_tflite(fp32, llama.folder / f"{scheme}.tflite", scheme) for scheme in SCHEMES}  # type: ignore[arg-type]


def read(session: DecoderSession, *parts: np.ndarray) -> Logits:
    """Logits of all tokens, read part after part."""
    held, rows = session.start(), []
    for part in parts:
        logits, held = session.run(part, held)
        rows.append(logits)
    return np.concatenate(rows)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 3, 8, 13, 40])
def test_greedy_tokens_are_those_of_transformers(llama: Made, session: DecoderSession, tokens: int) -> None:
    ids = text_ids(tokens, seed=tokens)
    assert list(generate(session, ids, max_new_tokens=64, stop_ids=())) == llama.torch_tokens(ids, 64)


@pytest.mark.slow
def test_logits_are_the_same_padded_in_chunks_and_token_by_token(llama: Made, session: DecoderSession) -> None:
    ids = text_ids(45)
    wanted = llama.torch_logits(ids)
    for parts in ([ids], [ids[:5], ids[5:11], ids[11:]], [ids[t : t + 1] for t in range(45)]):
        np.testing.assert_allclose(read(session, *parts), wanted, atol=1e-4)


@pytest.mark.slow
def test_a_cache_stays_what_it_was_while_others_go_on_from_it(session: DecoderSession) -> None:
    ids = text_ids(30)
    _, before = session.run(ids[:10], session.start())
    first, longer = session.run(ids[10:20], before)
    session.run(ids[20:], before)  # overwrites the rows of `longer`
    again, _ = session.run(ids[10:20], before)
    np.testing.assert_array_equal(again, first)
    rest, _ = session.run(ids[20:], longer)
    np.testing.assert_allclose(np.concatenate([first, rest]), read(session, ids)[10:], atol=1e-4)


@pytest.mark.slow
def test_the_cache_may_be_filled_to_its_last_row_and_no_further(llama: Made, session: DecoderSession) -> None:
    assert session.capacity == CONTEXT and llama.lengths == LENGTHS
    ids = text_ids(CONTEXT)
    np.testing.assert_allclose(read(session, ids[:123], ids[123:]), llama.torch_logits(ids), atol=1e-4)
    _, full = session.run(ids, session.start())
    with pytest.raises(ParityError, match=f"{CONTEXT + 1} tokens are more than the {CONTEXT}"):
        session.run(ids[:1], full)


@pytest.mark.slow
def test_kept_keys_are_those_of_the_kept_tokens_alone(session: DecoderSession) -> None:
    # The keys and values of the first layer know nothing of other tokens, so a fresh reading of the kept ones has them.
    ids, kept = text_ids(100), np.r_[0:4, 60:100]
    _, held = session.run(ids, session.start())
    short = held.keep(kept)
    session.run(ids[kept], session.start())
    fresh = session.rows(len(kept))  # type: ignore[attr-defined]
    assert (short.length, held.length) == (44, 100)
    for name in ("kv_cache_k_0", "kv_cache_v_0"):
        np.testing.assert_allclose(short.rows[name], fresh[name], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_weight_is_quantized_and_the_tied_embedding_is_stored_once(
    llama: Made, quantized: dict[str, float], scheme: str
) -> None:
    from edgetf.formats.tflite_graph import constant, read_graph

    assert quantized[scheme] == 1.0
    weights = sum(parameter.numel() for parameter in llama.model.parameters() if parameter.dim() == 2)
    model = read_graph(llama.folder / f"{scheme}.tflite")
    stored = {
        tensor.buffer: len(data)
        for subgraph in model.subgraphs
        for tensor in subgraph.tensors
        if (data := constant(model, tensor)) is not None
    }
    bits = 4 if scheme == "w4" else 8
    # beside the codes: half-precision scales of blocks of 32, norms in fp32, and shapes
    assert sum(stored.values()) <= weights * (bits / 8 + 2 / 32) + 4096


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "share"), [("w8a8_dynamic", 0.1), ("w8", 1e-3), ("w4", 0.25)])
def test_quantized_logits_are_those_of_the_model_with_rounded_weights(
    llama: Made, quantized: dict[str, float], scheme: str, share: float
) -> None:
    # w8 computes in float; the others also round activations to 8 bits, which is what the rest of `share` is for.
    ids, exact = text_ids(60), copy.deepcopy(llama)
    for weight in exact.model.parameters():
        if weight.dim() == 2:
            weight.data = rounded(weight.data, scheme)
    wanted, got = exact.torch_logits(ids), read(llama.session(scheme), ids)
    assert np.linalg.norm(got - wanted) <= share * np.linalg.norm(wanted - wanted.mean())


def rounded(weight: Any, scheme: str) -> Any:
    """A weight (O, I) in steps of its scale: of each row, or of each 32 numbers of it."""
    in_blocks = scheme == "w4" and weight.shape[1] % 32 == 0
    rows = weight.reshape(-1, 32) if in_blocks else weight
    step = rows.abs().amax(dim=1, keepdim=True) / (7 if in_blocks else 127)
    return ((rows / step).round() * step).reshape(weight.shape)


@pytest.mark.slow
def test_the_embedding_may_stay_float(llama: Made, tmp_path: Path) -> None:
    from edgetf.formats.decoder.tflite_quantize import quantize_tflite

    share = quantize_tflite(llama.folder / "fp32.tflite", tmp_path / "some.tflite", "w4", embeddings=False)
    table = llama.model.get_input_embeddings().weight.numel()
    assert share == pytest.approx(1 - table / sum(each.numel() for each in llama.model.parameters() if each.dim() == 2))
    with pytest.raises(ParityError, match="got w8a16, allowed for decoders"):
        quantize_tflite(llama.folder / "fp32.tflite", tmp_path / "none.tflite", "w8a16")


@pytest.mark.slow
def test_a_process_says_nothing_of_accelerators_that_are_not_there(llama: Made) -> None:
    code = (
        "import sys, pathlib\n"
        "from edgetf.core.decoder import DecoderFacts\n"
        "from edgetf.runtime.decode.load import open_decoder\n"
        f"facts = DecoderFacts.from_json({llama.facts.to_json()!r})\n"
        f"session = open_decoder(pathlib.Path({str(llama.folder)!r}), 'fp32.tflite', facts, 'litert', 1)\n"
        "print(session.run(__import__('numpy').arange(5), session.start())[0].shape, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(5, 300) False\n", "")


@pytest.mark.slow
def test_a_file_of_another_kind_is_refused_by_name(llama: Made, tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3 and no more")
    with pytest.raises(ArtifactError, match="cannot open it"):
        open_decoder(tmp_path, "broken.tflite", llama.facts, "litert", 1)
    with pytest.raises(ArtifactError, match="not found"):
        open_decoder(tmp_path, "none.tflite", llama.facts, "litert", 1)
    with pytest.raises(ArtifactError, match="not a decoder of 3 layers"):
        open_decoder(llama.folder, "fp32.tflite", replace(llama.facts, num_hidden_layers=3), "litert", 1)
    with pytest.raises(DeviceError, match="allowed here: XNNPACK"):
        open_decoder(llama.folder, "fp32.tflite", llama.facts, "litert", 1, "NNAPI")


@pytest.mark.parametrize("family", ["llama", "llama 3", "qwen2", "qwen3", "gemma", "gemma3_text"])
def test_the_graph_computes_what_transformers_computes(family: str, tmp_path: Path) -> None:
    import torch

    from edgetf.formats.decoder.tflite_module import CachedDecoder
    from edgetf.models.decoders.checkpoint import load_decoder
    from edgetf.models.decoders.facts import decoder_facts

    changes = {"rope_scaling": LLAMA_3} if family == "llama 3" else {}
    folder = decoder_folder(tmp_path / family, family.split()[0], **changes)
    model, ids = load_decoder(folder), torch.from_numpy(text_ids(40))[None].int()
    graph = CachedDecoder(model, decoder_facts(folder), context=64)
    held, rows = graph.sample(1), []
    with torch.no_grad():
        for start, stop in ((0, 20), (20, 40)):
            held.update(tokens=ids[:, start:stop], input_pos=torch.arange(start, stop, dtype=torch.int32))
            held = graph(**held)
            rows.append(held.pop("logits"))
        torch.testing.assert_close(torch.cat(rows, dim=1), model(ids).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_windows_and_two_bases_survive_the_conversion(tmp_path: Path) -> None:
    made, ids = Made(tmp_path / "gemma", "gemma3_text", context=64), text_ids(40)
    np.testing.assert_allclose(read(made.session(), ids[:20], ids[20:]), made.torch_logits(ids), atol=2e-4)


@pytest.mark.parametrize(("family", "words"), [("gpt2", "got gpt2"), ("gemma2", "got gemma2")])
def test_families_that_are_not_written_are_refused_in_words(family: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=f"{words}, allowed for tflite: llama, .*; export it to onnx"):
        Made(tmp_path / family, family, context=64)
    assert not list((tmp_path / family).glob("*.tflite*"))
