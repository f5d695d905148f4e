"""Language models: what distillation is worth, and what the exported files do.

    python benchmarks/tinygpt.py                    everything that is not in the results yet
    python benchmarks/tinygpt.py speed streaming    some sections, measured anew

Sections: recipe, distilled, genai, speed, large, streaming. The first runs `edgetf compress recipe=tinygpt` anew;
the others use what it made, which stands under the cache folder. Each section is written to
benchmarks/results/tinygpt.json when it is done, the tables to tinygpt.md. The section `gemma` needs a GPU and is run by
name: see parts/tinygpt_gemma.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from parts.sections import run_sections
from parts.tinygpt_distilled import distilled
from parts.tinygpt_files import genai, streaming
from parts.tinygpt_run import recipe
from parts.tinygpt_speed import large, speed
from parts.tinygpt_tables import markdown

RESULT = Path(__file__).resolve().parent / "results" / "tinygpt.json"
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-genai", "tokenizers")
SECTIONS = {
    "recipe": recipe,
    "distilled": distilled,
    "genai": genai,
    "speed": speed,
    "large": large,
    "streaming": streaming,
}


if __name__ == "__main__":
    run_sections(sys.argv[1:], SECTIONS, PACKAGES, RESULT, markdown)
