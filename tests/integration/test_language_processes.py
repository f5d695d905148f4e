"""Two processes train a language model as one does: each takes its rows of a batch; the stored answers are shared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_decoders import SENTENCES, decoder_folder

from edgetf.core.artifact import Spec, seal
from edgetf.models.decoders.facts import decoder_facts

pytestmark = pytest.mark.slow
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2",
          "--main_process_port", "0"]  # fmt: skip
SCRIPT = '''
"""A distillation from the sealed teacher in argv[1] into argv[2]."""
import json, sys
from pathlib import Path
from edgetf.config.language.recipe import LanguageRecipe
from edgetf.core.artifact import load, seal
from edgetf.data.corpus.documents import Corpus
from edgetf.stages.language import distill
from edgetf.stages.language.context import LanguageContext
from edgetf.training.processes import together

def work():
    recipe = LanguageRecipe.model_validate(json.loads(Path(sys.argv[3]).read_text()))
    texts = tuple(json.loads(Path(sys.argv[4]).read_text()))
    teacher = load(Path(sys.argv[1]))
    corpus = Corpus(texts[10:], texts[:5], texts[5:10], "tiny")
    context = LanguageContext(recipe, corpus, lambda *words: None, lambda words: None, teacher)
    seal(Path(sys.argv[2]), stage="distill", key="k", parents=[], made={},
         write=lambda out: distill.run(recipe.distill(), teacher, context, out))
    return 0

if __name__ == "__main__":
    sys.exit(together(work))
'''


def test_two_give_what_one_gives(tmp_path: Path) -> None:
    """Batches of five, which do not split evenly, in pairs; the student is Llama-shaped, where nothing is dropped."""

    def write(out: Path) -> tuple[Spec, float]:
        decoder_folder(out)
        details = {"decoder": decoder_facts(out).to_json()}
        return Spec(kind="torch", model_file="model.safetensors", details=details), 0.0

    seal(tmp_path / "teacher", stage="teacher", key="k", parents=[], made={}, write=write)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
             "intermediate_size": 32}  # fmt: skip
    stage = {"stage": "distill", "steps": 6, "batch_size": 5, "gradient_accumulation": 2, "top_k": 8, "threads": 1,
             "learning_rate": 0.005, "precision": "fp32"}  # fmt: skip
    recipe = {
        "name": "tiny", "task": "language_modeling", "teacher": {"source": "x"},
        "data": {"sources": ["x"], "max_length": 16}, "student": {**shape, "architecture": "tinygpt"},
        "stages": [stage, {"stage": "export"}],
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "texts.json").write_text(json.dumps([f"{text} {text}" for text in SENTENCES]))
    (tmp_path / "work.py").write_text(SCRIPT)
    for name, launch in (("one", []), ("two", LAUNCH)):
        files = ["work.py", "teacher", name, "recipe.json", "texts.json"]
        ran = subprocess.run(
            [sys.executable, *launch, *(str(tmp_path / file) for file in files)],
            capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
            env={**os.environ, "EDGETF_CACHE": str(tmp_path / f"cache-{name}"), "ACCELERATE_USE_CPU": "true",
                 "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr[-3000:]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=2e-3)
