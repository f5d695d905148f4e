"""Random encoders for benchmarks/prediction.py, and their files: written once into the cache, then only read."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from edgetf.core.places import cache_folder
from edgetf.core.schemes import Format, Scheme
from edgetf.stages.probe_set import write_probe
from edgetf.stages.probe_shapes import PROBE_SCHEMES, PROBES, Architecture
from edgetf.stages.probes import SUFFIX

SETS = {"development": (1, 20), "test": (2, 40)}  # seed and count; formulas were chosen on the development set alone
FAMILIES = ("bert", "bert", "roberta", "distilbert")
SHORTEST, LONGEST = 16, 256


def architectures(name: str) -> list[Architecture]:
    """The probes, or a set of random encoders that shares none with the probes or another set."""
    if name == "probes":
        return list(PROBES)
    taken = {each.name for each in PROBES}
    for other, (seed, count) in SETS.items():
        found = _draw(random.Random(seed), count, taken)
        if other == name:
            return found
        taken |= {each.name for each in found}
    raise ValueError(name)


def _draw(dice: random.Random, count: int, taken: set[str]) -> list[Architecture]:
    """1 to 12 layers, widths 128 to 768, 16 to 256 tokens (even in their logarithm)."""
    found: list[Architecture] = []
    while len(found) < count:
        width = 64 * dice.randint(2, 12)
        layers, head = dice.randint(1, 12), dice.choice((32, 64))
        length = round(SHORTEST * (LONGEST / SHORTEST) ** dice.random())
        ffn = width * dice.randint(1, 4)
        made = Architecture(layers, width, width // head, ffn, (length,), dice.choice(FAMILIES))
        if made.name not in taken | {each.name for each in found}:
            found.append(made)
    return found


def files_of(architecture: Architecture, model_format: Format) -> dict[Scheme, Path]:
    """Its files by scheme, written if they are not in the cache."""
    folder = cache_folder() / "benchmark-prediction" / f"{architecture.name}-{_digest(architecture)}"
    files = {scheme: folder / f"{architecture.name}-{scheme}{SUFFIX[model_format]}" for scheme in PROBE_SCHEMES}
    if all(path.is_file() for path in files.values()):
        return files
    part = folder.with_name(f"{folder.name}-{model_format}.part")
    folder.mkdir(parents=True, exist_ok=True)
    for scheme, path in write_probe(architecture, model_format, part).items():
        path.rename(files[scheme])
    part.rmdir()
    return files


def _digest(architecture: Architecture) -> str:
    return hashlib.sha256(repr(architecture).encode()).hexdigest()[:8]
