"""Decoders are opened from plain folders of every known family, and facts say what is in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_decoders import FAMILIES, LLAMA_3, decoder_folder, tiny_decoder, tiny_tokenizer

from edgetf.config.language.models import LikeTeacher, LlamaShape, TinyGpt
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError, ConfigError
from edgetf.core.rope import frequencies
from edgetf.models.decoders.checkpoint import load_decoder, save_decoder
from edgetf.models.decoders.facts import decoder_facts
from edgetf.models.decoders.students import build_student, llama

IDS = torch.arange(40)[None] * 7 % 300


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_decoder_gives_the_same_logits_here_and_in_plain_transformers(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    tiny_tokenizer(tmp_path)
    model = tiny_decoder(family)
    assert save_decoder(model, tmp_path, tmp_path) == sum(tensor.numel() for tensor in model.parameters())
    with torch.no_grad():
        wanted = model(IDS).logits
        torch.testing.assert_close(load_decoder(tmp_path)(IDS).logits, wanted, rtol=0, atol=0)
        attention = "eager" if family == "gemma2" else "sdpa"  # scores with a cap, which torch's own cannot
        plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=attention).eval()
        torch.testing.assert_close(plain(IDS).logits, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_are_what_the_cache_of_the_model_shows(family: str, tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path, family)
    facts = decoder_facts(folder)
    cache = load_decoder(folder)(IDS[:, :5], use_cache=True).past_key_values
    keys = [layer.keys for layer in cache.layers]
    assert len(keys) == facts.num_hidden_layers
    assert {tuple(key.shape) for key in keys} == {(1, facts.num_key_value_heads, 5, facts.head_dim)}
    assert (facts.max_length, facts.vocab_size, facts.bos_id, facts.eos_ids) == (64, 300, 0, (0,))
    assert DecoderFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_facts_of_gemma_3_tell_local_layers_from_global_ones(tmp_path: Path) -> None:
    facts = decoder_facts(decoder_folder(tmp_path, "gemma3_text"), max_length=32)
    assert facts.thetas == (20_000.0, 20_000.0, 500_000.0)
    assert facts.rope_scaling == (1.0, 1.0, 4.0)
    assert facts.windows == (8, 8, None)
    assert facts.max_length == 32


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "gpt2"])
def test_the_facts_turn_positions_as_the_model_does(family: str, tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path, family)
    facts = decoder_facts(folder)
    turns = {frequencies(facts, layer, np.float32).round(6).tobytes() for layer in range(facts.num_hidden_layers)}
    assert turns == {speeds.round(6).tobytes() for speeds in held_frequencies(folder)}


def held_frequencies(folder: Path) -> list[np.ndarray]:
    """How fast the model in a folder turns its pairs, by transformers."""
    return [
        tensor.numpy()
        for name, tensor in load_decoder(folder).named_buffers()
        if name.endswith("inv_freq") and "original" not in name
    ]


@pytest.mark.parametrize(("trained", "factor"), [(16, 8.0), (64, 32.0), (4096, 8.0)])
def test_pairs_are_slowed_as_in_llama_3(trained: int, factor: float, tmp_path: Path) -> None:
    scaling = {**LLAMA_3, "factor": factor, "original_max_position_embeddings": trained}
    folder = decoder_folder(tmp_path, "llama", rope_scaling=scaling, head_dim=32, max_position_embeddings=8192)
    facts = decoder_facts(folder)
    assert (len(facts.rope_factors), min(facts.rope_factors) >= 1) == (16, True)
    (held,) = held_frequencies(folder)
    np.testing.assert_allclose(frequencies(facts, 1, np.float32), held, rtol=1e-6)
    assert max(facts.rope_factors) > 1 or trained == 4096


@pytest.mark.parametrize("change", [{"factor": "much"}, {"low_freq_factor": 4.0}, {"high_freq_factor": None}])
def test_a_rule_that_makes_no_sense_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path, "llama", rope_scaling=LLAMA_3)
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**record, "rope_scaling": {**LLAMA_3, **change}}))
    with pytest.raises(ArtifactError, match=r"config.json: (rope_scaling: got .*, allowed for llama3|does not fit)"):
        decoder_facts(folder)


def test_facts_of_a_decoder_that_is_scaled_by_another_rule_hold_no_base(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    facts = decoder_facts(decoder_folder(tmp_path, "llama", rope_scaling=scaling))
    assert (facts.positions, facts.thetas, facts.rope_scaling, facts.rope_factors) == ("rope", (), (), ())


def test_a_folder_of_transformers_5_keeps_its_base(tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path, "llama")
    record = json.loads((folder / "config.json").read_text())
    assert record["rope_theta"] == 5000.0
    record["rope_parameters"] = {"rope_type": "default", "rope_theta": record.pop("rope_theta")}
    (folder / "config.json").write_text(json.dumps(record))
    assert decoder_facts(folder).thetas == (5000.0,) * 3
    turned = load_decoder(folder).model.rotary_emb.inv_freq
    torch.testing.assert_close(turned, tiny_decoder("llama").model.rotary_emb.inv_freq, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, "got model_type mamba, allowed: gemma"),
        ({"auto_map": {"AutoModelForCausalLM": "own.Model"}}, "no remote code"),
        ({"vocab_size": 200}, "cannot be loaded"),
        ({"num_hidden_layers": 4}, "are not in its weights"),
        ({"num_key_value_heads": "two"}, "does not fit together|cannot be loaded"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_words(
    change: dict[str, object], words: str, tmp_path: Path
) -> None:
    folder = decoder_folder(tmp_path)
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | change))
    with pytest.raises(ArtifactError, match=words):
        load_decoder(folder)


def test_the_names_of_a_bare_gpt2_are_understood(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = decoder_folder(tmp_path, "gpt2")  # the hub's own GPT-2 names its tensors so
    weights = folder / "model.safetensors"
    wanted = load_decoder(folder)(IDS).logits
    tensors = {path.removeprefix("transformer."): tensor for path, tensor in load_file(weights).items()}
    save_file(tensors, weights, {"format": "pt"})
    torch.testing.assert_close(load_decoder(folder)(IDS).logits, wanted, rtol=0, atol=0)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(tiny_decoder("llama").state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        load_decoder(folder)


def test_a_llama_is_made_of_its_shape(tmp_path: Path) -> None:
    shape = LlamaShape(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, intermediate_size=40,
        rope_theta=3000.0,
    )  # fmt: skip
    tiny_tokenizer(tmp_path)
    model = llama(shape, 300, 128, 0)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    save_decoder(model, tmp_path, tmp_path)
    facts = decoder_facts(tmp_path)
    assert (facts.num_attention_heads, facts.num_key_value_heads, facts.head_dim) == (3, 1, 8)
    assert (facts.max_length, facts.thetas, facts.eos_ids) == (128, (3000.0, 3000.0), (0,))


TINY = TinyGpt(
    architecture="tinygpt", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    intermediate_size=32, init="embedding",
)  # fmt: skip


def test_words_near_in_the_teacher_are_near_in_its_student() -> None:
    teacher = tiny_decoder("llama")
    with torch.no_grad():
        words = teacher.get_input_embeddings().weight
        words[7] = words[5] + 1e-3
    student = build_student(TINY, teacher, 300, 64).get_input_embeddings().weight
    spread = torch.cdist(student, student).mean()
    assert torch.dist(student[7], student[5]) < 0.05 * spread


def test_an_embedding_of_other_words_is_no_start() -> None:
    with pytest.raises(ConfigError, match="got embedding with 400 tokens, allowed: the teacher's 300"):
        build_student(TINY, tiny_decoder("llama"), 400, 64)
    with pytest.raises(ConfigError, match="allowed: random"):
        build_student(TINY, None, 400, 64, 0)


def test_a_student_of_evenly_spread_layers_holds_the_teachers_weights() -> None:
    teacher = tiny_decoder("gemma3_text")
    student = build_student(LikeTeacher(num_hidden_layers=2), teacher, 300, 64)
    assert student.config.layer_types == ["sliding_attention", "full_attention"]
    assert torch.equal(student.model.layers[1].mlp.up_proj.weight, teacher.model.layers[2].mlp.up_proj.weight)
    with pytest.raises(ConfigError, match="allowed: up to the teacher's 3"):
        build_student(LikeTeacher(num_hidden_layers=4), teacher, 300, 64)
