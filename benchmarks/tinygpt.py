"""Language models: what distillation is worth, and what the exported files do.

    python benchmarks/tinygpt.py                    everything that is not in the results yet
    python benchmarks/tinygpt.py speed streaming    some sections, measured anew

Sections: recipe, distilled, genai, streaming, gemma, speed, recovered. `recipe` runs `edgetf compress recipe=tinygpt`,
`gemma` makes the files of Gemma 3 270M with a pruned vocabulary; distilled, genai, streaming and speed use what these
two made, which stands under the cache folder. `recovered` is recipe `tinygpt_gemma`, whose training takes over an hour.
Each section is written to benchmarks/results/tinygpt.json when it is done, the tables to tinygpt.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from parts.sections import run_sections
from parts.tinygpt_distilled import distilled
from parts.tinygpt_files import genai, streaming
from parts.tinygpt_run import gemma, recipe, recovered
from parts.tinygpt_speed import speed
from parts.tinygpt_tables import markdown

RESULT = Path(__file__).resolve().parent / "results" / "tinygpt.json"
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-genai", "tokenizers")
SECTIONS = {
    "recipe": recipe,
    "distilled": distilled,
    "genai": genai,
    "streaming": streaming,
    "gemma": gemma,
    "speed": speed,
    "recovered": recovered,
}


if __name__ == "__main__":
    run_sections(sys.argv[1:], SECTIONS, PACKAGES, RESULT, markdown)
