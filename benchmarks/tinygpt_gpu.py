"""Distilled from Gemma 3 270M against trained alone, on a GPU: the same student, texts, steps and seeds.

    python benchmarks/tinygpt_gpu.py

The teacher is Gemma with 8,192 of its tokens, the folder `1-vocabulary` of a run of
`edgetf compress recipe=tinygpt_gemma vocabulary.size=8192`; $EDGETF_GPU_TEACHER says where, $EDGETF_GPU_TEXTS another
source of documents than BBC News. The student is of Llama's shape. Each training is written to
benchmarks/results/tinygpt_gpu.json when it is done, and is not run again; without a GPU nothing is run.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.load import load_recipe
from edgetf.core.artifact import Artifact, load
from edgetf.core.decoder import DecoderFacts
from edgetf.core.made import machine, made_with
from edgetf.data.corpus.blocks import Blocks, pack
from edgetf.data.corpus.documents import Corpus, load_corpus
from edgetf.models.decoders.checkpoint import load_decoder
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.distill import run as distill
from edgetf.training.language.perplexity import block_losses, perplexity

RESULT = Path(__file__).resolve().parent / "results" / "tinygpt_gpu.json"
TEXTS = os.environ.get("EDGETF_GPU_TEXTS", "bbc_news")
TEACHER = Path(os.environ.get("EDGETF_GPU_TEACHER", "runs/tinygpt_gemma/1-vocabulary"))
SEEDS = (0, 1, 2)
KINDS = {"distilled": (), "alone": ("distill.teacher=0", "distill.labels=1")}
STUDENT = {
    "architecture": "tinygpt", "hidden_size": 384, "num_hidden_layers": 10, "num_attention_heads": 6,
    "num_key_value_heads": 2, "intermediate_size": 1024, "init": "embedding",
}  # fmt: skip
TRAINING = ("distill.steps=1500", "distill.batch_size=32", "distill.learning_rate=1e-3", "distill.teacher=0.9",
            "distill.labels=0.1", "distill.evaluate_every=150")  # fmt: skip
Tree = dict[str, Any]


def recipe_of(kind: str, seed: int) -> LanguageRecipe:
    """The recipe of one training."""
    words = [f"student={json.dumps(STUDENT)}", "prune=null", f"data.sources={json.dumps([TEXTS])}", f"seed={seed}"]
    recipe = load_recipe("tinygpt_gemma", [*words, *TRAINING, *KINDS[kind]])
    if not isinstance(recipe, LanguageRecipe):
        raise TypeError("tinygpt_gemma is no language recipe")
    return recipe


def one(kind: str, seed: int, teacher: Artifact) -> Tree:
    """Train, and take the perplexity of the checkpoint on the test documents."""
    recipe, began = recipe_of(kind, seed), time.monotonic()
    corpus = load_corpus(recipe.data, seed)
    config = recipe.distill()
    if config is None:
        raise TypeError("the recipe has no distill stage")
    context = LanguageContext(recipe, corpus, lambda *words: None, print, teacher)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        spec, seconds = distill(config, teacher, context, out)
        found = tested(out, recipe, corpus)
    return {
        "kind": kind, "seed": seed, "params": spec.params, "perplexity": found, "training_seconds": seconds,
        "seconds": time.monotonic() - began, "best_step": spec.details["training"]["best_step"],
    }  # fmt: skip


def tested(folder: Path, recipe: LanguageRecipe, corpus: Corpus) -> Tree:
    """Perplexity of a checkpoint on the test documents, in float32."""
    facts = DecoderFacts.from_json(json.loads((TEACHER / "manifest.json").read_text())["details"]["decoder"])
    data = recipe.data
    blocks: Blocks = pack(corpus.test, TEACHER, facts, data.max_length, data.max_test_tokens)
    model = load_decoder(folder).to("cuda")
    return perplexity(block_losses(model, blocks), data.max_length - 1, "perplexity").to_json()


def markdown(results: Tree) -> str:
    """The table, with its command, GPU and commit."""
    values = {kind: [row["perplexity"]["value"] for row in results["rows"] if row["kind"] == kind] for kind in KINDS}
    lines = ["| | test perplexity by seed | mean ± sd | best step of 1,500 |", "|--|--|--|--|"]
    for kind, found in values.items():
        best = ", ".join(str(row["best_step"]) for row in results["rows"] if row["kind"] == kind)
        spread = f"{mean(found):.2f} ± {stdev(found):.2f}" if len(found) > 1 else "–"
        lines.append(f"| {kind} | {', '.join(f'{value:.2f}' for value in found)} | {spread} | {best} |")
    pairs = zip(values["distilled"], values["alone"], strict=False)
    ratios = ", ".join(f"{a / b:.3f}" for a, b in pairs)
    made, first = results["made"], results["rows"][0]
    lines += [
        "",
        f"Student {first['params']:,} parameters, teacher {results['teacher']['params']:,} with perplexity "
        f"{results['teacher']['perplexity']['value']:.2f}; {first['perplexity']['n']:,} test tokens; weights of the "
        f"best dev perplexity. Distilled over alone at equal seeds: {ratios}.",
        f"`python benchmarks/tinygpt_gpu.py`; {results['gpu']}, torch {made['versions']['torch']}, "
        f"commit {made['commit'] or 'not known'}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """What is not in the results yet, as far as there is a GPU."""
    if not torch.cuda.is_available():
        print("tinygpt_gpu: not measured; there is no GPU")
        return
    results: Tree = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"rows": []}
    teacher = load(TEACHER)
    if "teacher" not in results:
        recipe = recipe_of("distilled", 0)
        results |= {
            "gpu": torch.cuda.get_device_name(),
            "made": made_with("torch", "transformers"),
            "machine": machine(),
        }
        found = tested(TEACHER, recipe, load_corpus(recipe.data, 0))
        results["teacher"] = {"params": teacher.spec.params, "perplexity": found}
    known = {(row["kind"], row["seed"]) for row in results["rows"]}
    for seed in SEEDS:
        for kind in KINDS:
            if (kind, seed) not in known:
                results["rows"].append(one(kind, seed, teacher))
                RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                RESULT.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    print(markdown(results))


if __name__ == "__main__":
    main()
