"""Tiny decoders made in a moment from a seed: a fake one in numpy, and random Llama and GPT-2 exported to ONNX.

Their tokenizer has the 256 bytes and a few merges, as GPT-2's, so that a token may be a part of a character.
"""

from __future__ import annotations

import atexit
import json
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import numpy as np

from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.decoder import DecoderFacts
from edgetf.runtime.decode.fake import FakeDecoder
from edgetf.runtime.decode.session import DecoderSession, Ids

Name = Literal["llama", "gpt2", "fused", "w4", "w8a8_dynamic"]
VOCABULARY = 300
POSITIONS = 512
EOS = "<|endoftext|>"
FACTS = DecoderFacts(
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    hidden_size=64,
    vocab_size=VOCABULARY,
    max_length=POSITIONS,
    thetas=(10000.0, 500.0),  # not the same, so that none is mistaken for the other
    eos_ids=(0,),
)
LEARNED = replace(FACTS, positions="learned", thetas=(), num_key_value_heads=4)
_TEXTS = ["once upon a time there was a wolf in the forest and the wolf was very old"] * 4


def text_ids(count: int, seed: int = 0) -> Ids:
    """So many random tokens, none of them the end of a text."""
    return np.random.default_rng(seed).integers(1, VOCABULARY, size=count)


def fake(facts: DecoderFacts = FACTS, seed: int = 0) -> FakeDecoder:
    """A decoder in numpy."""
    return FakeDecoder(facts, seed)


def tiny_bpe(folder: Path) -> None:
    """Write `tokenizer.json` of a byte-level BPE tokenizer; id 0 ends a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[EOS], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_TEXTS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def fake_folder(folder: Path, seed: int = 0) -> Path:
    """A fake decoder with its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_bpe(folder)
    (folder / "model.json").write_text(json.dumps({"seed": seed}))
    return folder


@dataclass(frozen=True)
class Exported:
    """A random model of transformers, and the folder of its ONNX file."""

    model: Any
    folder: Path
    facts: DecoderFacts

    def session(self) -> DecoderSession:
        """The ONNX file, opened."""
        from edgetf.runtime.decode.load import open_decoder

        return open_decoder(self.folder, "model.onnx", self.facts, "ort", threads=1)


@cache
def exported(name: Name) -> Exported:
    """Made once in a test session: standard operators, or the runtime's own and their schemes."""
    import torch

    from edgetf.formats.decoder.fused import write_fused
    from edgetf.formats.decoder.plain import write_plain
    from edgetf.formats.decoder.quantize import quantize_decoder

    torch.manual_seed(0)
    model = _gpt2() if name == "gpt2" else _llama()
    facts = LEARNED if name == "gpt2" else replace(FACTS, thetas=(10000.0, 10000.0))
    folder = Path(mkdtemp(prefix="edgetf-tiny-decoder-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_bpe(folder)
    path = folder / "model.onnx"
    match name:
        case "llama" | "gpt2":
            write_plain(model, facts, path, opset=21)
        case "fused":
            write_fused(model, facts, path, opset=21, context=POSITIONS)
        case "w4" | "w8a8_dynamic":
            quantize_decoder(exported("fused").folder / "model.onnx", path, name)
    return Exported(model, folder, facts)


def _llama() -> Any:
    """Weights are larger than usual, so that no two logits are nearly the same."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": VOCABULARY, "hidden_size": FACTS.hidden_size, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.2, tie_word_embeddings=True)).eval()


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"vocab_size": VOCABULARY, "n_embd": FACTS.hidden_size, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
    return GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.2)).eval()


def artifact(made: Exported, path: Path) -> Artifact:
    """The same as a sealed artifact."""

    def write(out: Path) -> tuple[Spec, float]:
        shutil.copytree(made.folder, out, dirs_exist_ok=True)
        details = {"task": "language_modeling", "max_length": POSITIONS, "decoder": made.facts.to_json()}
        return Spec("onnx", "model.onnx", details=details), 0.0

    return seal(path, stage="export", key="key", parents=(), made={}, write=write)
