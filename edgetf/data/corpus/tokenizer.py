"""A byte-level BPE tokenizer made of the training documents (Sennrich et al. 2016; on bytes, Radford et al. 2019).

It has one special token, which ends a document and begins one. Any text can be written with it, and read back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edgetf.core.errors import ConfigError, needs

END, END_ID = "<|endoftext|>", 0


def train_tokenizer(documents: Sequence[str], vocab_size: int, out: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json of so many tokens into a folder.

    Raises:
        ConfigError: the documents have too little text for so many tokens.
    """
    with needs("compress"):
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer, length=len(documents))
    got = tokenizer.get_vocab_size()
    if got < vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size: got {vocab_size}, the training documents give {got} tokens; set it to that, or "
            "give more documents"
        )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": END,
        "eos_token": END,
        "unk_token": END,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
