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

Family = Literal["llama", "gpt2"]
VOCABULARY = 300
POSITIONS = 512
EOS = "<|endoftext|>"
FACTS = DecoderFacts(
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    hidden_size=32,
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
def exported(family: Family) -> Exported:
    """Made once in a test session."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if family == "llama":
        facts = replace(FACTS, thetas=(10000.0, 10000.0))
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=facts.hidden_size,
                intermediate_size=64,
                num_hidden_layers=facts.num_hidden_layers,
                num_attention_heads=facts.num_attention_heads,
                num_key_value_heads=facts.num_key_value_heads,
                max_position_embeddings=POSITIONS,
                initializer_range=0.2,  # larger than usual, so that no two logits are nearly the same
                attn_implementation="eager",
            )
        )
    else:
        facts = LEARNED
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY,
                n_embd=facts.hidden_size,
                n_layer=facts.num_hidden_layers,
                n_head=facts.num_attention_heads,
                n_positions=POSITIONS,
                initializer_range=0.2,
                attn_implementation="eager",
            )
        )
    folder = Path(mkdtemp(prefix="edgetf-tiny-decoder-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_bpe(folder)
    _export(model.eval(), facts, folder / "model.onnx")
    return Exported(model, folder, facts)


def artifact(made: Exported, path: Path) -> Artifact:
    """The same as a sealed artifact."""

    def write(out: Path) -> tuple[Spec, float]:
        shutil.copytree(made.folder, out, dirs_exist_ok=True)
        details = {"task": "language_modeling", "max_length": POSITIONS, "decoder": made.facts.to_json()}
        return Spec("onnx", "model.onnx", details=details), 0.0

    return seal(path, stage="export", key="key", parents=(), made={}, write=write)


def _export(model: Any, facts: DecoderFacts, path: Path) -> None:
    """One graph with the names of `edgetf.runtime.decode.session`."""
    import torch
    from transformers.cache_utils import DynamicCache

    from edgetf.core.quiet import quiet

    layers = range(facts.num_hidden_layers)

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> Any:
            held = DynamicCache()
            for layer in layers:
                held.update(past[2 * layer], past[2 * layer + 1], layer)
            found = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=held,
                use_cache=True,
            )
            present = found.past_key_values.layers
            return (found.logits, *(each for layer in layers for each in (present[layer].keys, present[layer].values)))

    before, new = 3, 2
    past = [torch.randn(1, facts.num_key_value_heads, before, facts.head_dim) for _ in range(2 * len(layers))]
    arguments = (
        torch.ones((1, new), dtype=torch.long),
        torch.ones((1, before + new), dtype=torch.long),
        torch.arange(before, before + new)[None],
        *past,
    )
    any_length = torch.export.Dim.DYNAMIC
    names = [f"past_key_values.{layer}.{what}" for layer in layers for what in ("key", "value")]
    with quiet():
        torch.onnx.export(
            Flat().eval(),
            arguments,
            str(path),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["input_ids", "attention_mask", "position_ids", *names],
            output_names=["logits", *(name.replace("past_key_values", "present") for name in names)],
            dynamic_shapes=({1: any_length}, {1: any_length}, {1: any_length}, tuple({2: any_length} for _ in past)),
        )
