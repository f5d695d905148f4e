"""What the exported files do: the same tokens in onnxruntime-genai, and 20,000 tokens through a window of 512."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from parts.tinygpt_run import RUN, VARIANTS, Tree, model_of

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.load import load_recipe
from edgetf.data.corpus.documents import load_corpus
from edgetf.runtime.decode.arrays import packed, unpacked
from edgetf.runtime.decode.generate import generate
from edgetf.targets.local import ask_runner

NEW_TOKENS = 64
STREAM, WINDOW, PASSAGE = 20_000, 512, 2_500


def genai() -> Tree:
    """Prompts whose greedy tokens, 64 or up to the end of text, are the same in onnxruntime-genai and in edgetf.

    onnxruntime-genai gives the tokens before the end of text, so that it is left out here too.
    """
    found: Tree = {}
    for variant in VARIANTS:
        model, golden = model_of(variant), read_prompts(RUN / variant)
        session = model.open(1)
        ends = model.decoder.eos_ids
        written = [generate(session, prompt, max_new_tokens=NEW_TOKENS) for prompt in golden]
        ours = [[token for token in tokens if token not in ends] for tokens in written]
        theirs = [genai_tokens(RUN / variant, prompt) for prompt in golden]
        equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
        found[variant] = {"prompts": len(golden), "tokens": sum(map(len, ours)), "equal": equal}
    return found


def read_prompts(folder: Path) -> list[list[int]]:
    """Token ids of the prompts that a variant's golden answers are for."""
    lines = (folder / "golden.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["ids"] for line in lines]


def genai_tokens(folder: Path, prompt: list[int]) -> list[int]:
    """The greedy tokens of onnxruntime-genai, 64 or those before the end of text."""
    import onnxruntime_genai as og

    parameters = og.GeneratorParams(model := og.Model(str(folder)))
    parameters.set_search_options(do_sample=False, max_length=len(prompt) + NEW_TOKENS)
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.array([prompt], dtype=np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return list(map(int, generator.get_sequence(0)[len(prompt) :]))


def streaming() -> Tree:
    """A passage of test text at the start of a stream, and again behind all the rest, through one window.

    The same tokens are scored both times, so that only what came before them differs. A passage's first `WINDOW` tokens
    are left out, as at the start they have less before them.
    """
    found: Tree = {}
    for variant in VARIANTS:
        model = model_of(variant)
        ids = stream_of(model.codec().ids("\n\n".join(test_documents())))
        request = {"do": "score_stream", "model": model.to_json(), "threads": 1, "arrays": packed({"ids": ids}),
                   "window": {"size": WINDOW, "sinks": 4}}  # fmt: skip
        answer = ask_runner(request)
        nll = unpacked(answer["arrays"])["nll"]
        first = float(np.exp(nll[WINDOW:PASSAGE].mean()))
        again = float(np.exp(nll[-(PASSAGE - WINDOW) :].mean()))
        held = [size for _, size in answer["rss_bytes"]]
        found[variant] = {
            "tokens": len(ids), "window": WINDOW, "perplexity_at_start": first, "perplexity_at_end": again,
            "ratio": again / first, "rss_start_bytes": held[0], "rss_end_bytes": held[-1], "rss_most_bytes": max(held),
            "tokens_per_s": len(ids) / answer["seconds"],
        }  # fmt: skip
    return found


def stream_of(ids: np.ndarray) -> np.ndarray:
    """20,000 tokens that end with those they begin with."""
    if len(ids) < STREAM - PASSAGE:
        raise SystemExit(f"the test documents have {len(ids)} tokens, wanted {STREAM - PASSAGE}")
    return np.concatenate([ids[: STREAM - PASSAGE], ids[:PASSAGE]])


def test_documents() -> list[str]:
    """Those of the recipe, which no training saw."""
    recipe = load_recipe("tinygpt")
    if not isinstance(recipe, LanguageRecipe):
        raise TypeError("tinygpt is no language recipe")
    return list(load_corpus(recipe.data, recipe.seed).test)
