"""A pruned tokenizer gives in JavaScript, in the library behind transformers.js, the very ids of Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from made_tokenizers import CORPUS, NEVER_COUNTED, byte_level_bpe, minilm, trained_wordpiece

from edgetf.models.vocabulary import choose_pieces, count_pieces, prune_tokenizer

pytestmark = pytest.mark.slow
tokenizers = pytest.importorskip("tokenizers", reason="needs edgetf[ort]")
PACKAGE = "@huggingface/tokenizers@0.2.0"
PROGRAM = """
import fs from "node:fs";
import { Tokenizer } from "@huggingface/tokenizers";
const [folder, texts] = process.argv.slice(2);
const read = (path) => JSON.parse(fs.readFileSync(path, "utf8"));
const tokenizer = new Tokenizer(read(`${folder}/tokenizer.json`), read(`${folder}/tokenizer_config.json`));
console.log(JSON.stringify(read(texts).map((text) => tokenizer.encode(text).ids)));
"""
TEXTS = [
    *CORPUS[-14:],  # words that were counted, the last two with more than words
    *NEVER_COUNTED,
    "",
    " ",
    "  leading and   many   spaces  ",
    "a\tb\nc\r\n d",
    "no\u00a0break zero\u200bwidth line\u2028ends",
    "x" * 150,
    "don't we'll I'M 'S it’s THEY'RE",
    "…—–„quoted“ «so» ‚or‘ ¿so? ¡no!",
    "1,234.56 €100 £5 50% 3/4 ½ №5 2²",
    "foo_bar-baz@qux.com http://a.b/c?d=e&f#g",
    "Ünïcödé ÀÉÎÕÜ ñ ß ﬁ Ⅷ æ Œ ø ł",
    "e\u0301 cafe\u0301 n\u0303 A\u030a",
    "İstanbul I ı i ſ",
    "ΑΒΓ ς σ Σ Ελλάδα",
    "Привет, мир! Ёлка й",
    "שלום עולם",
    "مرحبا بالعالم",
    "हिन्दी पाठ",
    "ภาษาไทย",
    "東京は晴れです。今日は",
    "中文，标点。（括号）“引号”",
    "한국어 텍스트 각",
    "𝒜𝓁𝑔 𐍈 𠀀",
    "😀 👍🏽 ❤️ 🏳️‍🌈 👩‍👩‍👧 🇩🇪",
    "goal😀goal shares👍",
    "ǅ ǆ ﷺ ㎏ ①",
    "\x00\x07control \x7f",
    "\ufffd replacement \ufeffmark",
    "[MASK] in [CLS] a [SEP] text [UNK]",
    "<mask> and </s> or <s>text",
    "[ MASK ] < mask >",
    "bank-bank bank_bank bank.bank BANK",
    "##ing ##a # a",
    "The player played; the weathermen’s PLAYERS play",
    "!!! ??? ... ,,, ;;; :::",
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the JavaScript library and a program that encodes with it."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}, which is not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true}')
    (folder / "encode.mjs").write_text(PROGRAM)
    words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip().splitlines()[0]}")
    return folder


def javascript_ids(node: Path, folder: Path) -> list[list[int]]:
    texts = node / "texts.json"
    texts.write_text(json.dumps(TEXTS), encoding="utf-8")
    words = ["node", "encode.mjs", str(folder), str(texts)]
    done = subprocess.run(words, cwd=node, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ids: list[list[int]] = json.loads(done.stdout)
    return ids


@pytest.mark.parametrize("counted", [CORPUS, ["goal"]], ids=["many words stay", "hardly any stays"])
@pytest.mark.parametrize("kind", ["wordpiece", "minilm", "roberta", "template"])
def test_gives_the_same_ids_as_in_python(node: Path, tmp_path: Path, kind: str, counted: list[str]) -> None:
    folder, out = tmp_path / "whole", tmp_path / "pruned"
    match kind:
        case "minilm":
            folder = minilm()
        case "wordpiece":
            trained_wordpiece(folder)
        case _:
            byte_level_bpe(folder, kind)
    out.mkdir()
    prune_tokenizer(folder, out, choose_pieces(folder, count_pieces(folder, counted), None))
    ours: Any = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    ours.no_truncation()
    ours.no_padding()
    for text, theirs in zip(TEXTS, javascript_ids(node, out), strict=True):
        assert theirs == ours.encode(text).ids, text
