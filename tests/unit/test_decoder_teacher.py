"""A pretrained teacher comes out of a folder, of shards or of a GGUF file as the same plain folder."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoders import LLAMA_3, SENTENCES, decoder_folder, language_context, tiny_decoder

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError, ConfigError, DeviceError
from edgetf.core.rope import llama3_factors
from edgetf.models.decoders.checkpoint import load_decoder
from edgetf.models.decoders.configs import older_form
from edgetf.models.decoders.gguf import convert_gguf, find_gguf, gguf_shape, gguf_size
from edgetf.models.decoders.gguf_tokenizer import CONTROL, NORMAL, USER, merges_of, write_tokenizer
from edgetf.models.decoders.shapes import shape_of
from edgetf.stages.language import teacher

IDS = torch.arange(40)[None] * 7 % 300


def test_a_folder_becomes_an_artifact_of_the_same_model(tmp_path: Path) -> None:
    source = decoder_folder(tmp_path / "source", "gemma3_text")
    spec, _ = teacher.run(language_context(str(source)), tmp_path / "out")
    assert (spec.kind, spec.model_file) == ("torch", "model.safetensors")
    assert spec.params == sum(tensor.numel() for tensor in load_decoder(source).parameters())
    assert (spec.details["task"], spec.details["max_length"]) == ("language_modeling", 32)
    assert DecoderFacts.from_json(spec.details["decoder"]).windows == (8, 8, None)
    assert torch.equal(load_decoder(tmp_path / "out")(IDS).logits, load_decoder(source)(IDS).logits)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


def test_shards_are_written_as_one_file(tmp_path: Path) -> None:
    source = decoder_folder(tmp_path / "source")
    model = load_decoder(source)
    (source / "model.safetensors").unlink()
    model.save_pretrained(source, max_shard_size="20KB")
    assert len(list(source.glob("model-*.safetensors"))) > 1
    teacher.run(language_context(str(source)), tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert torch.equal(load_decoder(tmp_path / "out")(IDS).logits, model(IDS).logits)


def test_texts_longer_than_the_teachers_positions_are_refused(tmp_path: Path) -> None:
    context = language_context(str(decoder_folder(tmp_path / "source")), max_length=65)
    with pytest.raises(ConfigError, match="data.max_length: got 65, allowed: up to the 64 positions"):
        teacher.run(context, tmp_path / "out")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "give a folder, hub:OWNER/NAME, package: or a .gguf file"),
        ("nowhere.gguf", "give the path of a .gguf file"),
        ("package:numpy/no-such.gguf", "numpy has no no-such.gguf"),
    ],
)
def test_a_teacher_that_is_not_there_is_refused_in_words(source: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=words):
        teacher.run(language_context(source), tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="pip install no-such-distribution"):
        find_gguf("package:no-such-distribution/model.gguf", tmp_path)


def test_an_unknown_family_and_a_pickle_are_refused(tmp_path: Path) -> None:
    source = decoder_folder(tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="a pickle can run code"):
        teacher.run(language_context(str(source)), tmp_path / "out")
    record = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(record | {"model_type": "bloom"}))
    with pytest.raises(ArtifactError, match="got model_type bloom, allowed: gemma, .*; take a teacher"):
        teacher.run(language_context(str(source)), tmp_path / "out")


PIECES = ["▁the", "▁", "the", "th", "▁th", *dict.fromkeys("▁thefoxjumpsvrlazydg.")]
SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>"]
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm", "model.layers": "blk",
}  # fmt: skip


FIELDS = {
    "model": "add_tokenizer_model", "pre": "add_tokenizer_pre", "tokens": "add_token_list",
    "merges": "add_token_merges", "scores": "add_token_scores", "token_type": "add_token_types",
    "unknown_token_id": "add_unk_token_id", "padding_token_id": "add_pad_token_id",
    "add_bos_token": "add_add_bos_token", "add_space_prefix": "add_add_space_prefix",
}  # fmt: skip


def gguf_fields() -> dict[str, Any]:
    """The fields of a SentencePiece BPE tokenizer: specials, a run of spaces, all bytes, then pieces by rank."""
    tokens = [*SPECIALS, "  ", *(f"<0x{byte:02X}>" for byte in range(256)), *dict.fromkeys(PIECES)]
    kinds = [CONTROL] * 4 + [USER] + [6] * 256 + [NORMAL] * (len(tokens) - 261)
    scores = [-1000.0] * 5 + [0.0] * 256 + [-float(k) for k in range(len(tokens) - 261)]
    return {
        "model": "llama", "tokens": tokens, "token_type": kinds, "scores": scores, "bos_token_id": 2,
        "eos_token_id": 1, "unknown_token_id": 3, "padding_token_id": 0, "add_bos_token": True,
        "add_space_prefix": False,
    }  # fmt: skip


def write_gguf(
    path: Path, model: Any, fields: dict[str, Any], architecture: str = "gemma3", **tensors: np.ndarray
) -> None:
    """A model as llama.cpp writes it: other names, Gemma's norms with one added, Llama's pairs side by side."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(older_form(config.to_dict())["rope_theta"])
    llama = architecture == "llama"
    if llama:
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_vocab_size(config.vocab_size)
    else:
        writer.add_sliding_window(config.sliding_window)
    for field, value in fields.items():
        getattr(writer, FIELDS.get(field, f"add_{field}"))(value)
    names = NAMES | ({"post_attention_layernorm": "ffn_norm"} if llama else {})
    for path, tensor in model.state_dict().items():
        if path == "lm_head.weight":
            continue
        name = functools.reduce(lambda name, pair: name.replace(*pair), names.items(), path)
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
        values = (tensor + (1 if "norm" in name and not llama else 0)).numpy()
        if llama and heads:
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(name, values.astype(np.float32))
    for name, values in tensors.items():
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gemma_for_gguf(fields: dict[str, Any]) -> Any:
    """What GGUF does not hold is as transformers assumes it."""
    return tiny_decoder(
        "gemma3_text", vocab_size=len(fields["tokens"]), query_pre_attn_scalar=256, rope_theta=1_000_000.0,
        rope_local_base_freq=10_000.0, rope_scaling=None, layer_types=["sliding_attention"] * 3,
    )  # fmt: skip


def test_a_gguf_file_holds_the_same_model_and_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    fields = gguf_fields()
    model = gemma_for_gguf(fields)
    write_gguf(tmp_path / "tiny.gguf", model, fields)
    assert gguf_shape(tmp_path / "tiny.gguf") == ("gemma3_text", shape_of(model.config))
    spec, _ = teacher.run(language_context(str(tmp_path / "tiny.gguf")), tmp_path / "out")
    torch.testing.assert_close(load_decoder(tmp_path / "out")(IDS % 270).logits, model(IDS % 270).logits)
    assert (spec.details["decoder"]["bos_id"], spec.details["decoder"]["eos_ids"]) == (2, (1,))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_ids_to_tokens(tokenizer("fox the").input_ids) == ["<bos>", "f", "o", "x", "▁the"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def byte_level_fields(folder: Path) -> dict[str, Any]:
    """The fields of the tiny byte-level tokenizer, which is written to the folder."""
    from tiny_decoders import tiny_tokenizer

    tiny_tokenizer(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return {
        "model": "gpt2", "pre": "gpt-2", "tokens": tokens, "token_type": [CONTROL] + [NORMAL] * (len(tokens) - 1),
        "merges": [" ".join(merge) for merge in model["merges"]], "eos_token_id": 0, "bos_token_id": 0,
    }  # fmt: skip


def test_a_llama_3_of_a_gguf_file_turns_its_positions_as_it_was_trained(tmp_path: Path) -> None:
    fields = byte_level_fields(tmp_path / "source")
    scaling = {**LLAMA_3, "factor": 32.0, "original_max_position_embeddings": 8192}
    model = tiny_decoder(
        "llama", vocab_size=len(fields["tokens"]), rope_scaling=scaling, rope_theta=500_000.0, head_dim=32,
        max_position_embeddings=16_384,
    )  # fmt: skip
    factors = np.array(llama3_factors(500_000.0, 32, 32.0, 1.0, 4.0, 8192))
    write_gguf(tmp_path / "tiny.gguf", model, fields, "llama", rope_freqs=factors)
    assert gguf_size(tmp_path / "tiny.gguf").params == sum(tensor.numel() for tensor in model.parameters())
    spec, _ = teacher.run(language_context(str(tmp_path / "tiny.gguf")), tmp_path / "out")
    far = torch.arange(900)[None] * 7 % len(fields["tokens"])
    torch.testing.assert_close(load_decoder(tmp_path / "out")(far).logits, model(far).logits)
    np.testing.assert_allclose(spec.details["decoder"]["rope_factors"], factors)
    write_gguf(tmp_path / "tiny.gguf", model, fields, "llama", rope_freqs=np.linspace(1, 9, 16))
    with pytest.raises(ArtifactError, match="got scaled positions, of which only Llama 3.1's are known here"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "architecture", "words"),
    [
        ({}, "bloom", "got architecture bloom, allowed: gemma"),
        ({"model": "t5"}, "gemma3", "got a tokenizer of kind t5, allowed: llama, gpt2"),
    ],
)
def test_a_gguf_file_of_another_kind_is_refused(
    change: dict[str, Any], architecture: str, words: str, tmp_path: Path
) -> None:
    fields = {**gguf_fields(), **change}
    write_gguf(tmp_path / "tiny.gguf", gemma_for_gguf(fields), fields, architecture)
    with pytest.raises(ArtifactError, match=words):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"not one" * 100)
    with pytest.raises(ArtifactError, match="not a GGUF file"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path)


def test_the_tokenizer_of_a_gguf_file_joins_by_score_and_writes_the_rest_as_bytes(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    write_tokenizer(gguf_fields(), tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("the the  é<eos>").tokens == [
        "<bos>", "the", "▁the", "▁▁", "<0xC3>", "<0xA9>", "<eos>"
    ]  # fmt: skip
    for text in (*SENTENCES[:5], "  two  spaces", "🙂\n"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_byte_level_tokenizer_of_a_gguf_file_reads_as_the_one_it_was_made_of(tmp_path: Path) -> None:
    from tiny_decoders import END
    from tokenizers import Tokenizer

    fields = byte_level_fields(tmp_path / "source")
    wanted = Tokenizer.from_file(str(tmp_path / "source" / "tokenizer.json"))
    write_tokenizer(fields, tmp_path)
    found = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in (*SENTENCES[:5], f"don't 123  é{END}the"):
        assert found.encode(text).ids == wanted.encode(text).ids
    with pytest.raises(ArtifactError, match="tokenizer.ggml.pre: got tekken, allowed: gpt-2"):
        write_tokenizer({**fields, "pre": "tekken"}, tmp_path)


def test_a_pair_is_joined_by_the_score_of_what_it_becomes() -> None:
    tokens, scores = ["a", "b", "c", "bc", "ab", "<x>"], [-9.0, -9.0, -9.0, -1.0, -2.0, 0.0]
    assert merges_of(tokens, scores, [NORMAL] * 5 + [USER]) == [("b", "c"), ("a", "b")]


class FakeDistribution:
    """Parts of a file in a folder, as importlib.metadata shows an installed distribution."""

    requires = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.metadata = folder, {"Name": folder.name}

    @property
    def files(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]

    def locate_file(self, name: str) -> Path:
        return self.folder / name


def test_parts_in_a_package_are_joined_in_order_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, content in enumerate((b"GG", b"UF", b"!")):
        (folder / f"tiny.gguf.part{number:02d}").write_bytes(content)
    digest = hashlib.sha256(b"GGUF!").hexdigest()
    monkeypatch.setattr("edgetf.models.decoders.gguf.distribution", lambda name: FakeDistribution(folder))
    with pytest.raises(ArtifactError, match="without SHA256SUMS"):
        find_gguf("package:parts/tiny.gguf", tmp_path)
    (folder / "SHA256SUMS").write_text(f"{digest}  tiny.gguf\n")
    assert find_gguf("package:parts/tiny.gguf", tmp_path).read_bytes() == b"GGUF!"
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  tiny.gguf\n")
    with pytest.raises(ArtifactError, match="another sha256"):
        find_gguf("package:parts/tiny.gguf", tmp_path)
